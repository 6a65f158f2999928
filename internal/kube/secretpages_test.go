// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
)

// stock holds the Secrets of an API server, as their sizes in the order of their names.
type stock struct {
	sizes []int
	// asked counts requests, broken the responses that exceeded their limit, and most is the longest that was held.
	asked, broken, most int
	page                int64
}

func (s *stock) answer(limit int64, from string) (*corev1.SecretList, int) {
	begin, _ := strconv.Atoi(from)
	out, size := &corev1.SecretList{ListMeta: metav1.ListMeta{ResourceVersion: "42"}}, 0
	for i := begin; i < len(s.sizes) && int64(len(out.Items)) < limit; i++ {
		secret := labeled("shop", fmt.Sprint("secret-", i))
		secret.Data = map[string][]byte{"x": bytes.Repeat([]byte("x"), s.sizes[i])}
		out.Items = append(out.Items, *secret)
		size += s.sizes[i]
	}
	if end := begin + len(out.Items); end < len(s.sizes) {
		out.Continue = fmt.Sprint(end)
	}
	s.asked++
	s.page = max(s.page, limit)
	return out, size
}

// lists returns a list whose transport enforces limits, or does not.
func (s *stock) lists(bounds bool) *toolscache.ListWatch {
	return &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			page, size := s.answer(options.Limit, options.Continue)
			if bound, ok := ctx.Value(answerBoundKey{}).(*answerBound); ok && bounds {
				bound.heeded = true
				if bound.most > 0 && int64(size) > bound.most {
					s.broken++
					return nil, fmt.Errorf("reading the body: %w", errAnswerTooLong)
				}
			}
			s.most = max(s.most, size)
			return page, nil
		},
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) { return watch.NewFake(), nil },
	}
}

// Many small Secrets are read in few requests, and large ones a few at a time, in whatever order they come.
func TestThePageOfSecretsFitsTheirSize(t *testing.T) {
	t.Parallel()
	many := func(n, size int) (out []int) {
		for range n {
			out = append(out, size)
		}
		return out
	}
	const small, large = 1 << 10, 1 << 20
	random := rand.New(rand.NewPCG(1, 2))
	mixed := append(many(2000, small), many(60, large)...)
	random.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	for name, tc := range map[string]struct {
		sizes     []int
		unbounded bool
		requests  int
	}{
		"10,000 small ones":                       {sizes: many(10_000, small), requests: 30},
		"10,000 small ones, without a bound":      {sizes: many(10_000, small), unbounded: true, requests: 313},
		"100 large ones":                          {sizes: many(100, large), requests: 4},
		"large ones behind small ones":            {sizes: append(many(3000, small), many(100, large)...), requests: 20},
		"small ones behind large ones":            {sizes: append(many(100, large), many(3000, small)...), requests: 20},
		"large ones, small ones, and large ones":  {sizes: append(append(many(40, large), many(3000, small)...), many(100, large)...), requests: 25},
		"all mixed":                               {sizes: mixed, requests: 80},
		"none":                                    {requests: 1},
		"one":                                     {sizes: many(1, small), requests: 1},
		"as many as a page":                       {sizes: many(secretsPage, small), requests: 1},
		"those that hold nothing":                 {sizes: many(3000, 0), requests: 12},
		"large ones between many small, thrice":   {sizes: append(append(many(1000, small), many(40, large)...), append(many(1000, small), many(40, large)...)...), requests: 80},
		"just above what an answer may have, all": {sizes: many(600, mostPageBytes/largestSecretsPage+1), requests: 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &stock{sizes: tc.sizes}
			answer, err := newExpectedSecrets(someKinds).secrets(s.lists(!tc.unbounded)).ListWithContext(t.Context(), metav1.ListOptions{ResourceVersion: "0", Limit: 500})
			if err != nil {
				t.Fatal(err)
			}
			got := answer.(*corev1.SecretList)
			seen := map[string]bool{}
			for i := range got.Items {
				seen[got.Items[i].Name] = true
			}
			if len(got.Items) != len(tc.sizes) || len(seen) != len(tc.sizes) || got.ResourceVersion != "42" || got.Continue != "" {
				t.Errorf("%d of %d Secrets, %d different ones", len(got.Items), len(tc.sizes), len(seen))
			}
			if s.asked > tc.requests || s.most > secretsPage*(1<<20) || s.broken > 1 || s.page > largestSecretsPage {
				t.Errorf("%d requests, want at most %d; at most %d bytes at once; %d answers broken off; pages of at most %d", s.asked, tc.requests, s.most, s.broken, s.page)
			}
		})
	}
}

// A real client reads the response of a real server through the transport.
func TestAnAnswerThatIsTooLongIsCutOff(t *testing.T) {
	t.Parallel()
	s := &stock{}
	for range 700 {
		s.sizes = append(s.sizes, 1<<10)
	}
	for range 40 {
		s.sizes = append(s.sizes, 300<<10)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit, _ := strconv.ParseInt(r.URL.Query().Get("limit"), 10, 64)
		page, _ := s.answer(limit, r.URL.Query().Get("continue"))
		page.APIVersion, page.Kind = "v1", "SecretList"
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(page); err != nil && limit <= secretsPage {
			t.Error(err)
		}
	}))
	defer server.Close()
	config := &rest.Config{Host: server.URL, QPS: -1}
	config.Wrap(BoundAnswers)
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	list := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return clients.CoreV1().Secrets("").List(ctx, options)
	}
	answer, err := newExpectedSecrets(someKinds).secrets(&toolscache.ListWatch{ListWithContextFunc: list}).ListWithContext(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(answer.(*corev1.SecretList).Items); got != len(s.sizes) || s.page <= secretsPage {
		t.Errorf("%d of %d Secrets, in pages of at most %d", got, len(s.sizes), s.page)
	}
	for most, want := range map[int64]error{100: errAnswerTooLong, 64 << 20: nil, 0: nil} {
		ctx := context.WithValue(t.Context(), answerBoundKey{}, &answerBound{most: most})
		if _, err := list(ctx, metav1.ListOptions{Limit: 10}); !errors.Is(err, want) {
			t.Errorf("at most %d bytes: %v", most, err)
		}
	}
}
