// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"
)

// reviewer is the API server's access review.
type reviewer struct {
	authorizationclient.SelfSubjectAccessReviewInterface
	mu      sync.Mutex
	allowed bool
	err     error
	asked   int
}

func (r *reviewer) Create(_ context.Context, in *authorizationv1.SelfSubjectAccessReview, _ metav1.CreateOptions) (*authorizationv1.SelfSubjectAccessReview, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	out := in.DeepCopy()
	out.Status.Allowed = r.allowed
	return out, r.err
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// refusedOnce returns rights that were refused once, and the namespaces that were woken.
func refusedOnce(t *testing.T) (*Rights, *reviewer, *clocktesting.FakePassiveClock, *[]string) {
	t.Helper()
	passing, api, woken := clocktesting.NewFakePassiveClock(time.Now()), &reviewer{}, &[]string{}
	r := New(passing)
	r.reviews, r.log = api, logr.Discard()
	r.OnReturn(func(_ context.Context, namespace string) { *woken = append(*woken, namespace) })
	through := r.Wrap(transport(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusForbidden, Body: io.NopCloser(strings.NewReader(""))}, nil
	}))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://example.com/api/v1/namespaces/web/secrets/app", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := through.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return r, api, passing, woken
}

var update = Right{Verb: "update", Resource: "secrets", Namespace: "web"}

func (r *Rights) lookAtAll(ctx context.Context) {
	for _, right := range r.due() {
		r.check(ctx, right)
	}
}

func gauge(r *Rights) int {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(r)
	n, err := testutil.GatherAndCount(registry)
	if err != nil {
		panic(err)
	}
	return n
}

func TestARightIsMissingUntilItIsGrantedAgain(t *testing.T) {
	r, api, _, woken := refusedOnce(t)
	if r.Lacks(update) || gauge(r) != 0 {
		t.Error("a refusal alone counts as a missing right: it may be that of a quota")
	}
	r.lookAtAll(t.Context())
	if !r.Lacks(update) || gauge(r) != 1 || len(*woken) > 0 {
		t.Errorf("the right is not known to be missing, or a namespace was woken: %v", *woken)
	}
	if r.Returns("web") != 0 {
		t.Error("it came back before it was granted")
	}
	api.allowed = true
	r.lookAtAll(t.Context())
	if r.Lacks(update) || gauge(r) != 0 || len(*woken) != 1 || (*woken)[0] != "web" {
		t.Errorf("the right is granted, and %v was woken", *woken)
	}
	if r.Returns("web") != 1 || r.Returns("other") != 0 {
		t.Errorf("waits are reset %d times in web, %d times elsewhere", r.Returns("web"), r.Returns("other"))
	}
	if asked := api.asked; len(r.due()) != 0 || asked != 2 {
		t.Errorf("the API server is asked about it again and again (%d)", asked)
	}
}

func TestARefusalThatIsNotFromRBACIsForgotten(t *testing.T) {
	r, api, _, woken := refusedOnce(t)
	api.allowed = true // an admission plugin answered 403
	r.lookAtAll(t.Context())
	if r.Lacks(update) || gauge(r) != 0 || len(*woken) != 0 || len(r.due()) != 0 {
		t.Error("the refusal of a quota counts as a missing right")
	}
}

func TestWithoutAnswersAboutRightsNothingIsClaimed(t *testing.T) {
	r, api, passing, _ := refusedOnce(t)
	api.err = errors.New("no such API")
	r.lookAtAll(t.Context())
	if r.Lacks(update) || gauge(r) != 0 {
		t.Error("a right that was never reported counts as missing")
	}
	passing.SetTime(passing.Now().Add(believed))
	r.lookAtAll(t.Context())
	if len(r.due()) != 0 {
		t.Error("the API server is asked about it forever")
	}
}

// An overloaded API server that does not answer one question has not granted anything.
func TestAMissingRightStaysMissingWhileReviewsFail(t *testing.T) {
	r, api, passing, woken := refusedOnce(t)
	r.lookAtAll(t.Context())
	for range 3 {
		passing.SetTime(passing.Now().Add(believed - checkEvery))
		api.err = errors.New("too many requests")
		r.lookAtAll(t.Context())
		if !r.Lacks(update) || gauge(r) != 1 || len(*woken) != 0 || r.Returns("web") != 0 {
			t.Fatalf("a question without an answer counts as a right that is granted; woken: %v", *woken)
		}
		api.err = nil
		r.lookAtAll(t.Context())
	}
	api.err = errors.New("no such API")
	passing.SetTime(passing.Now().Add(believed))
	r.lookAtAll(t.Context())
	if len(*woken) != 1 || len(r.due()) != 0 {
		t.Errorf("no answer for %s, and nothing is retried; woken: %v", believed, *woken)
	}
}

func TestRightsAreBounded(t *testing.T) {
	r := New(clocktesting.NewFakePassiveClock(time.Now()))
	for n := range 2 * remembered {
		r.note(Right{Verb: "get", Resource: "secrets", Namespace: time.Duration(n).String()})
	}
	if len(r.refused) != remembered || len(r.due()) != checksAtOnce {
		t.Errorf("%d are remembered, %d requested at once", len(r.refused), len(r.due()))
	}
}

// origin is what an informer lists and watches.
type origin struct {
	mu          sync.Mutex
	list, watch error
	items       []corev1.Secret
	refusals    int
	stop        func()
}

func (o *origin) List(metav1.ListOptions) (runtime.Object, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.list != nil {
		o.refusals++
		return nil, o.list
	}
	return &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: o.items}, nil
}

func (o *origin) Watch(options metav1.ListOptions) (watch.Interface, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watch != nil {
		return nil, o.watch
	}
	if options.SendInitialEvents != nil {
		return nil, errors.New("lists are not streamed here")
	}
	w := watch.NewFake()
	o.stop = w.Stop
	return w, nil
}

func (o *origin) set(list, watch error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list, o.watch, o.refusals = list, watch, 0
	if o.stop != nil {
		o.stop()
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(20 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatal(what)
}

func TestACacheWithoutRightsBlocksNothingAndIsNeverEmptied(t *testing.T) {
	may := func(verb string) error {
		return answered("secrets", "", operator+` cannot `+verb+` resource "secrets" in API group "" in the namespace "web"`)
	}
	from := &origin{list: may("list"), watch: may("watch"), items: []corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "app", ResourceVersion: "1"}}}}
	r := New(clocktesting.NewFakePassiveClock(time.Now()))
	var mu sync.Mutex
	var woken []string
	r.OnReturn(func(_ context.Context, namespace string) {
		mu.Lock()
		defer mu.Unlock()
		woken = append(woken, namespace)
	})
	wakes := func(want int) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return len(woken) == want && woken[want-1] == "web" }
	}
	informer := r.NewInformer(from, &corev1.Secret{}, 0, toolscache.Indexers{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go informer.RunWithContext(ctx)
	until(t, "the informer blocks the start", informer.HasSynced)
	secret := &corev1.Secret{}
	if right, blind := r.Blind(secret, "web"); !blind || right.Resource != "secrets" || right.Namespace != "web" {
		t.Errorf("it is not reported that the cache is empty because a right is missing: %v", right)
	}
	if _, blind := r.Blind(secret, "other"); blind || len(r.BlindIn("rekey-system")) > 0 || !r.Pretended(secret) {
		t.Error("one namespace affects others")
	}
	until(t, "the namespace is not woken when the cache does not follow", wakes(1))
	from.set(nil, nil)
	until(t, "the right is back, but the cache is not filled", func() bool { return len(informer.GetStore().ListKeys()) == 1 })
	until(t, "the right is back, but the cache is reported as blind", func() bool { _, blind := r.Blind(secret, "web"); return !blind })
	until(t, "the namespace is not woken when the cache follows again", wakes(2))
	from.set(may("list"), may("watch"))
	until(t, "the right is lost again, but not reported", func() bool { _, blind := r.Blind(secret, "web"); return blind })
	until(t, "the namespace is not woken when the right is lost", wakes(3))
	until(t, "nothing is listed again", func() bool { from.mu.Lock(); defer from.mu.Unlock(); return from.refusals > 1 })
	time.Sleep(time.Second)
	if len(informer.GetStore().ListKeys()) != 1 {
		t.Error("a filled cache was emptied because a right is missing")
	}
}

func TestNilRightsBlockNothing(t *testing.T) {
	var none *Rights
	if _, blind := none.Blind(&corev1.Secret{}, "web"); blind || none.Pretended(&corev1.Secret{}) || none.Lacks(update) || none.Returns("web") != 0 ||
		len(none.BlindIn("web"))+len(none.MissingIn("")) > 0 {
		t.Error("a nil *Rights has content")
	}
}
