// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// interference sits between rekey and the API server. It can respond itself, and then the request goes no further; next lets
// the request through. chance returns a random number from 0 to 1.
type interference func(w http.ResponseWriter, r *http.Request, next http.Handler, chance float64)

// proxy sits in front of the API server, with TLS and HTTP/2 like the server.
type proxy struct {
	mu           sync.Mutex
	interference interference
	random       *rand.Rand
	server       *httptest.Server
	met          int // requests that did not go through unchanged, immediately, with the whole response
}

// set starts an interference, or ends it (nil). It closes all connections at the start, because it would not affect watches
// that are already open.
func (p *proxy) set(b interference) {
	p.mu.Lock()
	p.interference = b
	p.mu.Unlock()
	if b != nil {
		p.server.CloseClientConnections()
	}
}

// startProxy returns a configuration that connects through the proxy.
func startProxy(t *testing.T, config *rest.Config, random *rand.Rand) (*proxy, *rest.Config) {
	t.Helper()
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{random: random}
	forward := &httputil.ReverseProxy{Transport: transport, FlushInterval: -1,
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		b, chance := p.interference, p.random.Float64()
		p.mu.Unlock()
		if b == nil {
			forward.ServeHTTP(w, r)
			return
		}
		started, through, asked := time.Now(), time.Time{}, r.URL.RawQuery
		defer func() {
			caught := recover()
			if caught != nil || through.IsZero() || through.Sub(started) > time.Second || r.URL.RawQuery != asked {
				p.mu.Lock()
				p.met++
				p.mu.Unlock()
			}
			if caught != nil {
				panic(caught)
			}
		}()
		b(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { through = time.Now(); forward.ServeHTTP(w, r) }), chance)
	}))
	p.server = server
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return p, &rest.Config{Host: server.URL, TLSClientConfig: rest.TLSClientConfig{
		CAData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), NextProtos: []string{"h2", "http/1.1"}}}
}

func watches(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }
func writes(r *http.Request) bool  { return r.Method != http.MethodGet }

func answer(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":"injected fault"}`, reason, code)
}

// cut sends the start of the real response, and breaks the connection.
func cut(w http.ResponseWriter, r *http.Request, next http.Handler, keep bool) {
	recorder := httptest.NewRecorder()
	next.ServeHTTP(recorder, r)
	if keep {
		maps.Copy(w.Header(), recorder.Header())
		w.WriteHeader(recorder.Code)
		_, _ = io.Copy(w, bytes.NewReader(recorder.Body.Bytes()[:recorder.Body.Len()/2]))
		if flusher, ok := w.(http.Flusher); ok {
			flusher.Flush()
		}
	}
	panic(http.ErrAbortHandler)
}

func after(d time.Duration) { <-time.After(d) }

var interferences = map[string]interference{
	"answers everything two seconds late": func(w http.ResponseWriter, r *http.Request, next http.Handler, _ float64) {
		after(2 * time.Second)
		next.ServeHTTP(w, r)
	},
	"answers about Secrets two seconds late": func(w http.ResponseWriter, r *http.Request, next http.Handler, _ float64) {
		if strings.Contains(r.URL.Path, "/secrets") {
			after(2 * time.Second)
		}
		next.ServeHTTP(w, r)
	},
	"is overloaded for half of the requests": func(w http.ResponseWriter, r *http.Request, next http.Handler, chance float64) {
		if chance < 0.5 {
			w.Header().Set("Retry-After", "1")
			answer(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	},
	"fails a third of the requests in various ways": func(w http.ResponseWriter, r *http.Request, next http.Handler, chance float64) {
		codes := []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusBadGateway}
		if chance < 0.33 {
			answer(w, codes[int(chance*1000)%len(codes)], metav1.StatusReasonInternalError)
			return
		}
		next.ServeHTTP(w, r)
	},
	"refuses most status writes": func(w http.ResponseWriter, r *http.Request, next http.Handler, chance float64) {
		if chance < 0.75 && strings.HasSuffix(r.URL.Path, "/status") {
			answer(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
			return
		}
		next.ServeHTTP(w, r)
	},
	"returns 404 for a third of the writes": func(w http.ResponseWriter, r *http.Request, next http.Handler, chance float64) {
		if chance < 0.33 && writes(r) {
			http.Error(w, "404 page not found", http.StatusNotFound)
			return
		}
		next.ServeHTTP(w, r)
	},
	"cuts off a third of its responses": func(w http.ResponseWriter, r *http.Request, next http.Handler, chance float64) {
		if chance < 0.33 && !watches(r) {
			cut(w, r, next, true)
		}
		next.ServeHTTP(w, r)
	},
	"loses the responses to half of the writes": func(w http.ResponseWriter, r *http.Request, next http.Handler, chance float64) {
		if chance < 0.5 && writes(r) {
			cut(w, r, next, false)
		}
		next.ServeHTTP(w, r)
	},
	"closes every watch after a second": func(w http.ResponseWriter, r *http.Request, next http.Handler, _ float64) {
		if watches(r) {
			query := r.URL.Query()
			query.Set("timeoutSeconds", "1")
			r.URL.RawQuery = query.Encode()
		}
		next.ServeHTTP(w, r)
	},
	"reports that every second watch starts too long ago": func(w http.ResponseWriter, r *http.Request, next http.Handler, chance float64) {
		if watches(r) && chance < 0.5 {
			answer(w, http.StatusGone, metav1.StatusReasonExpired)
			return
		}
		if watches(r) {
			query := r.URL.Query()
			query.Set("timeoutSeconds", "1")
			r.URL.RawQuery = query.Encode()
		}
		next.ServeHTTP(w, r)
	},
	"breaks every connection": func(http.ResponseWriter, *http.Request, http.Handler, float64) { panic(http.ErrAbortHandler) },
}

// I8, I1, I3, R9, R26, R27: an API server is slow, overloaded, broken or cut off in various ways, during issues and rotations.
// Once it is well again, everything is as it should be, and nothing was done twice.
func TestEverythingConvergesWithAnAPIServerThat(t *testing.T) {
	random := size.Random(t, 0)
	for name, what := range interferences {
		t.Run(name, func(t *testing.T) { converges(t, what, rand.New(rand.NewPCG(random.Uint64(), 0))) })
	}
}

func converges(t *testing.T, what interference, random *rand.Rand) {
	t.Helper()
	t.Parallel()
	s := newScene(t)
	p, config := startProxy(t, world.APIServer(), random)
	o := startOperator(t, config, s.Namespace, s.Fake)
	objects := []client.Object{anAuthority(), aServer()}
	var logins []*v1alpha1.DatabaseCredential
	var identities []*v1alpha1.ClientIdentity
	for i := range 4 {
		logins = append(logins, aCredential(fmt.Sprintf("login-%d", i)))
		identities = append(identities, fixture.ClientIdentity(fmt.Sprintf("app-%d", i)))
		objects = append(objects, logins[i], identities[i])
	}
	// Half of them exist before the interference; the others are created during it.
	s.Create(aPolicy(), fixture.AdminSecret())
	s.Create(objects[:6]...)
	untilHealthy(t, s.Client, objects[:6]...)
	p.set(what)
	for _, l := range logins[:2] {
		s.Edit(l, func() { metav1.SetMetaDataAnnotation(&l.ObjectMeta, v1alpha1.AnnotationRotate, "now") })
	}
	s.Create(objects[6:]...)
	for started := time.Now(); time.Since(started) < time.Duration(size.Number(6, 10))*time.Second; after(200 * time.Millisecond) {
		for _, l := range logins[:2] {
			if !s.accepted(s.secret(string(l.Spec.SecretName))) {
				t.Fatalf("the login that %s shows is rejected", l.Name)
			}
		}
	}
	p.set(nil)
	untilHealthy(t, s.Client, objects...)
	for i, l := range logins {
		want := int64(2 - i/2)
		until(t, func() bool { s.Get(l); return l.Status.Revision == want }, func() string {
			return fmt.Sprintf("%s is at revision %d, want %d:%s", l.Name, l.Status.Revision, want, describe(l))
		})
		if !s.accepted(s.secret(string(l.Spec.SecretName))) || len(s.open(l)) != int(want) {
			t.Errorf("%s: the published credential is rejected, or other logins are open: %v", l.Name, s.open(l))
		}
	}
	for _, i := range identities {
		if s.Get(i); i.Status.Revision != 1 {
			t.Errorf("%s is at revision %d: it was reissued", i.Name, i.Status.Revision)
		}
	}
	if lines := o.errorLines(); lines > 1000 {
		t.Errorf("%d errors in the log", lines)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.met == 0 {
		t.Error("no request was affected: this proves nothing")
	}
	t.Logf("%d requests did not go through unchanged, %d errors in the log", p.met, o.errorLines())
}
