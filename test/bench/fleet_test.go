// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/issuer/ca"
)

const (
	workers  = 20
	fleet    = 1000
	patience = 5 * time.Minute
	// bareNamespace is where the bare operator works.
	bareNamespace = "floor"
)

// errorLog keeps every line that was logged as an error.
type errorLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *errorLog) logger() logr.Logger {
	return funcr.NewJSON(func(line string) {
		if strings.Contains(line, `"error":`) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.lines = append(l.lines, line)
		}
	}, funcr.Options{})
}

func (l *errorLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines...)
}

func startable(t *testing.T, s *apiServer, config *rest.Config, options ctrl.Options) manager.Manager {
	t.Helper()
	options.Scheme = s.scheme
	options.Metrics = metricsserver.Options{BindAddress: "0"}
	options.Controller = ctrlconfig.Controller{SkipNameValidation: new(true)}
	mgr, err := ctrl.NewManager(config, options)
	if err != nil {
		t.Fatal(err)
	}
	return mgr
}

// start runs a manager until the function that it gives is called, or the test ends.
func start(t *testing.T, mgr manager.Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the caches were not filled")
	}
	return stop
}

// startRekey runs rekey as main.go does, but for the lease.
func startRekey(t *testing.T, s *apiServer, config *rest.Config, log logr.Logger) (stop func()) {
	t.Helper()
	config = rest.CopyConfig(config)
	apiClock := controllers.NewAPIClock(clock.RealClock{})
	config.Wrap(apiClock.Wrap)
	mgr := startable(t, s, config, ctrl.Options{
		Logger: log, Cache: controllers.CacheOptions(nil, "default"),
		Client: client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}},
	})
	err := controllers.Setup(t.Context(), mgr, controllers.Options{
		OperatorNamespace: "default", Workers: workers, Clock: clock.RealClock{}, APIClock: apiClock,
		KeyPairs: ca.KeyPairs{}, Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return start(t, mgr)
}

// apply creates the identities as a user does, twenty at a time, and tells how long it took until all were Ready.
func apply(t *testing.T, s *apiServer, namespace string, n int) time.Duration {
	t.Helper()
	if err := s.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	if err := s.client.Create(t.Context(), anAuthority(namespace)); err != nil {
		t.Fatal(err)
	}
	ready := countReady(t, s, namespace)
	authorityReady(t, s, namespace)
	begun := time.Now()
	numbers := make(chan int)
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for i := range numbers {
				if err := s.client.Create(t.Context(), anIdentity(namespace, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	group.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for count := 0; count < n; {
		select {
		case count = <-ready:
		case <-ctx.Done():
			t.Fatalf("%d of %d are Ready after %s", count, n, patience)
		}
	}
	return time.Since(begun)
}

// authorityReady waits until the authority can sign, where somebody makes it able to.
func authorityReady(t *testing.T, s *apiServer, namespace string) {
	t.Helper()
	if namespace == bareNamespace {
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < patience; <-tick.C {
		var authority v1alpha1.CertificateAuthority
		if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "internal"}, &authority); err != nil {
			t.Fatal(err)
		}
		if meta.IsStatusConditionTrue(authority.Status.Conditions, v1alpha1.ConditionReady) {
			return
		}
	}
	t.Fatal("the authority did not become ready")
}

// countReady watches a namespace and sends how many identities are Ready.
func countReady(t *testing.T, s *apiServer, namespace string) <-chan int {
	t.Helper()
	mgr := startable(t, s, s.config, ctrl.Options{})
	informer, err := mgr.GetCache().GetInformer(t.Context(), &v1alpha1.ClientIdentity{})
	if err != nil {
		t.Fatal(err)
	}
	counts := make(chan int, 2*fleet)
	seen := map[string]bool{}
	look := func(object any) {
		identity, ok := object.(*v1alpha1.ClientIdentity)
		if !ok || identity.Namespace != namespace || seen[identity.Name] || !meta.IsStatusConditionTrue(identity.Status.Conditions, v1alpha1.ConditionReady) {
			return
		}
		seen[identity.Name] = true
		counts <- len(seen)
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, o any) { look(o) }}); err != nil {
		t.Fatal(err)
	}
	start(t, mgr)
	return counts
}

func anAuthority(namespace string) *v1alpha1.CertificateAuthority {
	return &v1alpha1.CertificateAuthority{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "internal"},
		Spec: v1alpha1.AuthoritySpec{
			Managed:    &v1alpha1.ManagedAuthority{CommonName: "Fleet CA", KeyAlgorithm: "ECDSA-P256", Lifetime: metav1.Duration{Duration: 43800 * time.Hour}},
			SecretName: "internal-ca",
			Constraints: v1alpha1.Constraints{
				MaxLifetime: metav1.Duration{Duration: 720 * time.Hour}, CommonNames: []v1alpha1.NamePattern{"*"}},
		},
	}
}

func anIdentity(namespace string, i int) *v1alpha1.ClientIdentity {
	name := fmt.Sprintf("app-%04d", i)
	return &v1alpha1.ClientIdentity{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.ClientIdentitySpec{IdentitySpec: v1alpha1.IdentitySpec{
			AuthorityRef: v1alpha1.AuthorityReference{Name: "internal"}, CommonName: name,
			Lifetime: metav1.Duration{Duration: 24 * time.Hour}, SecretName: v1alpha1.ObjectName(name + "-mtls"),
		}},
	}
}

// less gives what was counted since.
func less(now, before map[string]int) map[string]int {
	out := map[string]int{}
	for key, count := range now {
		if count != before[key] {
			out[key] = count - before[key]
		}
	}
	return out
}

func TestAThousandIssuesAreTwoWritesAndAnEventEach(t *testing.T) {
	log := &errorLog{}
	ctrl.SetLogger(log.logger())
	s := startAPIServer(t)
	config := s.user(t, "rekey")
	stop := startRekey(t, s, config, log.logger())
	took := apply(t, s, "fleet", fleet)
	settled(t, s)
	counted := s.changed(t, "rekey")
	want := map[string]int{
		// The authority: its Secret, its record, its status.
		"create configmaps 201": 1, "update certificateauthorities/status 200": 1,
		"create secrets 201": fleet + 1, "update clientidentities/status 200": fleet,
		"create events 201": counted["create events 201"],
	}
	if diff := cmp.Diff(want, counted); diff != "" {
		t.Errorf("writes for %d issues (-want +got):\n%s", fleet, diff)
	}
	if events := counted["create events 201"]; events > fleet+1 || events == 0 {
		t.Errorf("%d Events for %d issues", events, fleet)
	}
	if lines := log.all(); len(lines) > 0 {
		t.Errorf("%d errors in the log, the first: %s", len(lines), lines[0])
	}
	stop()

	stop = startRekey(t, s, config, log.logger())
	settled(t, s)
	if again := less(s.changed(t, "rekey"), counted); len(again) > 0 {
		t.Errorf("a restart with nothing due wrote %v", again)
	}
	stop()

	var secret corev1.Secret
	if err := s.client.Get(t.Context(), client.ObjectKey{Namespace: "fleet", Name: "app-0000-mtls"}, &secret); err != nil {
		t.Fatal(err)
	}
	startBare(t, s, s.user(t, "bare"), secret.Data)
	floor := apply(t, s, bareNamespace, fleet)
	t.Logf("%d identities: rekey %s (%.0f/s), bare operator %s (%.0f/s), ratio %.2f", fleet,
		took.Round(time.Millisecond), fleet/took.Seconds(), floor.Round(time.Millisecond), fleet/floor.Seconds(), floor.Seconds()/took.Seconds())
}

// settled waits until the API server has written down nothing new of rekey for a while.
func settled(t *testing.T, s *apiServer) {
	t.Helper()
	const quiet = 3 * time.Second
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	last, since := s.changed(t, "rekey"), time.Now()
	for begun := time.Now(); time.Since(since) < quiet; <-tick.C {
		if now := s.changed(t, "rekey"); !cmp.Equal(now, last) {
			last, since = now, time.Now()
		}
		if time.Since(begun) > patience {
			t.Fatal("rekey goes on writing")
		}
	}
}
