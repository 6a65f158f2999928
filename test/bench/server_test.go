// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/api/v1alpha1"
)

// apiServer is a real API server. All its clients are in the group that it serves without counting or queueing.
type apiServer struct {
	environment *envtest.Environment
	config      *rest.Config
	client      client.Client
	applier     *applier
	dir         string
	processes   []int
	// scraperToken is the token of a service account that may read metrics; empty until it is needed.
	scraperToken string
}

// servers holds the running servers with their stop functions: they would outlive a test that is ended by a signal.
var servers sync.Map

func endServers() {
	servers.Range(func(_, stop any) bool {
		stop.(func())()
		return true
	})
}

// startAPIServer starts one with the flags; stop stops it before the test's end.
func startAPIServer(t *testing.T, flags map[string]string) (s *apiServer, stop func()) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-apiserver")); err != nil {
		t.Fatal("this test needs a real API server: run `make assets` and set KUBEBUILDER_ASSETS to the folder that it prints")
	}
	s = &apiServer{dir: t.TempDir()}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	s.environment = &envtest.Environment{CRDDirectoryPaths: []string{filepath.Join("..", "..", "config", "crd", "bases")}, ErrorIfCRDPathMissing: true,
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute}
	for name, value := range flags {
		s.environment.ControlPlane.GetAPIServer().Configure().Set(name, value)
	}
	stop = sync.OnceFunc(func() {
		if s.applier != nil {
			s.applier.close()
		}
		_ = s.environment.Stop()
		servers.Delete(s)
	})
	servers.Store(s, stop)
	t.Cleanup(stop)
	config, err := s.environment.Start()
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	s.config = config
	if s.processes = children(t, "kube-apiserver", "etcd"); len(s.processes) != 2 {
		t.Fatalf("%d processes of API servers and etcds run, want one of each", len(s.processes))
	}
	if s.client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	if s.applier, err = newApplier(config); err != nil {
		t.Fatal(err)
	}
	s.serving(t)
	return s, stop
}

// children returns the running children of this process with these names.
func children(t *testing.T, names ...string) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var out []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // It has exited since.
		}
		pid, rest, _ := strings.Cut(string(text), " (")
		name, rest, _ := strings.Cut(rest, ") ")
		fields := strings.Fields(rest)
		if !slices.Contains(names, name) || fields[1] != strconv.Itoa(os.Getpid()) || fields[0] == "Z" {
			continue
		}
		number, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, number)
	}
	return out
}

// cpu returns the processor time of API server and etcd in seconds.
func (s *apiServer) cpu(t *testing.T) float64 {
	t.Helper()
	sum := 0.0
	for _, pid := range s.processes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		sum += processorTime(t, string(text))
	}
	return sum
}

// serving waits until our kinds are served: a new one may be unknown for a moment after it was accepted.
func (s *apiServer) serving(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for begun := time.Now(); time.Since(begun) < patience; <-tick.C {
		err = nil
		for _, resource := range []string{"clientidentities", "databasecredentials", "certificateauthorities", "clustercertificateauthorities"} {
			if _, failed := s.applier.get(t.Context(), "/apis/rekey.dev/v1alpha1/"+resource); failed != nil {
				err = failed
			}
		}
		if err == nil {
			return
		}
	}
	t.Fatal(err)
}

// kubeconfig writes one for a user of its own, so an audit log can identify its requests.
func (s *apiServer) kubeconfig(t *testing.T, name string) string {
	t.Helper()
	user, err := s.environment.AddUser(envtest.User{Name: name, Groups: []string{"system:masters"}}, s.config)
	if err != nil {
		t.Fatal(err)
	}
	text, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, name+".kubeconfig")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// requests returns what the API server has counted so far, of all clients: by "VERB resource/subresource code", including
// refused ones, for everything that an operator of this sort may read or write. Watches and lists are left out.
func (s *apiServer) requests(t *testing.T) map[string]int {
	t.Helper()
	return s.count(t, func(of map[string]string) bool {
		// Events of the core group are those of leader election; rekey's own are of events.k8s.io.
		ours := of["group"] == v1alpha1.GroupVersion.Group || of["group"] == "events.k8s.io" || of["resource"] == "secrets" || of["resource"] == "configmaps"
		return ours && of["verb"] != "WATCH"
	})
}

// reviews returns how many questions about tokens and rights the API server has counted so far.
func (s *apiServer) reviews(t *testing.T) int {
	t.Helper()
	return writesOf(s.count(t, func(of map[string]string) bool {
		return of["resource"] == "tokenreviews" || of["resource"] == "subjectaccessreviews"
	}))
}

// count returns the requests that the API server has counted, by "VERB resource/subresource code", for those that are selected
// by their labels.
func (s *apiServer) count(t *testing.T, selected func(labels map[string]string) bool) map[string]int {
	t.Helper()
	text, err := s.applier.get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte("apiserver_request_total{"))
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(strings.TrimSpace(string(rest)), "} ")
		of := labelsOf(labels)
		if !selected(of) {
			continue
		}
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("reading %q: %v", line, err)
		}
		resource := of["resource"]
		if of["subresource"] != "" {
			resource += "/" + of["subresource"]
		}
		out[of["verb"]+" "+resource+" "+of["code"]] += int(count)
	}
	return out
}

// labelsOf reads name="value",name="value". None of these values contains a quote or a comma.
func labelsOf(text string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			out[name] = strings.Trim(value, `"`)
		}
	}
	return out
}

// settled waits until no request has arrived for a while, and returns the requests counted by then.
func (s *apiServer) settled(t *testing.T) map[string]int {
	t.Helper()
	const quiet = 2 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(quiet / 4)
	defer tick.Stop()
	last, since := s.requests(t), time.Now()
	for time.Since(since) < quiet {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("requests do not stop")
		}
		if now := s.requests(t); !cmp.Equal(now, last) {
			last, since = now, time.Now()
		}
	}
	return last
}

// less returns what was counted since.
func less(now, before map[string]int) map[string]int {
	out := map[string]int{}
	for key, count := range now {
		if count != before[key] {
			out[key] = count - before[key]
		}
	}
	return out
}

// writesOf returns those requests that were meant to change something.
func writesOf(requests map[string]int) int {
	sum := 0
	for key, count := range requests {
		if !strings.HasPrefix(key, "GET ") {
			sum += count
		}
	}
	return sum
}
