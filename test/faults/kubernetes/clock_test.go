// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// jumps are the jumps of a clock: a laptop that slept, or a clock that was set wrong and corrected.
var jumps = map[string]time.Duration{
	"an hour ahead": time.Hour, "ten days ahead": 240 * time.Hour, "three years ahead": 3 * 8760 * time.Hour,
	"ten minutes back": -10 * time.Minute, "an hour back": -time.Hour, "ten days back": -240 * time.Hour, "three years back": -3 * 8760 * time.Hour,
}

// R9, R10, R17: at any point of a rotation the process's clock jumps, and the API server's clock does not. Nothing in use is
// retired while the two disagree, at most one rotation results from it, and once the clock is right everything else is, too.
func TestAClockJumpInAnyPhaseOfARotationRetiresNothing(t *testing.T) {
	// The phases are played in turn, starting with a different one in each run, so that every phase is covered.
	phase, each := size.Random(t, 0).IntN(8), size.Number(2, 4)
	for _, name := range slices.Sorted(maps.Keys(jumps)) {
		for range each {
			t.Run(fmt.Sprintf("%s, after write %d of a rotation", name, 1+phase), func(t *testing.T) { jumpIn(t, jumps[name], 1+phase) })
			phase = (phase + 1) % 8
		}
		phase = (phase + 1) % 8
	}
}

func jumpIn(t *testing.T, jump time.Duration, phase int) {
	t.Helper()
	s := newScene(t)
	login := aCredential("orders")
	s.ready(aPolicy(), fixture.AdminSecret(), aServer(), login)
	s.Step(interval + time.Second)
	// The API server's clock continues as before.
	right := s.Clock.Now().Sub
	started, moved := s.Clock.Now(), time.Duration(0)
	move := func(by time.Duration) {
		moved += by
		s.Step(by)
		s.p.Skew.Set(-moved)
	}
	count := 0
	s.setHook(func(_ context.Context, r world.Request, do func() error) error {
		err := do()
		if r.Writes() {
			if count++; count == phase {
				move(jump)
			}
		}
		return err
	})
	s.settle(login)
	s.setHook(nil)
	if count < phase {
		// The rotation is over: the clock jumps during the overlap.
		move(jump)
	}
	previous := s.open(login)
	stages := s.Fake.Calls("Stage")
	s.live(login, 30*time.Minute, func() {
		if !s.accepted(s.secret("orders-db")) {
			t.Fatalf("the published credential is rejected while the clock is wrong:%s", describe(login))
		}
	})
	if open := s.open(login); len(previous) == 2 && len(open) != 2 {
		t.Errorf("a login was retired although the clocks differ by %s", moved)
	}
	if more := s.Fake.Calls("Stage") - stages; more > 1 {
		t.Errorf("the jump started %d rotations", more)
	}
	move(-moved)
	s.live(login, interval+2*time.Hour, func() {
		if !s.accepted(s.secret("orders-db")) {
			t.Fatalf("the published credential is rejected after the clock was corrected (%s):%s", right(started), describe(login))
		}
	})
	if with([]string{describe(login)}, "ClockSkew") {
		// A time was recorded while the clock was ahead: the runbook has two annotations for this case.
		for _, key := range []string{v1alpha1.AnnotationRetirePrevious, v1alpha1.AnnotationRotate, v1alpha1.AnnotationRetirePrevious} {
			s.Edit(login, func() { metav1.SetMetaDataAnnotation(&login.ObjectMeta, key, s.Clock.Now().String()) })
			s.live(login, 30*time.Minute)
		}
	}
	s.live(login, 2*time.Hour)
	if open := s.open(login); !healthy(login) || len(open) != 1 {
		t.Errorf("two days after the clock was corrected it is not healthy, or not exactly one login is open, but %v:%s", open, describe(login))
	}
	if made := s.Fake.Calls("Stage"); made > 5 {
		t.Errorf("staged %d times in two days", made)
	}
}

func leafIn(t *testing.T, secret *corev1.Secret) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(secret.Data["tls.crt"])
	if block == nil {
		t.Fatal("the Secret has no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// R9, R10, R17: whatever the clock does, a Ready certificate is valid now, a computer that slept does not miss its renewal, and
// once the clock is right there is a certificate that is valid then.
func TestAReadyCertificateIsValidAfterAnyClockJump(t *testing.T) {
	for name, jump := range jumps {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			authority, identity := anAuthority(), fixture.ClientIdentity("app")
			s.ready(authority, identity)
			check := func() {
				leaf, now := leafIn(t, s.secret("app-mtls")), s.Clock.Now()
				if isReady(identity) && (now.Before(leaf.NotBefore) || now.After(leaf.NotAfter)) {
					t.Fatalf("it is Ready at %s, but its certificate is valid from %s to %s:%s", now, leaf.NotBefore, leaf.NotAfter, describe(identity))
				}
			}
			for _, by := range []time.Duration{jump, -jump} {
				s.Step(by)
				s.p.Skew.Set(0)
				s.reconcile(authority)
				s.live(identity, time.Hour, check)
			}
			s.reconcile(authority)
			s.live(identity, 30*time.Hour, check)
			if !healthy(identity) {
				t.Errorf("it is not healthy a day after the clock was corrected:%s", describe(identity))
			}
			if identity.Status.Revision > 6 {
				t.Errorf("revision %d after two jumps and a day", identity.Status.Revision)
			}
		})
	}
}

// R10: a process whose timers stopped while the computer slept checks the wall clock within an hour after it wakes up, whatever
// it waits for.
func TestNoReconcileRequeuesAfterMoreThanAnHour(t *testing.T) {
	s := newScene(t)
	authority, identity, login, policy, server := anAuthority(), fixture.ClientIdentity("app"), aCredential("orders"), aPolicy(), aServer()
	identity.Spec.Lifetime = fixture.Duration(700 * time.Hour)
	s.ready(authority, policy, fixture.AdminSecret(), server, identity, login)
	for range 30 {
		for _, wait := range []time.Duration{s.reconcile(authority), s.reconcile(identity), s.reconcile(login), s.reconcile(server)} {
			if wait <= 0 || wait > time.Hour {
				t.Fatalf("a reconcile requeues after %s", wait)
			}
		}
		s.Step(3 * time.Hour)
	}
}

// R10, R17: clocks that disagree are reported once as ClockSkew while they block something, and no longer.
func TestClockSkewIsReportedAndDelaysOnlyRetirement(t *testing.T) {
	s := newScene(t)
	login := aCredential("orders")
	s.ready(aPolicy(), fixture.AdminSecret(), aServer(), login)
	s.p.Skew.Set(2 * time.Hour)
	s.live(login, interval+overlap+time.Hour)
	if login.Status.Revision != 2 || len(s.open(login)) != 2 {
		t.Errorf("revision %d, open %v: want a rotation, and both logins open:%s", login.Status.Revision, s.open(login), describe(login))
	}
	if !with([]string{describe(login)}, "ClockSkew") || !isReady(login) {
		t.Errorf("the clock skew is not reported, or the login is not ready:%s", describe(login))
	}
	if events := s.Events(); !with(events, "Warning ClockSkew") {
		t.Errorf("Events: %q", events)
	}
	s.p.Skew.Set(0)
	s.live(login, 10*time.Minute)
	if open := s.open(login); len(open) != 1 || with([]string{describe(login)}, "ClockSkew") {
		t.Errorf("open %v once the clocks agree:%s", open, describe(login))
	}
}
