// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package junk

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/test/world"
)

// binary is the shipped binary, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "junk")
	if err == nil {
		binary = filepath.Join(dir, "rekey")
		build := exec.Command("go", "build", "-o", binary, ".")
		build.Dir, build.Stderr = world.Root(), os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the operator:", err)
		os.Exit(1)
	}
	code := world.Main(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// operator is the operator's process, with the limits of its Deployment.
type operator struct {
	*testing.T
	command *exec.Cmd
	ended   chan struct{}
	log     string
}

func startOperator(t *testing.T) *operator {
	t.Helper()
	probe := freeAddress(t)
	o := &operator{T: t, ended: make(chan struct{}), log: filepath.Join(t.TempDir(), "log")}
	o.command = exec.CommandContext(context.WithoutCancel(t.Context()), binary, "--kubeconfig", kubeconfig(t), "--operator-namespace=default", "--metrics-bind-address=0", "--health-probe-bind-address="+probe)
	log, err := os.Create(o.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	o.command.Stdout, o.command.Stderr = log, log
	o.command.Env = append(os.Environ(), "GOMEMLIMIT="+shipped(t))
	o.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := o.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = o.command.Wait()
		close(o.ended)
	}()
	t.Cleanup(o.stop)
	await(t, 2*time.Minute, "starting the operator", func(ctx context.Context) error {
		ask, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+probe+"/readyz", nil)
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(ask)
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("it returns %s", answer.Status)
		}
		return nil
	})
	return o
}

// shipped returns the Deployment's GOMEMLIMIT, and checks that its memory limit equals the one in this test.
func shipped(t *testing.T) string {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(world.Root(), "config", "manager", "deployment.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var deployment appsv1.Deployment
	if err := yaml.Unmarshal(manifest, &deployment); err != nil {
		t.Fatal(err)
	}
	container := deployment.Spec.Template.Spec.Containers[0]
	if want := resource.NewQuantity(memoryLimit<<10, resource.BinarySI); !container.Resources.Limits.Memory().Equal(*want) {
		t.Fatalf("the Deployment's limit is %s, but this test uses %s", container.Resources.Limits.Memory(), want)
	}
	for _, variable := range container.Env {
		if variable.Name == "GOMEMLIMIT" {
			return variable.Value
		}
	}
	t.Fatal("the Deployment sets no GOMEMLIMIT")
	return ""
}

func (o *operator) stop() {
	select {
	case <-o.ended:
		return
	default:
	}
	_ = o.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-o.ended:
	case <-time.After(time.Minute):
		_ = o.command.Process.Kill()
		o.Error("the operator did not exit within a minute")
	}
}

// memory reads a line of /proc/PID/status in KiB: VmRSS is the current resident memory, VmHWM its peak (proc(5)).
func (o *operator) memory(name string) int {
	o.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.command.Process.Pid))
	if err != nil {
		said, _ := os.ReadFile(o.log)
		o.Fatalf("the operator has exited (%v): %s", err, said[max(0, len(said)-2000):])
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			number, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				o.Fatal(err)
			}
			return number
		}
	}
	o.Fatalf("/proc does not show %s", name)
	return 0
}

// settled returns the memory in use when the operator is idle.
func (o *operator) settled() int {
	o.Helper()
	least := o.memory("VmRSS")
	for range 5 {
		time.Sleep(time.Second)
		least = min(least, o.memory("VmRSS"))
	}
	return least
}

// checkMemory checks that the peak was below the limit, and that memory use returns to about what it was before. Garbage is
// collected when there is work again, and returns to the kernel gradually.
func (o *operator) checkMemory(when string, before int) {
	o.Helper()
	started := time.Now()
	await(o.T, 4*time.Minute, when+": returning memory to the kernel", func(context.Context) error {
		if now := o.memory("VmRSS"); now > before+slack {
			return fmt.Errorf("it uses %d KiB, and used %d KiB before", now, before)
		}
		return nil
	})
	most := o.memory("VmHWM")
	o.Logf("%s: %d KiB before, %d KiB after %s, %d KiB at most", when, before, o.memory("VmRSS"), time.Since(started).Round(time.Second), most)
	if most > memoryLimit {
		o.Errorf("%s: it used up to %d KiB, but its limit is %d KiB", when, most, memoryLimit)
	}
}

// kubeconfig writes a kubeconfig file for the API server of the tests.
func kubeconfig(t *testing.T) string {
	t.Helper()
	config := rest.CopyConfig(world.APIServer())
	all := clientcmdapi.NewConfig()
	all.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://" + strings.TrimPrefix(config.Host, "https://"), CertificateAuthorityData: config.CAData}
	all.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: config.BearerToken}
	all.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	all.CurrentContext = "x"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*all, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// await calls ask until it returns no error.
func await(t *testing.T, patience time.Duration, what string, ask func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-tick.C:
		}
	}
}
