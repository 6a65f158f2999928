// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// fight makes another controller overwrite the Secret as fast as it can after each write of rekey: every write wakes the other
// side. It returns the number of rekey's writes.
func (s *scene) fight(o client.Object, name string, during time.Duration, theirs func(*corev1.Secret)) int {
	s.t.Helper()
	written := 0
	s.setHook(func(_ context.Context, r world.Request, do func() error) error {
		err := do()
		if err == nil && r.Writes() && r.Kind == "Secret" && r.Name == name {
			written++
		}
		return err
	})
	defer s.setHook(nil)
	end := s.Clock.Now().Add(during)
	for reconciles := 0; s.Clock.Now().Before(end); reconciles++ {
		before := written
		wait := s.reconcile(o)
		if secret := s.secret(name); written > before || reconciles == 0 {
			theirs(secret)
			if err := s.Client.Update(s.Ctx, secret); err != nil {
				s.t.Fatal(err)
			}
			// The watch wakes rekey.
			wait = 10 * time.Millisecond
		}
		if written > 2000 {
			s.t.Fatalf("rekey wrote Secret %s %d times in %s", name, written, during-end.Sub(s.Clock.Now()))
		}
		s.Step(wait)
	}
	return written
}

// R8: two writers of one Secret write less and less often, and rekey reports the conflict.
func TestRekeyBacksOffFromAControllerThatRevertsItsSecret(t *testing.T) {
	fights := map[string]func(*corev1.Secret){
		"its data":          func(s *corev1.Secret) { s.Data["password"] = []byte("theirs") },
		"one of our labels": func(s *corev1.Secret) { delete(s.Labels, v1alpha1.LabelManagedBy) },
		"an additional key": func(s *corev1.Secret) { s.Data["theirs"] = []byte("theirs") },
	}
	for what, theirs := range fights {
		t.Run("login: "+what, func(t *testing.T) {
			s := newScene(t)
			login := aCredential("orders")
			s.ready(aPolicy(), fixture.AdminSecret(), aServer(), login)
			before := s.secret("orders-db").Data["password"]
			written := s.fight(login, "orders-db", time.Hour, theirs)
			// Waits of one, two, four seconds ... ten minutes: about ten writes, then six per hour.
			if written < 2 || written > 40 {
				t.Errorf("rekey wrote the Secret %d times in an hour", written)
			}
			s.wantCondition(login, v1alpha1.ConditionReconciling, "True/SecretConflict")
			if calls := s.Fake.Calls("Stage"); calls != 1 {
				t.Errorf("the fight rotated the password: staged %d times", calls)
			}
			if events := s.Events(); !with(events, "Warning SecretConflict") || len(events) > 4 {
				t.Errorf("Events: %q", events)
			}
			// The other controller stops.
			s.live(login, time.Hour)
			if got := s.secret("orders-db"); string(got.Data["password"]) != string(before) || !healthy(login) {
				t.Errorf("after the fight the Secret is not as before, or the credential is not healthy:%s", describe(login))
			}
		})
	}
	t.Run("certificate: one of our labels", func(t *testing.T) {
		s := newScene(t)
		identity := fixture.ClientIdentity("app")
		s.ready(anAuthority(), identity)
		serial := identity.Status.SerialNumber
		if written := s.fight(identity, "app-mtls", time.Hour, fights["one of our labels"]); written < 2 || written > 40 {
			t.Errorf("rekey wrote the Secret %d times in an hour", written)
		}
		s.live(identity, time.Hour)
		if identity.Status.SerialNumber != serial || !healthy(identity) {
			t.Errorf("after the fight the certificate has changed, or the identity is not healthy:%s", describe(identity))
		}
	})
	t.Run("certificate: its key", func(t *testing.T) {
		s := newScene(t)
		identity := fixture.ClientIdentity("app")
		s.ready(anAuthority(), identity)
		// A key is lost each time, so each write creates a new one.
		written := s.fight(identity, "app-mtls", time.Hour, func(secret *corev1.Secret) { secret.Data["tls.key"] = []byte("theirs") })
		if written < 2 || written > 400 {
			t.Errorf("rekey wrote the Secret %d times in an hour", written)
		}
		s.live(identity, time.Hour)
		if !healthy(identity) {
			t.Errorf("after the fight the identity is not healthy:%s", describe(identity))
		}
	})
}

// R8: an occasional manual edit is not a fight, and is repaired immediately.
func TestAnOccasionalEditOfASecretIsRepairedImmediately(t *testing.T) {
	s := newScene(t)
	login := aCredential("orders")
	s.ready(aPolicy(), fixture.AdminSecret(), aServer(), login)
	before := s.secret("orders-db").Data["password"]
	for range 12 {
		secret := s.secret("orders-db")
		secret.Data["password"] = []byte("by hand")
		if err := s.Client.Update(s.Ctx, secret); err != nil {
			t.Fatal(err)
		}
		s.reconcile(login)
		if got := s.secret("orders-db").Data["password"]; string(got) != string(before) {
			t.Fatalf("the edit was not repaired in the first reconcile:%s", describe(login))
		}
		s.live(login, 30*time.Minute)
	}
	if events := s.Events(); with(events, "Warning") {
		t.Errorf("Events: %q", events)
	}
}

// R8: of two objects that want one Secret, one has it; the other one asks less and less often and writes nothing.
func TestTwoObjectsThatWantTheSameSecretDoNotFight(t *testing.T) {
	s := newScene(t)
	first, second, login := fixture.ClientIdentity("first"), fixture.ClientIdentity("second"), aCredential("third")
	for _, spec := range []*v1alpha1.ObjectName{&first.Spec.SecretName, &second.Spec.SecretName, &login.Spec.SecretName} {
		*spec = "shared"
	}
	s.ready(anAuthority(), aPolicy(), fixture.AdminSecret(), aServer(), first)
	s.Create(second, login)
	s.settle(second, login)
	s.counted()
	version := s.secret("shared").ResourceVersion
	requests := 0
	for range 10 {
		for _, o := range []client.Object{second, login} {
			started := s.Clock.Now()
			s.live(o, time.Hour)
			s.Clock.SetTime(started)
		}
		s.Step(time.Hour)
		writes, all := s.counted()
		if writes > 0 {
			t.Errorf("the object without the Secret wrote %d times in an hour", writes)
		}
		requests = all
	}
	if requests > 2*12*6 {
		t.Errorf("in the tenth hour the two objects without the Secret made %d requests", requests)
	}
	s.wantCondition(second, v1alpha1.ConditionStalled, "True/SecretConflict")
	s.wantCondition(login, v1alpha1.ConditionStalled, "True/SecretConflict")
	if now := s.secret("shared").ResourceVersion; now != version {
		t.Error("the Secret was changed")
	}
	if open := s.open(login); len(open) > 0 || s.Fake.Calls("Stage") > 0 {
		t.Errorf("a login was created for a Secret that belongs to another object: %v", open)
	}
	if events := s.Events(); len(events) != 2 {
		t.Errorf("Events: %q, want one for each", events)
	}
}

// R13: prune and apply repeatedly: the same certificate, the same password, no additional login.
func TestObjectsPrunedAndReappliedFiftyTimesKeepTheirCredentials(t *testing.T) {
	s := newScene(t)
	s.ready(anAuthority(), aPolicy(), fixture.AdminSecret(), aServer())
	identity, login := fixture.ClientIdentity("app"), aCredential("orders")
	apply := func(o client.Object) {
		t.Helper()
		content := o.DeepCopyObject().(client.Object)
		content.SetNamespace(s.Namespace)
		content.SetResourceVersion("")
		content.SetUID("")
		content.SetManagedFields(nil)
		content.GetObjectKind().SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(world.KindOf(o)))
		//nolint:staticcheck // the way of kubectl apply --server-side; there are no apply configurations for our kinds
		if err := s.Client.Patch(s.Ctx, content, client.Apply, client.FieldOwner("gitops"), client.ForceOwnership); err != nil {
			t.Fatal(err)
		}
		o.SetNamespace(s.Namespace)
	}
	random := size.Random(t, 0)
	apply(fixture.ClientIdentity("app"))
	apply(aCredential("orders"))
	identity.Namespace, login.Namespace = s.Namespace, s.Namespace
	s.settle(identity, login)
	if !healthy(identity) || !healthy(login) {
		t.Fatalf("not healthy at the start:%s%s", describe(identity), describe(login))
	}
	serial, password := identity.Status.SerialNumber, s.secret("orders-db").Data["password"]
	for round := range 50 {
		for _, o := range []client.Object{fixture.ClientIdentity("app"), aCredential("orders")} {
			o.SetNamespace(s.Namespace)
			if err := s.Client.Delete(s.Ctx, o); err != nil {
				t.Fatal(err)
			}
			// The finalizer holds the credential until a reconcile releases it; sometimes rekey sees the deletion late.
			for range 1 + random.IntN(3) {
				s.reconcile(o)
			}
		}
		apply(fixture.ClientIdentity("app"))
		apply(aCredential("orders"))
		for range random.IntN(3) {
			s.reconcile(identity)
			s.reconcile(login)
		}
		if round%10 == 9 {
			s.restart(world.Options{})
		}
	}
	s.settle(identity, login)
	s.live(login, time.Hour)
	if !healthy(identity) || !healthy(login) {
		t.Errorf("not healthy at the end:%s%s", describe(identity), describe(login))
	}
	if identity.Status.SerialNumber != serial {
		t.Error("the certificate has changed")
	}
	if now := s.secret("orders-db").Data["password"]; string(now) != string(password) || s.Fake.Calls("Stage") != 1 {
		t.Errorf("the password has changed, or was staged again: %d times", s.Fake.Calls("Stage"))
	}
	if open := s.open(login); len(open) != 1 {
		t.Errorf("the logins %v are open, want one", open)
	}
}

// R26: a "not found" from something between rekey and the API server does not prove that an object is gone: rekey checks again.
func TestANotFoundFromAStatusWriteIsRetried(t *testing.T) {
	s := newScene(t)
	s.ready(anAuthority(), aPolicy(), fixture.AdminSecret(), aServer())
	for _, o := range []client.Object{fixture.ClientIdentity("app"), aCredential("orders")} {
		s.Create(o)
		s.setHook(func(_ context.Context, r world.Request, do func() error) error {
			if r.Verb == "update status" {
				return &apierrors.StatusError{ErrStatus: metav1.Status{Code: 404, Reason: metav1.StatusReasonNotFound, Message: "404 page not found"}}
			}
			return do()
		})
		if wait := s.reconcile(o); wait <= 0 || wait > time.Hour {
			t.Fatalf("%T: after a 404 the next reconcile is in %s: nothing would wake it", o, wait)
		}
		s.setHook(nil)
		s.settle(o)
		if !healthy(o) {
			t.Errorf("%T is not healthy:%s", o, describe(o))
		}
		s.Delete(o)
		s.live(o, time.Hour)
		if wait := s.reconcile(o); wait != 0 {
			t.Errorf("%T is gone, but is requeued after %s", o, wait)
		}
	}
}

// R27: a response that is lost after a write took effect does not cause another write, wherever it happens.
func TestALostResponseToAnyWriteRotatesNothingTwice(t *testing.T) {
	lost := errors.New("http2: client connection lost")
	// Each tested write of two rotations and an issue loses its response once, one after the other: every second write in full
	// size, every fifth in short size.
	stride := size.Number(5, 2)
	for nth := 1 + size.Random(t, 0).IntN(stride); ; nth += stride {
		s := newScene(t)
		// A process that lost the response does not know the real state: only the form of its statements is checked.
		s.restart(world.Options{Racing: true})
		identity, login := fixture.ClientIdentity("app"), aCredential("orders")
		s.ready(anAuthority(), aPolicy(), fixture.AdminSecret(), aServer())
		s.Create(identity, login)
		count, what := 0, ""
		s.setHook(func(_ context.Context, r world.Request, do func() error) error {
			err := do()
			if r.Writes() {
				if count++; count == nth {
					what = r.String()
					return lost
				}
			}
			return err
		})
		for range 2 {
			s.settle(identity, login)
			s.live(login, interval+overlap+time.Minute)
			s.settle(login)
		}
		s.setHook(nil)
		if what == "" {
			if nth < 20 {
				t.Errorf("only %d writes were reached", nth-1)
			}
			return
		}
		s.settle(identity, login)
		if !healthy(identity) || !healthy(login) {
			t.Fatalf("write %d (%s) lost its response:%s%s", nth, what, describe(identity), describe(login))
		}
		if accepted := s.accepted(s.secret("orders-db")); login.Status.Revision != 3 || s.Fake.Calls("Stage") > 4 || !accepted {
			t.Errorf("write %d (%s) lost its response: revision %d, staged %d times, accepted %t", nth, what, login.Status.Revision,
				s.Fake.Calls("Stage"), accepted)
		}
		if identity.Status.Revision > 3 {
			t.Errorf("write %d (%s) lost its response: the certificate is at revision %d", nth, what, identity.Status.Revision)
		}
		if open := s.open(login); len(open) != 1 || !strings.HasPrefix(open[0], "orders_") {
			t.Errorf("write %d (%s) lost its response: the logins %v are open", nth, what, open)
		}
	}
}
