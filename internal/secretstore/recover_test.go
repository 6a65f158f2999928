// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

func TestADeletedLedgerIsRecreatedOnlyFromALoginThatWorks(t *testing.T) {
	w := newWorld(t)
	base := w.ledgerOptions("orders")
	w.published(t, base)
	began := w.secret(t, shown).CreationTimestamp.UTC()
	w.drop(t, w.ledgerName("orders"))
	unreachable := errors.New("connection refused")
	asked := 0
	with := func(answer credential.Answer, err error) *Ledgered {
		opts := base
		opts.Recover = func(_ context.Context, c Record, _ string) (Ledger, credential.Answer, error) {
			asked++
			if c.Seq != 2 || c.Slot != "a" || c.Stage != rotation.Current || c.Material.String("username") != "app_a" ||
				c.Material.String("password") != canary || c.CommittedAt.Before(began) || c.PublishedAt.Sub(began) > time.Minute {
				t.Errorf("the candidate is %+v", c.Version)
			}
			c.Fingerprint = "completed"
			return Ledger{Current: &c, LastSeq: c.Seq}, answer, err
		}
		return NewLedgered(opts)
	}

	w.expectWrites(t, 0, "an unclear answer", func() {
		_, err := with(credential.Unknown, unreachable).Load(t.Context())
		if !errors.Is(err, unreachable) {
			t.Errorf("got %v", err)
		}
		expectFault(t, err, fault.ClassTransient, "")
		_, err = with(credential.Unknown, nil).Load(t.Context())
		expectFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
		_, err = with(credential.Unknown, fault.Blocked(fault.ServerNotFound, unreachable)).Load(t.Context())
		expectFault(t, err, fault.ClassBlocked, fault.ServerNotFound)
	})
	w.expectWrites(t, 0, "a refused login", func() {
		snapshot := must[Snapshot](t)(with(credential.Rejected, unreachable).Load(t.Context()))
		if diff := cmp.Diff(Ledger{LastSeq: 2}, snapshot.Ledger, sameLedger); diff != "" {
			t.Errorf("it did not start from scratch above the shown number:\n%s", diff)
		}
		expectTarget(t, snapshot, rotation.TargetDiffers)
	})
	w.expectWrites(t, 1, "a login that works", func() {
		snapshot := must[Snapshot](t)(with(credential.Accepted, nil).Load(t.Context()))
		expectTarget(t, snapshot, rotation.TargetShowsCurrent)
	})
	asked = 0
	snapshot := must[Snapshot](t)(with(credential.Unknown, unreachable).Load(t.Context()))
	if got := snapshot.Ledger.Current; got == nil || got.Seq != 2 || got.Fingerprint != "completed" || snapshot.Ledger.LastSeq != 2 {
		t.Errorf("the recreated ledger is %+v", snapshot.Ledger)
	}
	if asked > 0 {
		t.Error("an existing ledger was recovered again")
	}
}

func TestNothingIsRecoveredFromASecretThatIsNotAProof(t *testing.T) {
	cases := map[string]func(*corev1.Secret){
		"not ours": func(s *corev1.Secret) { delete(s.Annotations, v1alpha1.AnnotationOwner) },
		"handed over only": func(s *corev1.Secret) {
			s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "DatabaseCredential/orders"}
		},
		"a foreign login": func(s *corev1.Secret) { s.Data["username"] = []byte("postgres") },
		"no password":     func(s *corev1.Secret) { delete(s.Data, "password") },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.ledgerOptions("orders")
			w.published(t, opts)
			w.drop(t, w.ledgerName("orders"))
			w.edit(t, shown, spoil)
			opts.Recover = func(context.Context, Record, string) (Ledger, credential.Answer, error) {
				t.Error("a login was attempted")
				return Ledger{}, credential.Accepted, nil
			}
			snapshot := must[Snapshot](t)(NewLedgered(opts).Load(t.Context()))
			if snapshot.Ledger.Current != nil {
				t.Error("a version was taken from it")
			}
		})
	}
}
