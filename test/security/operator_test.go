// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/test/world"
)

// change is a change of the product that is built into a binary: a text in a file, and its replacement.
type change struct {
	file, find, replace string
}

// scratch is the folder of the binary that several tests run.
var scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "rekey-security-") })

func removeScratch() {
	if dir, err := scratch(); err == nil {
		_ = os.RemoveAll(dir)
	}
}

var building sync.Mutex

// shipped returns the operator's binary without changes. The first test that needs it builds it.
func shipped(t *testing.T) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	dir, err := scratch()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "rekey")
	if _, err := os.Stat(binary); err != nil {
		buildIn(t, dir, "rekey")
	}
	return binary
}

// build builds the operator's binary, with changes that never reach the working tree.
func build(t *testing.T, name string, changes ...change) string {
	t.Helper()
	return buildIn(t, t.TempDir(), name, changes...)
}

func buildIn(t *testing.T, dir, name string, changes ...change) string {
	t.Helper()
	texts := map[string]string{}
	for _, c := range changes {
		path := filepath.Join(world.Root(), c.file)
		if _, ok := texts[path]; !ok {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(text)
		}
		if strings.Count(texts[path], c.find) != 1 {
			t.Fatalf("%s does not contain this text exactly once, so the test cannot change it: %s", c.file, c.find)
		}
		texts[path] = strings.Replace(texts[path], c.find, c.replace, 1)
	}
	var lines []string
	for path, text := range texts {
		changed := filepath.Join(dir, strconv.Itoa(len(lines))+".go")
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%q: %q", path, changed))
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, []byte(`{"Replace": {`+strings.Join(lines, ", ")+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, name)
	command := exec.Command("go", "build", "-ldflags", "-w", "-overlay", overlay, "-o", binary, ".")
	command.Dir = world.Root()
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("building the operator: %v\n%s", err, out)
	}
	return binary
}

// operator is a running binary.
type operator struct {
	c              *cluster
	process        *exec.Cmd
	dir            string
	metrics, probe string
	ended          chan error
	stdout, stderr *book
	// scraped holds its metrics, of each scrape.
	scraped *book
	// place holds what /proc and the disk showed while it ran.
	place *book
	stop  func()
}

// book is a text that grows.
type book struct {
	mu   sync.Mutex
	text strings.Builder
	seen map[string]bool
}

// Write implements io.Writer.
func (b *book) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(text)
}

// note appends a line unless it is already there.
func (b *book) note(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen == nil {
		b.seen = map[string]bool{}
	}
	if !b.seen[line] {
		b.seen[line] = true
		b.text.WriteString(line + "\n")
	}
}

// String returns the whole text.
func (b *book) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// run starts the binary as the operator's service account, with the most verbose log. environment is added to its minimal
// environment; name is its argv[0].
func (c *cluster) run(binary, name string, environment ...string) *operator {
	c.t.Helper()
	o := &operator{c: c, dir: c.t.TempDir(), metrics: freePort(c.t), probe: freePort(c.t), ended: make(chan error, 1), stdout: &book{}, stderr: &book{}, scraped: &book{}, place: &book{}}
	arguments := []string{"--kubeconfig", c.accountConfig(), "--operator-namespace", operatorNamespace, "--allow-loopback", "--log-level", "trace", "--leader-elect",
		"--metrics-bind-address", o.metrics, "--health-probe-bind-address", o.probe}
	if c.folder == "namespaced" {
		arguments = append(arguments, "--watch-namespaces="+tenant)
	}
	o.process = exec.Command(binary, arguments...)
	o.process.Args[0] = name
	o.process.Dir = o.dir
	o.process.Env = append([]string{"TMPDIR=" + o.dir, "HOME=" + o.dir, "PATH=/usr/bin:/bin"}, environment...)
	o.process.Stdout, o.process.Stderr = o.stdout, o.stderr
	o.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := o.process.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() { o.ended <- o.process.Wait() }()
	watching := make(chan struct{})
	go o.look(watching)
	o.stop = sync.OnceFunc(func() {
		close(watching)
		_ = o.process.Process.Signal(syscall.SIGTERM)
		if err := <-o.ended; err != nil {
			c.t.Errorf("the operator exited with %v", err)
		}
	})
	c.t.Cleanup(o.stop)
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Logf("the operator's errors:\n%s", o.complaints())
		}
	})
	c.until("waiting for the operator", o.ready)
	return o
}

// complaints returns the last errors that the operator has logged, and its output if it could not log.
func (o *operator) complaints() string {
	var out []string
	for line := range strings.SplitSeq(o.stdout.String()+o.stderr.String(), "\n") {
		if strings.HasPrefix(line, `{"level":"error"`) || strings.HasPrefix(line, "rekey:") {
			out = append(out, line[:min(len(line), 600)])
		}
	}
	return strings.Join(out[max(0, len(out)-30):], "\n")
}

func (o *operator) ready() error {
	select {
	case err := <-o.ended:
		o.ended <- err
		o.c.t.Fatalf("the operator exited: %v\n%s%s", err, o.stdout, o.stderr)
	default:
	}
	answer, err := http.Get("http://" + o.probe + "/readyz")
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz returns %s", answer.Status)
	}
	return nil
}

// look records what other users of the machine could see: arguments, environment, and the files that the process has open or
// creates.
func (o *operator) look(until chan struct{}) {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		o.lookOnce()
		select {
		case <-until:
			return
		case <-tick.C:
		}
	}
}

func (o *operator) lookOnce() {
	proc := filepath.Join("/proc", strconv.Itoa(o.process.Process.Pid))
	for _, name := range []string{"cmdline", "environ"} {
		text, _ := os.ReadFile(filepath.Join(proc, name))
		o.place.note(name + ": " + strings.ReplaceAll(string(text), "\x00", " "))
	}
	files, _ := filepath.Glob(filepath.Join(proc, "fd", "*"))
	for _, file := range files {
		target, err := os.Readlink(file)
		if err != nil {
			continue
		}
		if info, err := os.Stat(target); err == nil && info.Mode().IsRegular() {
			text, _ := os.ReadFile(target)
			o.place.note("open file " + target + ": " + string(text))
		}
	}
	_ = filepath.WalkDir(o.dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			text, _ := os.ReadFile(path)
			o.place.note("file " + path + ": " + string(text))
		}
		return nil
	})
}

// kill kills the process, as a failing node does.
func (o *operator) kill() {
	_ = o.process.Process.Kill()
	<-o.ended
	o.ended <- nil
	o.stop()
}

// scrape reads the metrics as Prometheus does: over TLS, with the token of an authorized service account.
func (o *operator) scrape() string {
	t := o.c.t
	t.Helper()
	account := metav1.ObjectMeta{Namespace: operatorNamespace, Name: "prometheus"}
	outsider := metav1.ObjectMeta{Namespace: operatorNamespace, Name: "outsider"}
	o.c.create(&corev1.ServiceAccount{ObjectMeta: outsider}, &corev1.ServiceAccount{ObjectMeta: account}, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus-reads-rekey"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "rekey-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
	})
	// The operator creates its own certificate at start.
	scraper := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer scraper.CloseIdleConnections()
	ask := func(token string) (int, string, error) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+o.metrics+"/metrics", nil)
		if err != nil {
			return 0, "", err
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := scraper.Do(request)
		if err != nil {
			return 0, "", err
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text), err
	}
	for what, token := range map[string]string{"without a token": "", "with an invalid token": "made-up"} {
		if code, text, err := ask(token); err != nil || code != http.StatusUnauthorized || strings.Contains(text, "rekey_") {
			t.Errorf("metrics %s: status %d, %v; want 401", what, code, err)
		}
	}
	if code, _, err := ask(o.c.token(outsider.Namespace, outsider.Name)); err != nil || code != http.StatusForbidden {
		t.Errorf("metrics for an account without the right: status %d, %v; want 403", code, err)
	}
	var out string
	o.c.until("scraping the metrics", func() error {
		code, text, err := ask(o.c.token(account.Namespace, account.Name))
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		out = text
		return err
	})
	o.scraped.note(out)
	return out
}
