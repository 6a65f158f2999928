// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package eventrecorder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// One API server serves all tests; each test has its own namespace.
var server envtest.Environment

func TestMain(m *testing.M) {
	server = envtest.Environment{BinaryAssetsDirectory: os.Getenv("KUBEBUILDER_ASSETS"),
		// On a busy machine the default of 20 s is too short.
		ControlPlaneStartTimeout: 2 * time.Minute, ControlPlaneStopTimeout: time.Minute}
	if _, err := server.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "no API server: run `make assets` and set KUBEBUILDER_ASSETS to the folder that it prints:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Stop(); err != nil && code == 0 {
		code = 1
	}
	os.Exit(code)
}

// place is a namespace with an object in it, and a client whose requests can be disturbed.
type place struct {
	t       *testing.T
	client  client.WithWatch
	about   *corev1.ConfigMap
	funcs   interceptor.Funcs
	running sync.WaitGroup
	ended   sync.Once
	stop    context.CancelFunc
	flush   func(context.Context)
}

func newPlace(t *testing.T) *place {
	t.Helper()
	c, err := client.NewWithWatch(server.Config, client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "events-"}}
	if err := c.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	about := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace.Name, Name: "orders"}}
	if err := c.Create(t.Context(), about); err != nil {
		t.Fatal(err)
	}
	return &place{t: t, client: c, about: about}
}

func (p *place) recorder(now clock.PassiveClock) *Recorder {
	return New(interceptor.NewClient(p.client, p.funcs), now, logr.Discard(), "rekey")
}

// start starts the recorder; end waits until every recorded Event is written.
func (p *place) start(r *Recorder) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.t.Context()))
	p.stop, p.flush = cancel, r.Flush
	p.running.Go(func() { _ = r.Start(ctx) })
	p.t.Cleanup(p.end)
}

func (p *place) end() {
	p.ended.Do(func() {
		p.stop()
		p.running.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), 30*time.Second)
		defer cancel()
		p.flush(ctx)
	})
}

// events returns the Events of the namespace, oldest first: notes, and how often each was recorded.
func (p *place) events() []string {
	p.t.Helper()
	var all eventsv1.EventList
	if err := p.client.List(p.t.Context(), &all, client.InNamespace(p.about.Namespace)); err != nil {
		p.t.Fatal(err)
	}
	slices.SortFunc(all.Items, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	var out []string
	for _, e := range all.Items {
		line := e.Type + " " + e.Reason + ": " + e.Note
		if e.Series != nil {
			line += fmt.Sprintf(" (%d times)", e.Series.Count)
		}
		out = append(out, line)
	}
	return out
}

func (p *place) want(want ...string) {
	p.t.Helper()
	if got := p.events(); !slices.Equal(got, want) {
		p.t.Errorf("Events are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAnotherNoteIsAnotherEventAndTheSameOneIsCounted(t *testing.T) {
	p := newPlace(t)
	r := p.recorder(clock.RealClock{})
	p.start(r)
	for _, note := range []string{"no route to host", "the password is wrong", "no route to host", "no route to host"} {
		r.Eventf(p.about, nil, corev1.EventTypeWarning, "Failed", "Try", "%s", note)
	}
	p.end()
	p.want("Warning Failed: no route to host (3 times)", "Warning Failed: the password is wrong")
}

// A name is cut if there is no room for the instant, and a part of a DNS subdomain ends with a letter or a digit.
func TestNamesAreCutToValidNames(t *testing.T) {
	p := newPlace(t)
	const suffix = len(".18c8a1b2c3d4e5f6")
	for what, name := range map[string]string{
		"at a dot":              strings.Repeat("a", maxName-suffix-1) + "." + strings.Repeat("b", suffix),
		"at a hyphen":           strings.Repeat("c", maxName-suffix-1) + "-" + strings.Repeat("d", suffix),
		"between a hyphen, dot": strings.Repeat("e", maxName-suffix-3) + "-e." + strings.Repeat("f", suffix),
	} {
		about := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.about.Namespace, Name: name}}
		if err := p.client.Create(t.Context(), about); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		r := p.recorder(clock.RealClock{})
		p.ended = sync.Once{}
		p.start(r)
		r.Eventf(about, nil, corev1.EventTypeNormal, "Issued", "Publish", "%s", what)
		p.end()
	}
	if got := p.events(); len(got) != 3 {
		t.Errorf("Events are %q, want three", got)
	}
}

func TestTheSameEventIsEmittedAgainAfterTheWindow(t *testing.T) {
	p := newPlace(t)
	now := testclock.NewFakePassiveClock(time.Now())
	r := p.recorder(now)
	p.start(r)
	r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "once")
	now.SetTime(now.Now().Add(window + time.Second))
	r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "once")
	p.end()
	p.want("Normal Issued: once", "Normal Issued: once")
}

func TestADeletedEventIsRecreated(t *testing.T) {
	p := newPlace(t)
	r := p.recorder(clock.RealClock{})
	r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "once")
	r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "once")
	first := true
	p.funcs.Patch = func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
		if first {
			first = false
			_ = c.DeleteAllOf(ctx, &eventsv1.Event{}, client.InNamespace(o.GetNamespace()))
		}
		return c.Patch(ctx, o, patch, opts...)
	}
	r.client = interceptor.NewClient(p.client, p.funcs)
	p.start(r)
	p.end()
	p.want("Normal Issued: once")
}

func TestAnEventWithoutAnAnswerIsWrittenLater(t *testing.T) {
	p := newPlace(t)
	var asked atomic.Int32
	p.funcs.Create = func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		switch asked.Add(1) {
		case 1:
			return errors.New("connection refused")
		case 2:
			return apierrors.NewTooManyRequestsError("wait")
		case 3: // the answer is lost
			_ = c.Create(ctx, o.DeepCopyObject().(client.Object), opts...)
			return context.DeadlineExceeded
		}
		return c.Create(ctx, o, opts...)
	}
	r := p.recorder(clock.RealClock{})
	p.start(r)
	r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "once")
	for asked.Load() < 4 {
		time.Sleep(10 * time.Millisecond)
	}
	p.end()
	p.want("Normal Issued: once")
}

func TestARefusedEventIsNotRetried(t *testing.T) {
	p := newPlace(t)
	var asked atomic.Int32
	p.funcs.Create = func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
		asked.Add(1)
		return apierrors.NewForbidden(corev1.Resource("events"), "orders", errors.New("no"))
	}
	r := p.recorder(clock.RealClock{})
	p.start(r)
	r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "once")
	p.end()
	if asked.Load() != 1 {
		t.Errorf("sent %d times, want once", asked.Load())
	}
}

func TestNoReconcileWaitsForAnAPIServerThatHangs(t *testing.T) {
	p := newPlace(t)
	hang := make(chan struct{})
	p.funcs.Create = func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		<-hang
		return c.Create(ctx, o, opts...)
	}
	r := p.recorder(clock.RealClock{})
	p.start(r)
	for i := range 3 * waiting {
		r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "number %d", i)
	}
	close(hang)
	p.end()
	if got := len(p.events()); got == 0 || got > waiting+lanes {
		t.Errorf("%d Events were written, want at most %d and at least one", got, waiting+lanes)
	}
}

func TestANoteIsCutBetweenCharactersAndANameToTheAllowedLength(t *testing.T) {
	p := newPlace(t)
	long := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: p.about.Namespace, Name: strings.Repeat("n", maxName), UID: types.UID("1")}}
	r := p.recorder(clock.RealClock{})
	p.start(r)
	r.Eventf(long, nil, corev1.EventTypeNormal, "Issued", "Publish", "%s", strings.Repeat("é", maxNote))
	p.end()
	p.want("Normal Issued: " + strings.Repeat("é", (maxNote-3)/2) + "...")
}

func TestQueuedEventsAreWrittenBeforeTheProcessExits(t *testing.T) {
	p := newPlace(t)
	r := p.recorder(clock.RealClock{})
	p.start(r)
	p.stop()
	p.running.Wait()
	r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "by the last reconcile")
	p.end()
	p.want("Normal Issued: by the last reconcile")
}

func TestAProcessThatEndsDoesNotWaitForAnAPIServerThatHangs(t *testing.T) {
	p := newPlace(t)
	p.funcs.Create = func(ctx context.Context, _ client.WithWatch, _ client.Object, _ ...client.CreateOption) error {
		<-ctx.Done()
		return ctx.Err()
	}
	r := p.recorder(clock.RealClock{})
	p.start(r)
	r.Eventf(p.about, nil, corev1.EventTypeNormal, "Issued", "Publish", "once")
	p.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p.ended.Do(func() { r.Flush(ctx) })
	if left := r.left.Load(); left != 1 {
		t.Errorf("%d Events are left, want 1: the process waited for the API server", left)
	}
}
