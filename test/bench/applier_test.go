// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// connections of the applying client.
const connections = 20

// applier is a client that costs as little as possible: bodies are prepared, answers are discarded.
type applier struct {
	base    string
	http    *http.Client
	watches []context.CancelFunc
}

// close ends the watches: the API server would wait for them when it stops.
func (a *applier) close() {
	for _, end := range a.watches {
		end()
	}
	a.http.CloseIdleConnections()
}

func newApplier(config *rest.Config) (*applier, error) {
	trust, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("preparing TLS: %w", err)
	}
	return &applier{base: strings.TrimSuffix(config.Host, "/"), http: &http.Client{Transport: &http.Transport{
		TLSClientConfig: trust, MaxIdleConnsPerHost: 2 * connections,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1: one connection each.
	}}}, nil
}

// do sends a request to the API server.
type request struct {
	method, path, contentType string
	body                      []byte
}

func (a *applier) do(ctx context.Context, r request) (*http.Response, error) {
	ask, err := http.NewRequestWithContext(ctx, r.method, a.base+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("creating a request: %w", err)
	}
	ask.Header.Set("Content-Type", r.contentType)
	answer, err := a.http.Do(ask)
	if err != nil {
		return nil, fmt.Errorf("sending a request to the API server: %w", err)
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
		_ = answer.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", r.method, r.path, answer.Status, text)
	}
	return answer, nil
}

func (a *applier) get(ctx context.Context, path string) ([]byte, error) {
	answer, err := a.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	return io.ReadAll(answer.Body)
}

// stream returns an endless answer. The caller closes it.
func (a *applier) stream(ctx context.Context, path string) (io.ReadCloser, error) {
	answer, err := a.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// send sends all requests, over all connections, and returns once the last is answered.
func (a *applier) send(ctx context.Context, requests []request) error {
	next := make(chan request)
	failed := make(chan error, connections)
	var group sync.WaitGroup
	for range connections {
		group.Go(func() {
			for r := range next {
				answer, err := a.do(ctx, r)
				if err != nil {
					failed <- err
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
	}
	var err error
	for _, r := range requests {
		select {
		case next <- r:
			continue
		case err = <-failed:
		}
		break
	}
	close(next)
	group.Wait()
	select {
	case late := <-failed:
		err = errors.Join(err, late)
	default:
	}
	return err
}

// watcher tracks the progress of the objects. It decodes nothing: it searches for the few words that matter.
type watcher struct {
	mu       sync.Mutex
	revision []int32
	reached  map[int32]int
	at       map[int32]time.Time // When the last identity got there.
	news     chan struct{}
	err      error
}

// Words in an object as the API server writes it. Names are "app-" and five digits.
var (
	nameIs     = []byte(`"name":"app-`)
	isReady    = []byte(`"status":"True","type":"Ready"`)
	revisionIs = []byte(`"revision":`)
	versionIs  = []byte(`"resourceVersion":"`)
)

// anyVersion starts a watch with everything that exists.
const anyVersion = "0"

// watch starts to watch n objects of the resource.
func (a *applier) watch(t *testing.T, resource string, n int) *watcher {
	t.Helper()
	w := &watcher{revision: make([]int32, n), reached: map[int32]int{}, at: map[int32]time.Time{}, news: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	a.watches = append(a.watches, cancel)
	path := "/apis/rekey.dev/v1alpha1/" + resource + "?watch=1&resourceVersion="
	body, err := a.stream(ctx, path+anyVersion)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for seen := anyVersion; err == nil; {
			// The API server ends watches of a kind that it has just registered, and those that are slower than its own
			// patience. A new one continues where the last one ended: receiving everything again would cost the API server
			// more than what is measured.
			seen = w.read(body, seen)
			body, err = a.stream(ctx, path+seen)
		}
		w.end(err)
	}()
	return w
}

// read reads a watch until it ends, and returns the last version seen.
func (w *watcher) read(body io.ReadCloser, seen string) string {
	defer func() { _ = body.Close() }()
	lines := bufio.NewReaderSize(body, 1<<18)
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return seen
		}
		seen = versionOf(line)
		w.look(line)
	}
}

// versionOf returns the version of the object in an event; an event that a version has expired has none.
func versionOf(line []byte) string {
	_, rest, found := bytes.Cut(line, versionIs)
	version, _, closed := bytes.Cut(rest, []byte{'"'})
	if !found || !closed {
		return anyVersion
	}
	return string(version)
}

func (w *watcher) look(line []byte) {
	_, name, found := bytes.Cut(line, nameIs)
	if !found || !bytes.Contains(line, isReady) {
		return
	}
	i, err := strconv.Atoi(string(name[:5]))
	if err != nil || i >= len(w.revision) {
		w.end(fmt.Errorf("an identity of an unknown name: %.60s", name))
		return
	}
	_, text, _ := bytes.Cut(line, revisionIs)
	if end := bytes.IndexAny(text, ",}"); end >= 0 {
		text = text[:end]
	}
	revision, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil {
		w.end(fmt.Errorf("the revision of identity %d: %w", i, err))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.revision[i] < int32(revision) {
		w.revision[i]++
		w.reached[w.revision[i]]++
		if w.reached[w.revision[i]] == len(w.revision) {
			w.at[w.revision[i]] = time.Now()
		}
	}
	w.tell()
}

func (w *watcher) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = errors.Join(w.err, err)
	w.tell()
}

func (w *watcher) tell() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// count returns the number of identities that are Ready with this revision.
func (w *watcher) count(revision int32) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached[revision]
}

// all waits until every identity is Ready with this revision, and returns when that was.
func (w *watcher) all(t *testing.T, revision int32) time.Time {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		w.mu.Lock()
		at, count, err := w.at[revision], w.reached[revision], w.err
		w.mu.Unlock()
		if !at.IsZero() {
			return at
		}
		if err != nil {
			t.Fatalf("watching the identities: %v", err)
		}
		select {
		case <-w.news:
		case <-late.C:
			t.Fatalf("%d of %d identities are Ready with revision %d after %s", count, len(w.revision), revision, patience)
		}
	}
}
