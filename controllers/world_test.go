// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/test/apiserver"
	"github.com/rekey/rekey/test/factcheck"
	"github.com/rekey/rekey/test/fixture"
)

// apiServer is a real one, shared by all tests of the package. Every test has a namespace of its own.
var apiServer *rest.Config

func TestMain(m *testing.M) { os.Exit(runWithAPIServer(m)) }

func runWithAPIServer(m *testing.M) int {
	debug.SetGCPercent(400) // The tests keep little.
	ctrl.SetLogger(logr.Discard())
	crds, err := withSecondEngine()
	if err != nil {
		fmt.Fprintln(os.Stderr, "reading the CRDs:", err)
		return 1
	}
	environment := &envtest.Environment{CRDs: crds}
	if err := apiserver.Start(environment); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = apiserver.Stop(environment) }()
	defer servers.Stop()
	apiServer = environment.Config
	return m.Run()
}

func testScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	return scheme
}

// write is one request that was meant to change something.
type write struct {
	verb, kind, name string
}

// world is a namespace on the real API server, a clock that only the test moves, and the controllers, which only the test
// calls. Unless a test brings a real one, the database server is the fake that keeps the engines' contract.
type world struct {
	t         *testing.T
	ctx       context.Context
	namespace string
	client    client.WithWatch
	// registry has the metrics of the process that runs now.
	registry *prometheus.Registry
	clock    *clocktesting.FakePassiveClock
	database *databasetest.Fake
	engines  map[v1alpha1.Engine]database.Engine
	issuers  map[v1alpha1.AuthorityType]issuer.Opener
	// cluster is the UID of kube-system in this world; empty for the real one. Worlds with different ones are different clusters.
	cluster types.UID

	shared   shared
	mu       sync.Mutex
	writes   []write
	messages []string
	// unread, if set, is called before every read of one object.
	unread func(key client.ObjectKey, o client.Object) error
	// fail, if set, is called before every write.
	fail func(write) error
	// said compares every status and every Event with the facts when it is written or emitted.
	said factcheck.Checker
	// cut is true if the process died between an effect at the server and its record, or uses the records of another one
	// that did: until the next effect it cannot know better, and only the form of its reports is checked.
	cut bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, apiServer, metav1.ObjectMeta{GenerateName: "world-"})
}

// newWorldOn creates a world in a namespace of an API server.
func newWorldOn(t *testing.T, server *rest.Config, name metav1.ObjectMeta) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context(), database: databasetest.NewFakeOf(postgres.New(postgres.Options{})),
		clock: clocktesting.NewFakePassiveClock(time.Now().UTC().Truncate(time.Second))}
	w.engines, w.issuers = map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: w.database}, fixture.Issuers()
	raw, err := apiserver.Client(server)
	if err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: name}
	if err := raw.Create(w.ctx, namespace); err != nil {
		t.Fatal(err)
	}
	w.namespace = namespace.Name
	w.said = factcheck.Checker{Reader: raw, Open: func(name string) (open, known bool) {
		login, known := w.database.Login(name)
		return login.CanLogin, known
	}}
	w.client = interceptor.NewClient(raw, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if w.unread != nil {
				if err := w.unread(key, o); err != nil {
					return err
				}
			}
			err := c.Get(ctx, key, o, opts...)
			if _, ok := o.(*corev1.Namespace); ok && key.Name == metav1.NamespaceSystem && w.cluster != "" {
				o.SetUID(w.cluster)
			}
			return err
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return w.through("create", o, func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return w.through("update", o, func() error { return c.Update(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return w.through("delete", o, func() error { return c.Delete(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			check := w.said.Status
			if w.cut {
				check = func(_ context.Context, o client.Object) error { return w.said.Form(o) }
			}
			if err := check(ctx, o); err != nil {
				t.Errorf("the status of %T %s makes a false claim: %v", o, o.GetName(), err)
			}
			return w.through("update "+sub, o, func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
	})
	w.restart()
	return w
}

func (w *world) through(verb string, o client.Object, do func() error) error {
	this := write{verb, kindOf(o), o.GetName()}
	w.mu.Lock()
	w.writes = append(w.writes, this)
	fail := w.fail
	w.mu.Unlock()
	if fail != nil {
		if err := fail(this); err != nil {
			return err
		}
	}
	return do()
}

func kindOf(o client.Object) string {
	name := fmt.Sprintf("%T", o)
	return name[strings.LastIndex(name, ".")+1:]
}

// restart replaces the process: the new one finds only what is recorded.
func (w *world) restart() {
	w.registry = prometheus.NewRegistry()
	w.shared = newShared(w.client, w.client, w, Options{
		Registry: w.registry, Version: "test", OperatorNamespace: w.namespace, AllowLoopback: true, Clock: w.clock, Skew: func() (time.Duration, bool) { return 0, true }, Engines: w.engines, Issuers: w.issuers,
	}, allKinds())
}

// counted returns the sum of a metric over all of its series with these labels.
func (w *world) counted(name string, labels map[string]string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		for _, series := range family.GetMetric() {
			have := map[string]string{}
			for _, label := range series.GetLabel() {
				have[label.GetName()] = label.GetValue()
			}
			same := family.GetName() == name
			for key, value := range labels {
				same = same && have[key] == value
			}
			if same {
				sum += series.GetCounter().GetValue() + series.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// Eventf implements events.EventRecorder.
func (w *world) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	object, _ := regarding.(client.Object)
	check := w.said.Event
	if w.cut {
		check = func(_ context.Context, _ client.Object, _, text string) error { return factcheck.Message(text) }
	}
	if err := check(w.ctx, object, reason, fmt.Sprintf(note, args...)); err != nil {
		w.t.Errorf("an Event of %T %s makes a false claim: %v", object, object.GetName(), err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.messages = append(w.messages, fmt.Sprintf("%s %s %s/%s: %s", kind, reason, kindOf(object), object.GetName(), fmt.Sprintf(note, args...)))
}

// events returns the Events since the last call.
func (w *world) events() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.messages
	w.messages = nil
	return out
}

// written returns the writes since the last call.
func (w *world) written() []write {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.writes
	w.writes = nil
	return out
}

// create stores objects as a user does.
func (w *world) create(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		if o.GetNamespace() == "" && !clusterScoped(o) {
			o.SetNamespace(w.namespace)
		}
		if err := w.client.Create(w.ctx, o); err != nil {
			w.t.Fatalf("creating %T %s: %v", o, o.GetName(), err)
		}
		if clusterScoped(o) {
			w.t.Cleanup(func() { _ = w.client.Delete(context.WithoutCancel(w.ctx), o) })
		}
	}
	w.written()
}

func clusterScoped(o client.Object) bool {
	_, ok := o.(*v1alpha1.ClusterCertificateAuthority)
	return ok
}

// get reads an object again.
func (w *world) get(o client.Object) {
	w.t.Helper()
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(o), o); err != nil {
		w.t.Fatalf("reading %T %s: %v", o, o.GetName(), err)
	}
}

// secret reads a Secret of the namespace.
func (w *world) secret(name string) *corev1.Secret {
	w.t.Helper()
	out := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: name}}
	w.get(out)
	return out
}

// edit changes an object as a user does.
func (w *world) edit(o client.Object, change func()) {
	w.t.Helper()
	w.get(o)
	change()
	if err := w.client.Update(w.ctx, o); err != nil {
		w.t.Fatalf("editing %T %s: %v", o, o.GetName(), err)
	}
	w.written()
}

func (w *world) reconcilerOf(o client.Object) reconcile.Reconciler {
	w.t.Helper()
	for _, kind := range w.shared.kinds {
		if kind.Name == kindOf(o) {
			return kind.reconciler(w.shared)
		}
	}
	w.t.Fatalf("no controller for %T", o)
	return nil
}

// reconcile reconciles the object once and reads it again; it must then be in a state that users and tools can trust.
func (w *world) reconcile(o client.Object) ctrl.Result {
	w.t.Helper()
	result, err := w.reconcilerOf(o).Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
	if err != nil {
		w.t.Fatalf("reconciling %T %s: %v", o, o.GetName(), err)
	}
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(o), o); client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	} else if err == nil {
		w.checkStatus(o)
	}
	return result
}

// settle reconciles at most n times, until the object asks to wait for a while.
func (w *world) settle(o client.Object, n int) {
	w.t.Helper()
	for range n {
		if w.reconcile(o).RequeueAfter > time.Second {
			return
		}
	}
}

// step moves the clock.
func (w *world) step(by time.Duration) { w.clock.SetTime(w.clock.Now().Add(by)) }
