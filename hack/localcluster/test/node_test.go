// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/hack/localcluster/internal/cluster"
	"github.com/rekey/rekey/hack/localcluster/internal/doctor"
	"github.com/rekey/rekey/hack/localcluster/internal/image"
)

// TestNode runs pods if this machine can. If not, the launcher must report
// immediately what is missing and what still works.
func TestNode(t *testing.T) {
	t.Parallel()
	// The name is longer than a socket's path may be.
	dir := filepath.Join(t.TempDir(), "a-folder-whose-name-leaves-no-room-for-the-sockets-of-a-node")
	if missing := doctor.Missing(doctor.Node()); len(missing) > 0 {
		refusal(t, dir, missing)
		return
	}
	state := up(t, dir, "--level", "node")
	mustRun(t, "load", "--dir", dir, probeImage(t))
	pod := startProbe(t, state)

	t.Run("a changed Secret reaches the pod", func(t *testing.T) {
		if got, err := ask("http://" + pod + "/value"); got != "one" {
			t.Fatalf("the pod sees %q (%v), want the Secret's value", got, err)
		}
		kubectl(t, state, "", "patch", "secret", "probe", "--patch", `{"stringData":{"value":"two"}}`)
		took := eventually(t, time.Minute, "the pod sees the new value", func() bool {
			got, _ := ask("http://" + pod + "/value")
			return got == "two"
		})
		t.Logf("the pod saw the new value after %s", took.Round(100*time.Millisecond))
	})
	t.Run("a pod reaches Services, the API server and this machine", func(t *testing.T) {
		host := hostServer(t, state.Node.HostIP)
		for target, want := range map[string]string{
			"http://probe/value":                           "two",
			"http://probe.default.svc.cluster.local/value": "two",
			"https://kubernetes.default.svc/version":       `"gitVersion": "v1.`,
			host:                                           "the host",
		} {
			// kube-proxy writes its rules a moment after the pod is ready.
			last := ""
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("from the pod, %s last returned %s", target, last)
				}
			})
			eventually(t, 20*time.Second, fmt.Sprintf("from the pod, %s returns %q", target, want), func() bool {
				got, err := ask("http://" + pod + "/fetch?url=" + url.QueryEscape(target))
				last = fmt.Sprintf("%q (%v)", got, err)
				return err == nil && strings.Contains(got, want)
			})
		}
		if got, _ := ask("http://" + pod + "/fetch?url=" + url.QueryEscape("http://nobody.default.svc/")); !strings.Contains(got, "no such host") {
			t.Errorf("a Service that does not exist returns %q, want an unknown name", got)
		}
	})
	t.Run("this machine reaches Services", func(t *testing.T) {
		ip := kubectl(t, state, "", "get", "service", "probe", "--output=jsonpath={.spec.clusterIP}")
		if got, err := ask("http://" + ip + "/value"); got != "two" {
			t.Errorf("the Service returns %q (%v)", got, err)
		}
	})
	t.Run("logs and exec work", func(t *testing.T) {
		if got := kubectl(t, state, "", "logs", "deployment/probe"); !strings.Contains(got, "probe is ready") {
			t.Errorf("the pod's log is %q", got)
		}
		if got := kubectl(t, state, "", "exec", "deployment/probe", "--", "/probe", "echo", "hello"); got != "hello\n" {
			t.Errorf("a command in the pod prints %q", got)
		}
	})
	t.Run("a second start replaces what a killed launcher left", func(t *testing.T) {
		survivesKill(t, dir, state, pod)
	})
}

func refusal(t *testing.T, dir string, missing []doctor.Check) {
	t.Helper()
	got := run(t, "up", "--level", "node", "--dir", dir)
	if got.code == 0 || !strings.Contains(got.log, "what still works: --level control") {
		t.Fatalf("exit status %d, want an error that names what still works:\n%s", got.code, got.log)
	}
	for _, check := range missing {
		if !strings.Contains(got.log, check.Name) {
			t.Errorf("the error does not name %q:\n%s", check.Name, got.log)
		}
	}
}

func survivesKill(t *testing.T, dir string, first cluster.State, pod string) {
	t.Helper()
	kill(t, first)
	eventually(t, 20*time.Second, "the kernel kills the node and its pods", func() bool {
		_, err := ask("http://" + pod + "/value")
		return err != nil && len(running(first)) == 0
	})
	second := up(t, dir, "--level", "node")
	mustRun(t, "load", "--dir", dir, probeImage(t))
	pod = startProbe(t, second)
	if got, err := ask("http://" + pod + "/value"); got != "one" {
		t.Errorf("a pod of the second start sees %q (%v), want the Secret's value", got, err)
	}
	mustRun(t, "down", "--dir", dir)
	if left := running(second); len(left) > 0 {
		t.Errorf("still running after down: %v", left)
	}
	if got := leftovers(t, dir, second); len(got) > 0 {
		t.Errorf("left after down: %v", got)
	}
}

// leftovers returns what a node left on the machine.
func leftovers(t *testing.T, dir string, state cluster.State) []string {
	t.Helper()
	var found []string
	for _, path := range []string{
		"/sys/class/net/" + state.Node.Link, state.Node.Run, state.Node.Dir,
		"/sys/fs/cgroup/" + state.Node.Cgroup, "/sys/fs/cgroup/*/" + state.Node.Cgroup,
	} {
		matches, err := filepath.Glob(path)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, matches...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) || strings.Contains(line, state.Node.Run) {
			found = append(found, "mount "+line)
		}
	}
	routes, err := exec.Command("ip", "route", "show").CombinedOutput()
	if err != nil {
		t.Fatalf("listing routes: %v: %s", err, routes)
	}
	if strings.Contains(string(routes), state.Node.Link) {
		found = append(found, "a route through "+state.Node.Link)
	}
	return found
}

// probeImage builds the image of the program that shows what a pod sees.
func probeImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	binary, archive := filepath.Join(dir, "probe"), filepath.Join(dir, "probe.tar")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the probe: %v\n%s", err, out)
	}
	spec := image.Spec{Name: "rekey.dev/probe:test", Binary: binary, Entrypoint: "/probe", User: "65532:65532"}
	if err := image.Write(spec, archive); err != nil {
		t.Fatal(err)
	}
	return archive
}

// startProbe runs the probe and returns the address of its pod.
func startProbe(t *testing.T, state cluster.State) string {
	t.Helper()
	manifest, err := os.ReadFile("testdata/probe.yaml")
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, state, string(manifest), "apply", "--filename=-")
	kubectl(t, state, "", "rollout", "status", "deployment/probe", "--timeout=2m")
	ip := kubectl(t, state, "", "get", "pod", "--selector=app=probe", "--output=jsonpath={.items[0].status.podIP}")
	return net.JoinHostPort(ip, "8080")
}

// hostServer is a server of this machine on the address that pods know.
func hostServer(t *testing.T, ip string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "the host")
	}))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// direct is a client that ignores the environment's proxies.
var direct = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func ask(address string) (string, error) {
	resp, err := direct.Get(address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
