// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
)

const (
	// checkEvery is how often the API server is asked whether a right is granted again.
	checkEvery = 5 * time.Second
	// checksAtOnce is how many rights are asked about in a row, those asked about longest ago first.
	checksAtOnce = 20
	// remembered is the maximum number of rights remembered: a right that is missing everywhere is missing in each
	// namespace.
	remembered = 1000
	// believed is how long a refusal counts if the API server does not answer whether the right is missing.
	believed = 10 * time.Minute
	// patience is the deadline of one request.
	patience = 5 * time.Second
)

// Rights are those that the API server has refused, until it grants them. A nil *Rights has none.
type Rights struct {
	clock   clock.PassiveClock
	reviews authorizationclient.SelfSubjectAccessReviewInterface
	log     logr.Logger
	metric  *prometheus.Desc
	// news signals a newly refused right.
	news chan struct{}

	mu      sync.Mutex
	refused map[Right]*refusal
	// returns counts, by namespace, how often a right was granted again.
	returns map[string]int64
	wake    []func(ctx context.Context, namespace string)
	blind   map[place]Right
	// pretended are the kinds with a cache that counted as synced while empty.
	pretended map[string]bool
}

// refusal is what is known about one right.
type refusal struct {
	// missing is true if the API server confirmed it when asked; an admission plugin refuses with the same status.
	missing bool
	// known is when the refusal, or the last answer about the right, arrived; asked is when it was last asked about.
	known, asked time.Time
}

// New returns empty Rights.
func New(passing clock.PassiveClock) *Rights {
	return &Rights{
		clock: passing, news: make(chan struct{}, 1),
		refused: map[Right]*refusal{}, returns: map[string]int64{}, blind: map[place]Right{}, pretended: map[string]bool{},
		metric: prometheus.NewDesc("rekey_permission_missing",
			"1 for each right that rekey needed, that was refused, and that the API server still does not grant.", []string{"verb", "resource", "namespace"}, nil),
	}
}

// Wrap returns a transport that records every refusal.
func (r *Rights) Wrap(next http.RoundTripper) http.RoundTripper { return noting{rights: r, next: next} }

type noting struct {
	rights *Rights
	next   http.RoundTripper
}

// askedKey is the context key of the Right that the transport sets to the right of a refused request.
type askedKey struct{}

// asking returns a context in which the transport records the right of a refused request.
func asking(ctx context.Context) (context.Context, *Right) {
	asked := &Right{}
	return context.WithValue(ctx, askedKey{}, asked), asked
}

// RoundTrip implements http.RoundTripper.
func (n noting) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := n.next.RoundTrip(request)
	if err == nil && response.StatusCode == http.StatusForbidden {
		if right, ok := rightOf(request); ok {
			n.rights.note(right)
			if asked, ok := request.Context().Value(askedKey{}).(*Right); ok {
				*asked = right
			}
		}
	}
	return response, err
}

// verbs maps HTTP methods to verbs for one object.
var verbs = map[string]string{
	http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}

// rightOf returns the right that a request needs; ok is false if it is not about a resource.
func rightOf(request *http.Request) (right Right, ok bool) {
	parts := strings.Split(strings.Trim(request.URL.Path, "/"), "/")
	root := slices.IndexFunc(parts, func(part string) bool { return part == "api" || part == "apis" })
	if root < 0 {
		return right, false
	}
	grouped := parts[root] == "apis"
	parts = parts[root+1:]
	if grouped && len(parts) > 0 {
		right.Group, parts = parts[0], parts[1:]
	}
	if len(parts) < 2 {
		return right, false // discovery
	}
	parts = parts[1:]
	if parts[0] == "namespaces" && len(parts) > 2 {
		right.Namespace, parts = parts[1], parts[2:]
	}
	right.Resource, right.Verb = parts[0], verbs[request.Method]
	if len(parts) > 2 {
		right.Resource += "/" + parts[2]
	}
	if len(parts) == 1 {
		switch {
		case right.Verb == "get" && request.URL.Query().Get("watch") == "true":
			right.Verb = "watch"
		case right.Verb == "get":
			right.Verb = "list"
		case right.Verb == "delete":
			right.Verb = "deletecollection"
		}
	}
	return right, right.Verb != "" && !strings.HasPrefix(right.Resource, "selfsubject")
}

func (r *Rights) note(right Right) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.refused[right]; known || len(r.refused) >= remembered {
		return
	}
	r.refused[right] = &refusal{known: r.clock.Now()}
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// OnReturn registers wake, which is called for a namespace in which a right was granted again, or which a cache starts or stops
// following; the namespace is empty for a right that is needed for the whole cluster.
func (r *Rights) OnReturn(wake func(ctx context.Context, namespace string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wake = append(r.wake, wake)
}

// Returns returns how often a right that matters in the namespace was granted again. An object that waits because of a missing
// right resets its waits when this changes.
func (r *Rights) Returns(namespace string) int64 {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	count := r.returns[""]
	if namespace != "" {
		count += r.returns[namespace]
	}
	return count
}

// Lacks reports whether a right is known to be missing.
func (r *Rights) Lacks(right Right) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.refused[right]
	return known != nil && known.missing
}

// MissingIn returns the rights of an API group that are known to be missing.
func (r *Rights) MissingIn(group string) []Right {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Right
	for right, known := range r.refused {
		if known.missing && right.Group == group {
			out = append(out, right)
		}
	}
	slices.SortFunc(out, compare)
	return out
}

func compare(a, b Right) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name(), b.Name()), strings.Compare(a.Verb, b.Verb))
}

// Connect sets the API server to ask about rights, and the log. It is called before Start.
func (r *Rights) Connect(config *rest.Config, client *http.Client, log logr.Logger) error {
	found, err := authorizationclient.NewForConfigAndClient(config, client)
	if err != nil {
		return fmt.Errorf("creating a client for access reviews: %w", err)
	}
	r.reviews, r.log = found.SelfSubjectAccessReviews(), log.WithName("rights")
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: a process that is not allowed to get the lease must report it.
func (r *Rights) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable: it asks about refused rights until ctx ends.
func (r *Rights) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		due := r.due()
		if len(due) == 0 {
			select {
			case <-r.news:
			case <-ctx.Done():
			}
			continue
		}
		for _, right := range due {
			r.check(ctx, right)
		}
		pause(ctx, checkEvery)
	}
	return nil
}

// pause waits for the given time, or until ctx ends.
func pause(ctx context.Context, wait time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	<-ctx.Done()
}

// due returns the rights to ask about next.
func (r *Rights) due() []Right {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.SortedFunc(maps.Keys(r.refused), func(a, b Right) int {
		return cmp.Or(r.refused[a].asked.Compare(r.refused[b].asked), compare(a, b))
	})
	return out[:min(len(out), checksAtOnce)]
}

// check asks whether a right is granted now.
func (r *Rights) check(ctx context.Context, right Right) {
	resource, sub, _ := strings.Cut(right.Resource, "/")
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	review, err := r.reviews.Create(asking, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: right.Namespace, Verb: right.Verb, Group: right.Group, Resource: resource, Subresource: sub},
	}}, metav1.CreateOptions{})
	if ctx.Err() != nil {
		return
	}
	allowed := err == nil && review.Status.Allowed && !review.Status.Denied
	nowMissing, back := r.learn(right, allowed, err != nil)
	if nowMissing {
		r.log.Info("A right is missing", "verb", right.Verb, "resource", right.Name(), "namespace", right.Namespace, "cause", right.Text())
	}
	if back == nil {
		return
	}
	message := "A right is granted again"
	if err != nil {
		message = "The API server did not report whether a right is granted; retrying what needs it"
	}
	r.log.Info(message, "verb", right.Verb, "resource", right.Name(), "namespace", right.Namespace)
	for _, wake := range back {
		wake(ctx, right.Namespace)
	}
}

// learn records an answer. nowMissing is true if the right is known to be missing from now on. back holds the functions to call if
// it was missing and is granted now, or if there was no answer for so long that only a new attempt can show it.
func (r *Rights) learn(right Right, allowed, unknown bool) (nowMissing bool, back []func(context.Context, string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known, now := r.refused[right], r.clock.Now()
	if known == nil {
		return false, nil
	}
	known.asked = now
	if !unknown {
		known.known = now
	}
	switch {
	case unknown && now.Sub(known.known) < believed: // no answer changes nothing
	case unknown || allowed:
		delete(r.refused, right)
		if known.missing {
			r.returns[right.Namespace]++
			return false, slices.Clone(r.wake)
		}
	case !known.missing:
		known.missing = true
		return true, nil
	}
	return false, nil
}

// Describe implements prometheus.Collector.
func (r *Rights) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- r.metric }

// Collect implements prometheus.Collector.
func (r *Rights) Collect(out chan<- prometheus.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for right, known := range r.refused {
		if known.missing {
			out <- prometheus.MustNewConstMetric(r.metric, prometheus.GaugeValue, 1, right.Verb, right.Name(), right.Namespace)
		}
	}
}
