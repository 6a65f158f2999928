// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	clocktesting "k8s.io/utils/clock/testing"
)

// rbac returns RBAC's answer to a list.
func rbac(namespace string) string {
	where := "at the cluster scope"
	if namespace != "" {
		where = fmt.Sprintf("in the namespace %q", namespace)
	}
	return `secrets is forbidden: ` + operator + ` cannot list resource "secrets" in API group "" ` + where
}

// refusals are the sources of a 403; rbac is true if the text is RBAC's.
var refusals = map[string]struct {
	body func(namespace string) any
	rbac bool
}{
	"RBAC":                              {func(namespace string) any { return answeredStatus(rbac(namespace)) }, true},
	"RBAC with a reason of a webhook":   {func(namespace string) any { return answeredStatus(rbac(namespace) + ": not on a Sunday") }, true},
	"another authorizer":                {func(string) any { return answeredStatus("secrets is forbidden: policy 7 says no") }, false},
	"an aggregated API server":          {func(string) any { return answeredStatus("access denied") }, false},
	"an authorizer that quotes RBAC":    {func(string) any { return answeredStatus("denied, as in: " + rbac("")) }, false},
	"a status without words":            {func(string) any { return answeredStatus("") }, false},
	"a proxy that answers with a page":  {func(string) any { return "<html>\n<h1>Forbidden</h1>\r\n\x00" + strings.Repeat("x", 4096) }, false},
	"a proxy that answers with nothing": {func(string) any { return "" }, false},
}

// listsOf returns a source that reads Secrets from an API server that refuses everything, through a transport that rights
// observes.
func listsOf(t *testing.T, rights *Rights, namespace string, body func(namespace string) any) *source {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text, plain := body(namespace).(string)
		if !plain {
			answer, _ := body(namespace).(metav1.Status)
			answer.APIVersion, answer.Kind = "v1", "Status"
			encoded, err := json.Marshal(answer)
			if err != nil {
				t.Error(err)
			}
			text = string(encoded)
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(text))
	}))
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	config.Wrap(rights.Wrap)
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	secrets := clients.CoreV1().Secrets(namespace)
	return &source{rights: rights, kind: kindOf(&corev1.Secret{}), inner: &toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (k8sruntime.Object, error) {
			return secrets.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return secrets.Watch(ctx, options)
		},
	}}
}

// A refusal makes the cache blind in the namespace of the request, whatever refused it, and in no other.
func TestARefusalAppliesToTheRequestedNamespace(t *testing.T) {
	for who, tc := range refusals {
		for _, namespace := range []string{"web", ""} {
			for _, verb := range []string{"list", "watch"} {
				t.Run(fmt.Sprintf("%s, %s in %q", who, verb, namespace), func(t *testing.T) {
					rights := New(clocktesting.NewFakePassiveClock(time.Now()))
					s := listsOf(t, rights, namespace, tc.body)
					if verb == "list" {
						if _, err := s.list(t.Context(), metav1.ListOptions{}); err != nil {
							t.Fatal(err)
						}
					} else if _, err := s.watch(t.Context(), metav1.ListOptions{}); err == nil {
						t.Fatal("it was not refused")
					}
					right, blind := rights.Blind(&corev1.Secret{}, "web")
					if !blind || right.Namespace != namespace || right.Resource != "secrets" {
						t.Errorf("in the namespace, blind is %v, missing %+v", blind, right)
					}
					if _, blind := rights.Blind(&corev1.Secret{}, "other"); blind != (namespace == "") {
						t.Errorf("in another namespace, blind is %v", blind)
					}
					if unready := rights.BlindIn("rekey-system"); (len(unready) > 0) != (namespace == "") {
						t.Errorf("the process is not ready because %v is missing", unready)
					}
					if text := right.Text(); strings.Contains(text, "apply and bind") != tc.rbac || len(text) > 512 || strings.ContainsAny(text, "\n\r\x00") {
						t.Errorf("said is %q", text)
					}
				})
			}
		}
	}
}

// The source of the refusal may change while the cache is blind; when the cache follows again, no trace of either refusal is
// left.
func TestARefusalWithAnotherTextLeavesNothingBehind(t *testing.T) {
	rights := New(clocktesting.NewFakePassiveClock(time.Now()))
	s := &source{rights: rights, kind: kindOf(&corev1.Secret{})}
	for _, err := range []error{answered("secrets", "", strings.TrimPrefix(rbac("web"), "secrets is forbidden: ")), answered("secrets", "", "policy 7 says no"),
		answered("secrets", "", strings.TrimPrefix(rbac(""), "secrets is forbidden: "))} {
		s.refused(t.Context(), err, &Right{}, "list")
	}
	s.sees(t.Context(), s.at)
	for _, namespace := range []string{"web", "other", ""} {
		if right, blind := rights.Blind(&corev1.Secret{}, namespace); blind {
			t.Errorf("in %q: %s", namespace, right)
		}
	}
}

// follows returns a watch on a source that was blind, and whose next watch reports what exists.
func follows(t *testing.T, inner watch.Interface) watch.Interface {
	t.Helper()
	rights := New(clocktesting.NewFakePassiveClock(time.Now()))
	s := &source{rights: rights, kind: kindOf(&corev1.Secret{}), inner: &toolscache.ListWatch{
		WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) { return inner, nil },
	}}
	s.refused(t.Context(), answered("secrets", "", "no"), &Right{Verb: "list", Resource: "secrets", Namespace: "web"}, "list")
	out, err := s.watch(t.Context(), metav1.ListOptions{SendInitialEvents: new(true)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A stopped watch stops its goroutines, even if nothing receives the event in transit.
func TestAWatchThatIsStoppedLeavesNothingRunning(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: "app"}}
	all := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}
	for name, act := range map[string]func(inner *watch.FakeWatcher, out watch.Interface){
		"before any event": func(*watch.FakeWatcher, watch.Interface) {},
		"with an event on its way": func(inner *watch.FakeWatcher, _ watch.Interface) {
			inner.Add(secret)
		},
		"after one event": func(inner *watch.FakeWatcher, out watch.Interface) {
			inner.Add(secret)
			<-out.ResultChan()
		},
		"after the initial events": func(inner *watch.FakeWatcher, _ watch.Interface) {
			inner.Action(watch.Bookmark, all)
		},
		"when the API server has ended it": func(inner *watch.FakeWatcher, _ watch.Interface) { inner.Stop() },
		"when the API server has ended it, with an event on its way": func(inner *watch.FakeWatcher, _ watch.Interface) {
			inner.Add(secret)
			inner.Stop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := watch.NewFake()
				out := follows(t, inner)
				act(inner, out)
				synctest.Wait()
				out.Stop()
				out.Stop()
				synctest.Wait()
				if _, more := <-out.ResultChan(); more {
					t.Error("the goroutine that forwards events still waits for a receiver")
				}
				if !inner.IsStopped() {
					t.Error("the watch at the API server continues")
				}
				time.Sleep(2 * settling)
			})
		})
	}
}

func TestManyWatchesThatAreStoppedLeaveNoGoroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 200 {
		inner := watch.NewFake()
		out := follows(t, inner)
		inner.Add(&corev1.Secret{})
		out.Stop()
	}
	until(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= before+5 })
}
