// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// flaky is one manager's transport to the API server. Its watches can go silent or break without notice.
type flaky struct {
	next http.RoundTripper

	mu     sync.Mutex
	silent chan struct{} // closed when held-back events can continue; nil if nothing is held back
	open   map[*stream]bool
}

// RoundTrip implements http.RoundTripper.
func (f *flaky) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := f.next.RoundTrip(request)
	if err != nil || request.URL.Query().Get("watch") == "" {
		return response, err
	}
	s := &stream{ReadCloser: response.Body, flaky: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[s] = true
	response.Body = s
	return response, nil
}

// stream is one watch.
type stream struct {
	io.ReadCloser

	flaky  *flaky
	broken bool
}

// Read implements io.Reader. It holds back events while the watch is silent; a broken watch loses them.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.flaky.mu.Lock()
	silent := s.flaky.silent
	s.flaky.mu.Unlock()
	if silent != nil {
		<-silent
	}
	s.flaky.mu.Lock()
	defer s.flaky.mu.Unlock()
	if s.broken {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// holdBack holds back every event of the watches.
func (f *flaky) holdBack() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent == nil {
		f.silent = make(chan struct{})
	}
}

// cut breaks every watch. Held-back events are lost.
func (f *flaky) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.open {
		s.broken = true
		_ = s.Close()
		delete(f.open, s)
	}
	if f.silent != nil {
		close(f.silent)
		f.silent = nil
	}
}

// startManager starts a real manager with its own transport to the API server, without a lease.
func startManager(t *testing.T, w *world.World) *flaky {
	t.Helper()
	config := world.APIServer()
	f := &flaky{open: map[*stream]bool{}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		f.next = next
		return f
	})
	scheme, err := world.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
		Cache:  controllers.CacheOptions([]string{w.Namespace}, w.Namespace, nil),
		Client: client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := controllers.Setup(t.Context(), mgr, controllers.Options{
		Namespaces: []string{w.Namespace}, OperatorNamespace: w.Namespace, Workers: 4, Clock: clock.RealClock{}, Skew: func() (time.Duration, bool) { return 0, true }, AllowLoopback: true,
		Engines: map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: w.Fake}, Issuers: fixture.Issuers(), Registry: prometheus.NewRegistry(),
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		f.cut()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for started := time.Now(); time.Since(started) < patience; <-tick.C {
		if holds() {
			return
		}
	}
	t.Fatalf("after %s this does not hold: %s", patience, what)
}

// user is what a user sees of a credential in a world with real managers.
type user struct {
	*world.World
	t     *testing.T
	login *v1alpha1.DatabaseCredential
}

// secret returns the published Secret, or nil.
func (u user) secret() *corev1.Secret {
	u.t.Helper()
	secret := &corev1.Secret{}
	err := u.Client.Get(u.Ctx, client.ObjectKey{Namespace: u.Namespace, Name: "orders-db"}, secret)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		u.t.Fatal(err)
	}
	return secret
}

// shows reports whether a version that the server accepts is published and reported.
func (u user) shows(revision string) func() bool {
	return func() bool {
		secret := u.secret()
		if secret == nil || secret.Annotations[v1alpha1.AnnotationRevision] != revision {
			return false
		}
		u.Get(u.login)
		return meta.IsStatusConditionTrue(u.login.Status.Conditions, v1alpha1.ConditionReady) &&
			u.Fake.Accepts(string(secret.Data[credential.KeyUsername]), string(secret.Data[credential.KeyPassword]))
	}
}

func (u user) annotate(key, value string) {
	u.t.Helper()
	eventually(u.t, "the annotation is set", func() bool {
		u.Get(u.login)
		if u.login.Annotations == nil {
			u.login.Annotations = map[string]string{}
		}
		u.login.Annotations[key] = value
		err := u.Client.Update(u.Ctx, u.login)
		return err == nil
	})
}

func twoManagers(t *testing.T) (user, []*flaky) {
	t.Helper()
	w := world.New(t, nil)
	ways := []*flaky{startManager(t, w), startManager(t, w)}
	login := fixture.Credential("orders")
	w.Create(fixture.AdminSecret(), aPolicy(), aServer(), login)
	return user{w, t, login}, ways
}

func TestADeadWatchCatchesUpWhenItReturns(t *testing.T) {
	u, ways := twoManagers(t)
	eventually(t, "the first version is published", u.shows("1"))
	before := u.secret()
	for _, way := range ways {
		way.holdBack()
	}
	u.Delete(before)
	if u.secret() != nil {
		t.Fatal("the Secret was written again by a process that cannot know that it is gone")
	}
	for _, way := range ways {
		way.cut()
	}
	eventually(t, "the Secret is back", u.shows("1"))
	if digest(u.secret()) != digest(before) {
		t.Error("the Secret came back with another login")
	}
}

func TestTwoManagersConvergeWhileTheirWatchesBreak(t *testing.T) {
	u, ways := twoManagers(t)
	eventually(t, "the first version is published", u.shows("1"))
	random := size.Random(t, 12)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			way := ways[random.IntN(len(ways))]
			if random.IntN(2) == 0 {
				way.holdBack()
			} else {
				way.cut()
			}
			<-tick.C
		}
	})
	group.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ; ctx.Err() == nil; <-tick.C {
			secret := &corev1.Secret{}
			err := u.Client.Get(ctx, client.ObjectKey{Namespace: u.Namespace, Name: "orders-db"}, secret)
			if err == nil && !u.Fake.Accepts(string(secret.Data[credential.KeyUsername]), string(secret.Data[credential.KeyPassword])) {
				t.Error("I1: the published login is refused")
			}
		}
	})
	for i, revision := range []string{"2", "3", "4"}[:size.Number(2, 3)] {
		u.annotate(v1alpha1.AnnotationRotate, revision)
		eventually(t, "revision "+revision+" is published", u.shows(revision))
		u.annotate(v1alpha1.AnnotationRetirePrevious, revision)
		eventually(t, "the previous login is retired", func() bool {
			login, _ := u.Fake.Login([]string{"orders_app_a", "orders_app_b"}[i%2])
			return !login.CanLogin
		})
	}
	cancel()
	group.Wait()
	for _, way := range ways {
		way.cut()
	}
}
