// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package eventrecorder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/reference"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/internal/cache"
)

const (
	// lanes is how many goroutines write. All Events of an object are in one lane.
	lanes = 8
	// waiting is how many Events a lane queues; more are dropped, since callers must not wait.
	waiting = 256
	// remembered is how many Events are remembered, so that a repeated one is counted instead.
	remembered = 256
	// window is the time in which a repeated Event is counted instead of written again.
	window = 6 * time.Minute
	// tries is how often an Event is sent if the API server does not answer, and firstWait the wait after the first time.
	tries     = 6
	firstWait = 250 * time.Millisecond
	// attempt is the deadline of one request, and flushLook how often Flush checks whether everything is written.
	attempt   = 10 * time.Second
	flushLook = 10 * time.Millisecond
	// maxNote and maxName are the API server's limits, in bytes (events.k8s.io/v1, Event.note; DNS subdomain).
	maxNote = 1024
	maxName = 253
	// maxInstance is the limit of reportingInstance.
	maxInstance = 128
)

// Recorder writes Events. It implements client-go's events.EventRecorder, and manager.Runnable: nothing is written before Start,
// and Flush stops it.
type Recorder struct {
	client   client.Client
	scheme   *runtime.Scheme
	clock    clock.PassiveClock
	log      logr.Logger
	name     string
	instance string
	lanes    [lanes]chan *queuedEvent
	left     atomic.Int64
	stop     chan struct{}

	mu   sync.Mutex
	seen *cache.Bounded[*series]
}

// series is an Event that was recorded once or more. The mutex guards it.
type series struct {
	key   client.ObjectKey
	since time.Time
	count int32
}

// queuedEvent is an Event to be written, and its number in its series.
type queuedEvent struct {
	event  *eventsv1.Event
	series *series
	count  int32
}

// New returns a recorder that writes with the client, in the name of a controller.
func New(writes client.Client, clock clock.PassiveClock, log logr.Logger, name string) *Recorder {
	host, _ := os.Hostname() // without a host the name alone identifies the writer
	r := &Recorder{client: writes, scheme: writes.Scheme(), clock: clock, log: log, name: name, seen: cache.New[*series](remembered), stop: make(chan struct{})}
	r.instance = strings.TrimSuffix(name+"-"+host, "-")
	r.instance = r.instance[:min(len(r.instance), maxInstance)]
	for i := range r.lanes {
		r.lanes[i] = make(chan *queuedEvent, waiting)
	}
	return r
}

// Eventf implements events.EventRecorder. It does not wait: if the API server cannot keep up for long, Events are dropped and
// logged.
func (r *Recorder) Eventf(regarding, related runtime.Object, kind, reason, action, note string, args ...any) {
	about, err := reference.GetReference(r.scheme, regarding)
	if err != nil {
		r.log.Error(err, "Dropped an Event: no object reference", "reason", reason)
		return
	}
	one := r.number(r.event(about, kind, reason, action, fmt.Sprintf(note, args...)), related)
	lane := fnv.New32a()
	_, _ = lane.Write([]byte(about.UID)) // a hash accepts everything
	r.left.Add(1)
	select {
	case r.lanes[lane.Sum32()%lanes] <- one:
	default:
		r.left.Add(-1)
		r.log.Info("Dropped an Event: the API server cannot keep up", "namespace", about.Namespace, "name", about.Name, "reason", reason)
	}
}

func (r *Recorder) event(about *corev1.ObjectReference, kind, reason, action, note string) *eventsv1.Event {
	now := r.clock.Now()
	suffix := fmt.Sprintf(".%x", now.UnixNano())
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cmp.Or(about.Namespace, metav1.NamespaceDefault),
			Name:      strings.TrimRight(about.Name[:min(len(about.Name), maxName-len(suffix))], "-.") + suffix,
		},
		EventTime: metav1.NewMicroTime(now), Type: kind, Reason: reason, Action: action, Note: Bounded(note, maxNote),
		ReportingController: r.name, ReportingInstance: r.instance, Regarding: *about,
	}
}

// Bounded cuts a text between characters and keeps only valid UTF-8: otherwise the API server would store a text that differs
// from the one it is compared with, and it would be written again and again.
func Bounded(text string, most int) string {
	if len(text) > most {
		text = text[:most-len("...")]
		return strings.ToValidUTF8(text, "") + "..."
	}
	return strings.ToValidUTF8(text, "?")
}

// number counts the Event in its series, or starts a new series.
func (r *Recorder) number(event *eventsv1.Event, related runtime.Object) *queuedEvent {
	if related != nil {
		event.Related, _ = reference.GetReference(r.scheme, related)
	}
	key := digest(event)
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.seen.Get(key)
	if !ok || event.EventTime.Sub(known.since) > window {
		known = &series{key: client.ObjectKeyFromObject(event), since: event.EventTime.Time}
		r.seen.Put(key, known)
	}
	known.count++
	return &queuedEvent{event, known, known.count}
}

func digest(e *eventsv1.Event) cache.Key {
	return sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%s\x00%v", e.Regarding.UID, e.Type, e.Reason, e.Action, e.Note, e.Related))
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: every process writes its own Events.
func (r *Recorder) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable: it starts to write, and returns when ctx ends. The writing continues until Flush: a manager
// stops its reconciles last, and their Events count.
func (r *Recorder) Start(ctx context.Context) error {
	for _, lane := range r.lanes {
		go r.work(context.WithoutCancel(ctx), lane)
	}
	<-ctx.Done()
	return nil
}

// Flush waits until every recorded Event is written, or until ctx ends, and then logs how many are lost. No Event may be
// recorded anymore, and none is written afterwards.
func (r *Recorder) Flush(ctx context.Context) {
	defer close(r.stop)
	for r.left.Load() > 0 {
		if ctx.Err() != nil {
			r.log.Info("Events were not written: the process is exiting", "count", r.left.Load())
			return
		}
		pause(ctx, flushLook)
	}
}

func (r *Recorder) work(ctx context.Context, lane <-chan *queuedEvent) {
	for {
		select {
		case one := <-lane:
			r.write(ctx, one)
			r.left.Add(-1)
		case <-r.stop:
			return
		}
	}
}

// write retries until the API server answers, or for long enough. A refused Event is not retried.
func (r *Recorder) write(ctx context.Context, one *queuedEvent) {
	err := r.once(ctx, one)
	for n, wait := 1, firstWait; n < tries && err != nil && !refused(err) && ctx.Err() == nil; n, wait = n+1, 2*wait {
		pause(ctx, wait)
		err = r.once(ctx, one)
	}
	if err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		r.log.Info("An Event was not written", "namespace", one.event.Namespace, "name", one.event.Regarding.Name, "reason", one.event.Reason, "error", err.Error())
	}
}

// pause waits for the given time, or until ctx ends.
func pause(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	<-ctx.Done()
}

// refused reports whether the API server has answered and will not soon answer differently.
func refused(err error) bool {
	code := apierrors.ReasonForError(err)
	return code != metav1.StatusReasonUnknown && !apierrors.IsTooManyRequests(err) && !apierrors.IsServerTimeout(err) &&
		!apierrors.IsTimeout(err) && !apierrors.IsInternalError(err) && !apierrors.IsServiceUnavailable(err)
}

// once writes the Event, or counts it if it was written before.
func (r *Recorder) once(ctx context.Context, one *queuedEvent) error {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	if one.count > 1 {
		err := r.count(ctx, one)
		if !apierrors.IsNotFound(err) {
			return err
		}
		one.event.Name = one.series.key.Name // the next one is counted there
	}
	err := r.client.Create(ctx, one.event.DeepCopy())
	if apierrors.IsAlreadyExists(err) {
		return nil // the answer to an earlier request was lost
	}
	return err
}

func (r *Recorder) count(ctx context.Context, one *queuedEvent) error {
	first := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: one.series.key.Namespace, Name: one.series.key.Name}}
	patch := fmt.Appendf(nil, `{"series":{"count":%d,"lastObservedTime":%q}}`, one.count, one.event.EventTime.UTC().Format(metav1.RFC3339Micro))
	return r.client.Patch(ctx, first, client.RawPatch("application/merge-patch+json", patch))
}
