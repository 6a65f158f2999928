// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"context"
	"io"
	"math/rand/v2"
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
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/test/world"
)

// flaky is the way to the API server of one manager. Its watches can go silent without a word, and break.
type flaky struct {
	next http.RoundTripper

	mu     sync.Mutex
	silent chan struct{} // closed when what was held back may go on; nil where nothing is
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

// Read implements io.Reader: while the watch is silent, what comes is held back; what a broken one held back is lost.
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

// hush holds back all that the watches tell.
func (f *flaky) hush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent == nil {
		f.silent = make(chan struct{})
	}
}

// cut breaks every watch. What was held back is lost.
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

// managed starts a real manager with its own way to the API server, without a lease.
func managed(t *testing.T, w *world.World) *flaky {
	t.Helper()
	config := world.APIServer()
	f := &flaky{open: map[*stream]bool{}}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		f.next = next
		return f
	})
	apiClock := controllers.NewAPIClock(clock.RealClock{})
	apiClock.Seen(0)
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
		Namespaces: []string{w.Namespace}, OperatorNamespace: w.Namespace, Workers: 4, Clock: clock.RealClock{}, APIClock: apiClock, AllowLoopback: true,
		Engines: map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: w.Fake}, KeyPairs: ca.KeyPairs{}, Registry: prometheus.NewRegistry(),
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

// soon waits until it holds.
func soon(t *testing.T, what string, holds func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < patience; <-tick.C {
		if holds() {
			return
		}
	}
	t.Fatalf("after %s this does not hold: %s", patience, what)
}

// user is what a person sees of a credential in a world with real managers.
type user struct {
	*world.World
	t     *testing.T
	login *v1alpha1.DatabaseCredential
}

// secret gives what is published, nil where nothing is.
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

// shows tells whether a version that the server accepts is published and reported.
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
	soon(u.t, "the annotation is written", func() bool {
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
	ways := []*flaky{managed(t, w), managed(t, w)}
	login := &v1alpha1.DatabaseCredential{ObjectMeta: named("orders"), Spec: v1alpha1.DatabaseCredentialSpec{
		ServerRef: v1alpha1.ServerReference{Name: "orders"}, Database: "orders", Username: "orders_app", Owner: "orders_owner",
		Strategy: v1alpha1.StrategyAlternatingUsers, RotationPolicyRef: &v1alpha1.LocalReference{Name: "daily"}, SecretName: "orders-db",
	}}
	w.Create(anAdminSecret(), aPolicy(), aServer(), login)
	return user{w, t, login}, ways
}

func TestADeadWatchIsMadeUpForWhenItComesBack(t *testing.T) {
	u, ways := twoManagers(t)
	soon(t, "the first version is published", u.shows("1"))
	before := u.secret()
	for _, way := range ways {
		way.hush()
	}
	u.Delete(before)
	if u.secret() != nil {
		t.Fatal("the Secret was written again by somebody who cannot know that it is gone")
	}
	for _, way := range ways {
		way.cut()
	}
	soon(t, "the Secret is back", u.shows("1"))
	if digest(u.secret()) != digest(before) {
		t.Error("the Secret came back with another login")
	}
}

func TestTwoManagersWhoseWatchesBreakAllTheTime(t *testing.T) {
	u, ways := twoManagers(t)
	soon(t, "the first version is published", u.shows("1"))
	dice := rand.New(rand.NewPCG(fresh(t), 12))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			way := ways[dice.IntN(len(ways))]
			if dice.IntN(2) == 0 {
				way.hush()
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
	for i, revision := range []string{"2", "3", "4"}[:sized(2, 3)] {
		u.annotate(v1alpha1.AnnotationRotate, revision)
		soon(t, "revision "+revision+" is published", u.shows(revision))
		u.annotate(v1alpha1.AnnotationRetirePrevious, revision)
		soon(t, "the previous login is retired", func() bool {
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
