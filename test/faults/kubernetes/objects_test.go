// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

const (
	interval = 24 * time.Hour
	overlap  = 10 * time.Minute
)

func anAuthority() *v1alpha1.CertificateAuthority {
	return fixture.Authority(func(a *v1alpha1.CertificateAuthority) {
		a.Spec.Constraints.DNSNames, a.Spec.Constraints.URIs = nil, nil
	})
}

func aPolicy() *v1alpha1.RotationPolicy {
	return fixture.Policy(func(p *v1alpha1.RotationPolicy) { p.Spec.Overlap.Minimum = fixture.Duration(overlap) })
}

func aServer() *v1alpha1.DatabaseServer {
	return fixture.Server(func(s *v1alpha1.DatabaseServer) { s.Spec.AllowedUsernames = []v1alpha1.RolePattern{"*"} })
}

func aCredential(name string) *v1alpha1.DatabaseCredential {
	return fixture.Credential(name, func(c *v1alpha1.DatabaseCredential) { c.Spec.Username = strings.ReplaceAll(name, "-", "_") })
}

// condition returns "Status/Reason" of a condition, or an empty string if it is absent.
func condition(o client.Object, kind string) string {
	if c := meta.FindStatusCondition(fixture.Conditions(o), kind); c != nil {
		return string(c.Status) + "/" + c.Reason
	}
	return ""
}

func isReady(o client.Object) bool {
	return meta.IsStatusConditionTrue(fixture.Conditions(o), v1alpha1.ConditionReady)
}

func describe(o client.Object) string {
	var out strings.Builder
	for _, c := range fixture.Conditions(o) {
		fmt.Fprintf(&out, "\n  %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
	}
	return out.String()
}

// healthy reports whether an object is ready and no other condition needs attention.
func healthy(o client.Object) bool {
	return isReady(o) && condition(o, v1alpha1.ConditionStalled) == "" && condition(o, v1alpha1.ConditionReconciling) == "" &&
		condition(o, v1alpha1.ConditionExpiringSoon) == "" && condition(o, v1alpha1.ConditionRotationOverdue) == ""
}

// scene is a world with one process, and counts the process's requests.
type scene struct {
	*world.World
	t *testing.T
	p *world.Process

	mu       sync.Mutex
	requests map[string]int
	hook     world.Hook
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{World: world.New(t, nil), t: t, requests: map[string]int{}}
	s.restart(world.Options{})
	return s
}

// restart discards the process and starts another one.
func (s *scene) restart(options world.Options) {
	s.p = s.Start("rekey", options)
	s.p.Hook(func(ctx context.Context, r world.Request, do func() error) error {
		s.mu.Lock()
		s.requests[r.Verb+" "+r.Kind]++
		hook := s.hook
		s.mu.Unlock()
		if hook != nil {
			return hook(ctx, r, do)
		}
		return do()
	})
}

func (s *scene) setHook(hook world.Hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

// counted returns the requests since the last call: writes, and all.
func (s *scene) counted() (writes, all int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, n := range s.requests {
		all += n
		if !strings.HasPrefix(what, "get ") && !strings.HasPrefix(what, "list ") {
			writes += n
		}
	}
	s.requests = map[string]int{}
	return writes, all
}

// reconcile reconciles an object once, returns when it requests the next reconcile, and reads it again if it still exists.
func (s *scene) reconcile(o client.Object) time.Duration {
	s.t.Helper()
	result, err := s.p.Reconcile(o)
	if err := client.IgnoreNotFound(s.Client.Get(s.Ctx, client.ObjectKeyFromObject(o), o)); err != nil {
		s.t.Fatal(err)
	}
	if err != nil {
		// A manager retries, with backoff.
		return time.Second
	}
	return result.RequeueAfter
}

// live reconciles the object for a while, like a manager: each time when the previous reconcile requested it. It returns the
// number of reconciles.
func (s *scene) live(o client.Object, during time.Duration, after ...func()) int {
	s.t.Helper()
	end := s.Clock.Now().Add(during)
	for reconciles := 1; ; reconciles++ {
		wait := s.reconcile(o)
		for _, check := range after {
			check()
		}
		if wait == 0 || !s.Clock.Now().Add(wait).Before(end) {
			s.Clock.SetTime(end)
			return reconciles
		}
		if wait > time.Hour {
			s.t.Fatalf("%T %s requeues after %s, which is more than an hour", o, o.GetName(), wait)
		}
		if reconciles > 20000 {
			s.t.Fatalf("%T %s never settles:%s", o, o.GetName(), describe(o))
		}
		s.Step(wait)
	}
}

// settle reconciles until the object requests no reconcile within the next few seconds.
func (s *scene) settle(objects ...client.Object) {
	s.t.Helper()
	for _, o := range objects {
		for range 40 {
			wait := s.reconcile(o)
			if wait == 0 || wait > 20*time.Second {
				break
			}
			s.Step(wait)
		}
	}
}

// ready creates objects and settles those that rekey reconciles.
func (s *scene) ready(objects ...client.Object) {
	s.t.Helper()
	s.Create(objects...)
	for _, o := range objects {
		switch o.(type) {
		case *corev1.Secret, *v1alpha1.RotationPolicy:
			continue
		}
		s.settle(o)
		if !isReady(o) {
			s.t.Fatalf("%T %s is not ready:%s", o, o.GetName(), describe(o))
		}
	}
	s.Events()
}

func (s *scene) wantCondition(o client.Object, kind, want string) {
	s.t.Helper()
	if got := condition(o, kind); got != want {
		s.t.Errorf("%T %s: condition %s is %q, want %q:%s", o, o.GetName(), kind, got, want, describe(o))
	}
}

// find returns a Secret, or nil if it does not exist.
func (s *scene) find(name string) *corev1.Secret {
	s.t.Helper()
	out := &corev1.Secret{}
	err := s.Client.Get(s.Ctx, client.ObjectKey{Namespace: s.Namespace, Name: name}, out)
	if client.IgnoreNotFound(err) != nil {
		s.t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return out
}

// secret returns a Secret that must exist.
func (s *scene) secret(name string) *corev1.Secret {
	s.t.Helper()
	out := s.find(name)
	if out == nil {
		s.t.Fatalf("Secret %s not found", name)
	}
	return out
}

func ledgerName(o *v1alpha1.DatabaseCredential) string {
	return secretstore.LedgerName("DatabaseCredential", o.Name)
}

// accepted reports whether the server accepts the login in the Secret.
func (s *scene) accepted(secret *corev1.Secret) bool {
	return secret != nil && s.Fake.Accepts(string(secret.Data[credential.KeyUsername]), string(secret.Data[credential.KeyPassword]))
}

// open returns the logins of a credential that the server accepts.
func (s *scene) open(o *v1alpha1.DatabaseCredential) []string {
	var out []string
	for _, slot := range []string{"a", "b"} {
		name := o.Spec.Username + "_" + slot
		if login, ok := s.Fake.Login(name); ok && login.CanLogin {
			out = append(out, name)
		}
	}
	return out
}

// with reports whether any line contains all the words.
func with(lines []string, words ...string) bool {
	return slices.ContainsFunc(lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	})
}
