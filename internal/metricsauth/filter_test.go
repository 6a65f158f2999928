// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package metricsauth

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rekey/rekey/internal/cache"
)

const token = "canary-token-0123456789"

// asked stands in for the API server: the test chooses the answers, and the requests are recorded. test/security shows that
// a real one receives the right requests.
type asked struct {
	mu       sync.Mutex
	known    bool
	allowed  bool
	broken   map[string]bool // by the last part of the path
	block    chan struct{}
	most     int
	now      int
	reviews  []authenticationv1.TokenReviewSpec
	accesses []authorizationv1.SubjectAccessReviewSpec
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.now++
	a.most = max(a.most, a.now)
	block := a.block
	a.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now--
	kind := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	text, _ := io.ReadAll(r.Body)
	if a.broken[kind] {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":%q}`, text)
		return
	}
	var answer runtime.Object
	switch kind {
	case "tokenreviews":
		review := &authenticationv1.TokenReview{}
		_ = json.Unmarshal(text, review)
		a.reviews = append(a.reviews, review.Spec)
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: a.known}
		if a.known {
			review.Status.User = authenticationv1.UserInfo{Username: "prometheus", UID: "u-1", Groups: []string{"scrapers"}, Extra: map[string]authenticationv1.ExtraValue{"pod": {"p-0"}}}
		}
		answer = review
	case "subjectaccessreviews":
		review := &authorizationv1.SubjectAccessReview{}
		_ = json.Unmarshal(text, review)
		a.accesses = append(a.accesses, review.Spec)
		review.Status = authorizationv1.SubjectAccessReviewStatus{Allowed: a.allowed}
		answer = review
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	if text, err := json.Marshal(answer); err == nil {
		_, _ = w.Write(text)
	}
}

// world is a filter in front of metrics that contain "secret numbers".
type world struct {
	asked
	clock   *clocktesting.FakePassiveClock
	handler http.Handler
	log     strings.Builder
	logging sync.Mutex
	guard   *guard
	others  *cache.Bounded[answer]
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{asked: asked{known: true, allowed: true, broken: map[string]bool{}}, clock: clocktesting.NewFakePassiveClock(time.Unix(1e9, 0))}
	server := httptest.NewServer(&w.asked)
	t.Cleanup(server.Close)
	g, err := newGuard(&rest.Config{Host: server.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, server.Client(), w.clock)
	if err != nil {
		t.Fatal(err)
	}
	w.guard, w.others = g, g.others.answers
	log := funcr.New(func(prefix, args string) {
		w.logging.Lock()
		defer w.logging.Unlock()
		fmt.Fprintln(&w.log, prefix, args)
	}, funcr.Options{Verbosity: 9})
	w.handler = g.before(log, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "secret numbers") }))
	return w
}

// get requests the metrics and fails if they arrive with a status other than 200, or if anything shows the token.
func (w *world) get(t *testing.T, header string) int {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	if header != "" {
		request.Header.Set("Authorization", header)
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, request)
	if shown := strings.Contains(answer.Body.String(), "secret numbers"); shown != (answer.Code == http.StatusOK) {
		t.Errorf("status %d with %q", answer.Code, answer.Body)
	}
	w.logging.Lock()
	defer w.logging.Unlock()
	if said := w.log.String() + answer.Body.String(); strings.Contains(said, token) {
		t.Errorf("the token is shown: %s", said)
	}
	return answer.Code
}

func TestTheReviewsHaveEveryField(t *testing.T) {
	w := newWorld(t)
	if code := w.get(t, "bearer "+token); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	if diff := cmp.Diff([]authenticationv1.TokenReviewSpec{{Token: token}}, w.reviews); diff != "" {
		t.Error(diff)
	}
	want := []authorizationv1.SubjectAccessReviewSpec{{User: "prometheus", UID: "u-1", Groups: []string{"scrapers"}, Extra: map[string]authorizationv1.ExtraValue{"pod": {"p-0"}},
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: "/metrics", Verb: "get"}}}
	if diff := cmp.Diff(want, w.accesses); diff != "" {
		t.Error(diff)
	}
}

func TestAClientWithoutTheRightIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		header         string
		known, allowed bool
		broken         string
		status, asked  int
	}{
		"no token":                         {"", true, true, "", http.StatusUnauthorized, 0},
		"a scheme alone":                   {"Bearer", true, true, "", http.StatusUnauthorized, 0},
		"an empty token":                   {"Bearer  ", true, true, "", http.StatusUnauthorized, 0},
		"another scheme":                   {"Basic " + token, true, true, "", http.StatusUnauthorized, 0},
		"an oversized token":               {"Bearer " + strings.Repeat("x", longestToken+1), true, true, "", http.StatusUnauthorized, 0},
		"a token that does not exist":      {"Bearer " + token, false, true, "", http.StatusUnauthorized, 1},
		"an account without the right":     {"Bearer " + token, true, false, "", http.StatusForbidden, 1},
		"the token review fails":           {"Bearer " + token, true, true, "tokenreviews", http.StatusInternalServerError, 0},
		"the access review fails":          {"Bearer " + token, true, true, "subjectaccessreviews", http.StatusInternalServerError, 1},
		"the account is known and allowed": {"Bearer " + token, true, true, "", http.StatusOK, 1},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.known, w.allowed, w.broken[tc.broken] = tc.known, tc.allowed, true
			if code := w.get(t, tc.header); code != tc.status || len(w.reviews) != tc.asked {
				t.Errorf("status %d after %d reviews, want %d after %d", code, len(w.reviews), tc.status, tc.asked)
			}
			// A failed request is not cached.
			clear(w.broken)
			if code := w.get(t, tc.header); tc.broken != "" && code != http.StatusOK {
				t.Errorf("status %d when the API server answers again", code)
			}
		})
	}
}

func TestAnAnswerHoldsForAWhile(t *testing.T) {
	for _, tc := range []struct {
		allowed bool
		status  int
		holds   time.Duration
	}{{true, http.StatusOK, allowedFor}, {false, http.StatusForbidden, refusedFor}} {
		w := newWorld(t)
		w.allowed = tc.allowed
		first := w.clock.Now()
		steps := []struct {
			after  time.Duration
			status int
			asked  int
		}{{0, tc.status, 1}, {tc.holds - 1, tc.status, 1}, {tc.holds, http.StatusUnauthorized, 2}}
		for _, step := range steps {
			w.clock.SetTime(first.Add(step.after))
			if code := w.get(t, "Bearer "+token); code != step.status || len(w.reviews) != step.asked {
				t.Errorf("%s after an answer %d: status %d after %d reviews, want %d after %d", step.after, tc.status, code, len(w.reviews), step.status, step.asked)
			}
			w.known = false // the token is revoked
		}
	}
}

// The answer for one path, verb and token does not apply to another.
func TestAnAnswerAppliesToOneRequest(t *testing.T) {
	w := newWorld(t)
	w.get(t, "Bearer "+token)
	w.known = false
	if code := w.get(t, "Bearer other"); code != http.StatusUnauthorized {
		t.Errorf("another token: status %d", code)
	}
	for _, r := range []*http.Request{httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/metrics", http.NoBody), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/debug", http.NoBody)} {
		r.Header.Set("Authorization", "Bearer "+token)
		answer := httptest.NewRecorder()
		w.handler.ServeHTTP(answer, r)
		if answer.Code != http.StatusUnauthorized {
			t.Errorf("%s %s: status %d", r.Method, r.URL, answer.Code)
		}
	}
}

// While unknown clients wait, a client that was allowed before is checked and admitted.
func TestUnknownClientsNeitherFloodTheAPIServerNorBlockReaders(t *testing.T) {
	w := newWorld(t)
	w.guard.patience = 30 * time.Second // The unknown clients stay for the whole test, also on a busy machine.
	if code := w.get(t, "Bearer "+token); code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	for i := range 4 * remembered {
		w.others.Put(cache.Key{byte(i), byte(i >> 8)}, answer{status: http.StatusUnauthorized})
	}
	w.clock.SetTime(w.clock.Now().Add(allowedFor)) // the answer has expired
	w.known, w.block = false, make(chan struct{})
	var all sync.WaitGroup
	for i := range 5 * atOnce {
		all.Go(func() { w.get(t, fmt.Sprintf("Bearer made-up-%d", i)) })
	}
	inside := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}
	for begun := time.Now(); inside() < atOnce && time.Since(begun) < 10*time.Second; {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // wait for one request too many
	if now := inside(); now != atOnce {
		t.Errorf("%d requests at once, want %d", now, atOnce)
	}
	w.mu.Lock()
	block := w.block
	w.known, w.block = true, nil
	w.mu.Unlock()
	if code := w.get(t, "Bearer "+token); code != http.StatusOK {
		t.Errorf("status %d for a client allowed before, while unknown clients wait", code)
	}
	if now := inside(); now != atOnce {
		t.Errorf("%d unknown clients wait for the API server, want %d", now, atOnce)
	}
	close(block)
	all.Wait()
}

func TestAClientThatDisconnectsIsNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.block = make(chan struct{})
	defer close(w.block)
	ctx, cancel := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/metrics", http.NoBody)
	r.Header.Set("Authorization", "Bearer "+token)
	answer := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.handler.ServeHTTP(answer, r)
	}()
	cancel()
	<-done
	if answer.Code != http.StatusServiceUnavailable || w.log.Len() > 0 {
		t.Errorf("status %d, logged %q", answer.Code, w.log.String())
	}
}
