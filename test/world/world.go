// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/test/apiserver"
	"github.com/rekey/rekey/test/factcheck"
)

// World is a namespace on the real API server, a clock and a database server.
type World struct {
	T         testing.TB
	Ctx       context.Context
	Namespace string
	// Client is the user's: no hook sees it.
	Client client.WithWatch
	Clock  *clocktesting.FakePassiveClock
	// Fake is the database server, unless New got another engine.
	Fake   *databasetest.Fake
	Engine database.Engine
	// Said compares every status and every Event with the facts when it is written or emitted.
	Said *factcheck.Checker

	mu       sync.Mutex
	messages []string
}

// New creates a namespace. The engine serves PostgreSQL servers; nil for a fake one.
func New(tb testing.TB, engine database.Engine) *World {
	tb.Helper()
	w := &World{T: tb, Ctx: tb.Context(), Engine: engine, Clock: clocktesting.NewFakePassiveClock(time.Now().UTC().Truncate(time.Second))}
	if engine == nil {
		w.Fake = databasetest.NewFakeOf(postgres.New(postgres.Options{}))
		w.Engine = w.Fake
	}
	var err error
	if w.Client, err = apiserver.Client(apiServer); err != nil {
		tb.Fatal(err)
	}
	w.Said = &factcheck.Checker{Reader: w.Client, Open: func(name string) (open, known bool) {
		if w.Fake == nil {
			return false, false
		}
		login, known := w.Fake.Login(name)
		return login.CanLogin, known
	}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "world-"}}
	if err := w.Client.Create(w.Ctx, namespace); err != nil {
		tb.Fatal(err)
	}
	w.Namespace = namespace.Name
	return w
}

// Step moves the clock forward.
func (w *World) Step(by time.Duration) { w.Clock.SetTime(w.Clock.Now().Add(by)) }

// Eventf implements events.EventRecorder.
func (w *World) Eventf(regarding, _ runtime.Object, kind, reason, _, note string, args ...any) {
	object, _ := regarding.(client.Object)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.messages = append(w.messages, fmt.Sprintf("%s %s %s/%s: %s", kind, reason, KindOf(object), object.GetName(), fmt.Sprintf(note, args...)))
}

// Events returns the Events since the last call, as "Type Reason Kind/name: note".
func (w *World) Events() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.messages
	w.messages = nil
	return out
}

// Create stores objects as a user does.
func (w *World) Create(objects ...client.Object) {
	w.T.Helper()
	for _, o := range objects {
		_, everywhere := o.(*v1alpha1.ClusterCertificateAuthority)
		if o.GetNamespace() == "" && !everywhere {
			o.SetNamespace(w.Namespace)
		}
		if err := w.Client.Create(w.Ctx, o); err != nil {
			w.T.Fatalf("creating %T %s: %v", o, o.GetName(), err)
		}
		if everywhere {
			w.T.Cleanup(func() { _ = w.Client.Delete(context.WithoutCancel(w.Ctx), o) })
		}
	}
}

// Get reads an object again.
func (w *World) Get(o client.Object) {
	w.T.Helper()
	if err := w.Client.Get(w.Ctx, client.ObjectKeyFromObject(o), o); err != nil {
		w.T.Fatalf("reading %T %s: %v", o, o.GetName(), err)
	}
}

// Edit changes an object as a user does.
func (w *World) Edit(o client.Object, change func()) {
	w.T.Helper()
	w.Get(o)
	change()
	if err := w.Client.Update(w.Ctx, o); err != nil {
		w.T.Fatalf("editing %T %s: %v", o, o.GetName(), err)
	}
}

// Delete deletes an object as a user does.
func (w *World) Delete(o client.Object) {
	w.T.Helper()
	if err := w.Client.Delete(w.Ctx, o); err != nil {
		w.T.Fatalf("deleting %T %s: %v", o, o.GetName(), err)
	}
}

// KindOf returns the kind of an object or of a list, from its Go type.
func KindOf(o runtime.Object) string {
	name := fmt.Sprintf("%T", o)
	return name[strings.LastIndex(name, ".")+1:]
}
