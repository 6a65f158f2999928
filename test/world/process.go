// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/test/fixture"
)

// Request is one API request of a process.
type Request struct {
	// Process is the name that it was started with.
	Process string
	// Verb is get, list, create, update, patch, delete, or "update status".
	Verb string
	// Kind, Namespace and Name are those of the object; a list has only a kind.
	Kind, Namespace, Name string
	// Live is true if the request goes to the API server even in a process with cached reads.
	Live bool
	// Object is what is written, or read into; nil for a list. List is nil for everything else.
	Object client.Object
	List   client.ObjectList
	// ListOptions are the options of a list.
	ListOptions client.ListOptions
}

// Writes reports whether the request is meant to change something.
func (r Request) Writes() bool { return r.Verb != "get" && r.Verb != "list" }

// String returns "verb Kind name".
func (r Request) String() string { return r.Verb + " " + r.Kind + " " + r.Name }

// Hook sits between a process and the API server. It calls do to let the request through, or drops it.
type Hook func(ctx context.Context, r Request, do func() error) error

// Options of a process; each has a default.
type Options struct {
	// Clock is the clock of the process; the world's by default.
	Clock clock.PassiveClock
	// Ahead is how far the API server's clock is ahead of the process's.
	Ahead time.Duration
	// Engine serves PostgreSQL servers; the world's by default.
	Engine database.Engine
	// Issuers open authorities; those of the product by default.
	Issuers map[v1alpha1.AuthorityType]issuer.Opener
	// StepTimeout limits one step of a rotation; 0 for the default.
	StepTimeout time.Duration
	// Recorder receives the Events; the world by default.
	Recorder events.EventRecorder
	// As sends every request except cached reads: a client with fewer rights. The world's by default.
	As client.WithWatch
	// Racing is true if another process changes the same objects concurrently: a report may be outdated as soon as it is
	// made, so only its form is checked.
	Racing bool
	// Lie is called with every false report; it fails the test by default.
	Lie func(error)
}

// Skew is how far the API server's clock is ahead of a process's.
type Skew struct{ ahead atomic.Int64 }

// Set sets the difference; negative if the API server's clock is behind.
func (s *Skew) Set(ahead time.Duration) { s.ahead.Store(int64(ahead)) }

func (s *Skew) get() (ahead time.Duration, known bool) { return time.Duration(s.ahead.Load()), true }

// Process is rekey with empty memory. It has no manager: only Reconcile wakes it.
type Process struct {
	Name string
	// Skew is what the process knows of the API server's clock.
	Skew Skew

	world *World
	// reconcilers by kind. Like a manager's, they keep their memory between reconciles.
	reconcilers map[string]reconcile.Reconciler
	mu          sync.Mutex
	hook        Hook
	racing      bool
	lie         func(error)
}

// Start starts a process.
func (w *World) Start(name string, options Options) *Process {
	w.T.Helper()
	p := &Process{Name: name, world: w}
	if options.Clock == nil {
		options.Clock = w.Clock
	}
	if options.Engine == nil {
		options.Engine = w.Engine
	}
	if options.Issuers == nil {
		options.Issuers = fixture.Issuers()
	}
	if options.Recorder == nil {
		options.Recorder = w
	}
	if options.As == nil {
		options.As = w.Client
	}
	if p.racing, p.lie = options.Racing, options.Lie; p.lie == nil {
		p.lie = func(err error) { w.T.Errorf("process %s: %v", name, err) }
	}
	p.Skew.Set(options.Ahead)
	p.reconcilers = controllers.Reconcilers(p.client(options.As, false), p.client(options.As, true), teller{p, options.Recorder}, controllers.Options{
		Registry: prometheus.NewRegistry(), OperatorNamespace: w.Namespace, AllowLoopback: true, Clock: options.Clock, Skew: p.Skew.get, StepTimeout: options.StepTimeout,
		Engines: map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: options.Engine}, Issuers: options.Issuers,
	})
	return p
}

// Hook puts a hook between the process and the API server; nil removes it.
func (p *Process) Hook(hook Hook) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// Reconcile reconciles the object once, without reading it first.
func (p *Process) Reconcile(o client.Object) (ctrl.Result, error) {
	reconciler := p.reconcilers[KindOf(o)]
	if reconciler == nil {
		return ctrl.Result{}, fmt.Errorf("no controller for %T", o)
	}
	return reconciler.Reconcile(p.world.Ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
}

// Settle reconciles at most n times, until the object asks to wait for more than a second, and reports whether it did.
func (p *Process) Settle(o client.Object, n int) (bool, error) {
	var last error
	for range n {
		result, err := p.Reconcile(o)
		last = err
		if err == nil && (result.RequeueAfter > time.Second || result.IsZero()) {
			return true, nil
		}
	}
	return false, last
}

func (p *Process) through(ctx context.Context, r Request, do func() error) error {
	p.mu.Lock()
	hook := p.hook
	p.mu.Unlock()
	if hook == nil {
		return do()
	}
	return hook(ctx, r, do)
}

// client sends every request through the hook.
func (p *Process) client(as client.WithWatch, live bool) client.Client {
	reads := p.world.Client
	if live {
		reads = as
	}
	about := func(verb string, o client.Object) Request {
		return Request{Process: p.Name, Verb: verb, Kind: KindOf(o), Namespace: o.GetNamespace(), Name: o.GetName(), Live: live, Object: o}
	}
	return interceptor.NewClient(reads, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			r := about("get", o)
			r.Namespace, r.Name = key.Namespace, key.Name
			return p.through(ctx, r, func() error { return c.Get(ctx, key, o, opts...) })
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			r := Request{Process: p.Name, Verb: "list", Kind: KindOf(list), Live: live, List: list}
			r.ListOptions.ApplyOptions(opts)
			return p.through(ctx, r, func() error { return listed(ctx, c, list, opts) })
		},
		Create: func(ctx context.Context, _ client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return p.through(ctx, about("create", o), func() error { return as.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, _ client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return p.through(ctx, about("update", o), func() error { return as.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, _ client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
			return p.through(ctx, about("patch", o), func() error { return as.Patch(ctx, o, patch, opts...) })
		},
		Delete: func(ctx context.Context, _ client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return p.through(ctx, about("delete", o), func() error { return as.Delete(ctx, o, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, _ client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			p.checkStatus(ctx, o)
			return p.through(ctx, about("update "+sub, o), func() error { return as.SubResource(sub).Update(ctx, o, opts...) })
		},
	})
}
