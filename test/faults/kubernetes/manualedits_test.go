// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"errors"
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

// damage is a manual edit of a Secret.
type damage struct {
	// do does the damage. At this stage there may be nothing to damage.
	do func(l *lifeByHand)
	// repair does what the condition asks a user to do; nil if rekey repairs the damage alone.
	repair func(l *lifeByHand)
	// reported is the reason that is reported before the repair, at some stage.
	reported string
	// gap is true if the published login may be rejected for a while, because the restored one was already retired.
	gap bool
}

// lifeByHand is one life of a credential that is interrupted at one of its effects and then damaged.
type lifeByHand struct {
	*scene
	login *v1alpha1.DatabaseCredential
	// older is the ledger before its last write.
	older *corev1.Secret
}

func (l *lifeByHand) target() *corev1.Secret { return l.find(string(l.login.Spec.SecretName)) }
func (l *lifeByHand) ledger() *corev1.Secret { return l.find(ledgerName(l.login)) }

// edit changes a Secret by hand, if it exists.
func (l *lifeByHand) edit(secret *corev1.Secret, change func(*corev1.Secret)) {
	l.t.Helper()
	if secret == nil {
		return
	}
	change(secret)
	if err := l.Client.Update(l.Ctx, secret); err != nil {
		l.t.Fatal(err)
	}
}

// remove deletes a Secret by hand, if it exists.
func (l *lifeByHand) remove(secret *corev1.Secret) {
	l.t.Helper()
	if secret != nil {
		l.Delete(secret)
	}
}

// replace replaces a Secret with another one.
func (l *lifeByHand) replace(secret *corev1.Secret, change func(*corev1.Secret)) {
	l.t.Helper()
	if secret == nil {
		return
	}
	l.remove(secret)
	change(secret)
	secret.ResourceVersion, secret.UID = "", ""
	l.Create(secret)
}

func removeTarget(l *lifeByHand) { l.remove(l.target()) }
func removeLedger(l *lifeByHand) { l.remove(l.ledger()) }

var damages = map[string]damage{
	"the Secret is deleted": {do: removeTarget},
	"the Secret loses its password": {do: func(l *lifeByHand) {
		l.edit(l.target(), func(s *corev1.Secret) { delete(s.Data, "password") })
	}},
	"the Secret is emptied": {do: func(l *lifeByHand) {
		l.edit(l.target(), func(s *corev1.Secret) { s.Data = nil })
	}},
	"the Secret's password is edited": {do: func(l *lifeByHand) {
		l.edit(l.target(), func(s *corev1.Secret) { s.Data["password"] = []byte("by hand") })
	}},
	"the Secret names the other login": {do: func(l *lifeByHand) {
		l.edit(l.target(), func(s *corev1.Secret) {
			other := map[string]string{"orders_a": "orders_b", "orders_b": "orders_a"}[string(s.Data["username"])]
			s.Data["username"] = []byte(other)
		})
	}},
	"the Secret loses its labels": {do: func(l *lifeByHand) { l.edit(l.target(), func(s *corev1.Secret) { s.Labels = nil }) }},
	"the Secret loses its owner reference": {do: func(l *lifeByHand) {
		l.edit(l.target(), func(s *corev1.Secret) { s.OwnerReferences = nil })
	}},
	"the Secret's revision is edited": {do: func(l *lifeByHand) {
		l.edit(l.target(), func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationRevision] = "-99999999999999999999" })
	}},
	"the Secret loses its annotations": {
		do: func(l *lifeByHand) {
			l.edit(l.target(), func(s *corev1.Secret) { s.Annotations = nil; s.OwnerReferences = nil })
		},
		reported: "SecretConflict",
		repair: func(l *lifeByHand) {
			l.edit(l.target(), func(s *corev1.Secret) {
				s.Annotations = map[string]string{v1alpha1.AnnotationAdopt: "DatabaseCredential/" + l.login.Name}
			})
		},
	},
	"the Secret gets another owner": {
		do: func(l *lifeByHand) {
			l.edit(l.target(), func(s *corev1.Secret) { s.Annotations[v1alpha1.AnnotationOwner] = "DatabaseCredential/other" })
		},
		reported: "SecretConflict", repair: removeTarget,
	},
	"the Secret is made immutable": {
		do:       func(l *lifeByHand) { l.edit(l.target(), func(s *corev1.Secret) { s.Immutable = new(true) }) },
		reported: "SecretConflict", repair: removeTarget,
	},
	"the Secret is replaced by one of another type": {
		do: func(l *lifeByHand) {
			l.replace(l.target(), func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque })
		},
		reported: "SecretConflict", repair: removeTarget,
	},
	"the ledger is deleted": {do: removeLedger},
	"the ledger is emptied": {
		do:       func(l *lifeByHand) { l.edit(l.ledger(), func(s *corev1.Secret) { s.Data = nil }) },
		reported: "LedgerInvalid", repair: removeLedger,
	},
	"the ledger is garbage": {
		do: func(l *lifeByHand) {
			l.edit(l.ledger(), func(s *corev1.Secret) {
				for key := range s.Data {
					s.Data[key] = []byte("{")
				}
			})
		},
		reported: "LedgerInvalid", repair: removeLedger,
	},
	"an older copy of the ledger is restored": {gap: true, do: func(l *lifeByHand) {
		if older := l.older; older != nil {
			l.edit(l.ledger(), func(s *corev1.Secret) { s.Data = maps.Clone(older.Data) })
		}
	}},
	"the ledger of another credential is copied in": {
		do: func(l *lifeByHand) {
			other := aCredential("other")
			l.Create(other)
			l.settle(other)
			theirs := l.secret(ledgerName(other))
			l.edit(l.ledger(), func(s *corev1.Secret) { s.Data = theirs.Data })
		},
		reported: "LedgerInvalid", repair: removeLedger,
	},
	"the ledger is made immutable": {
		do:       func(l *lifeByHand) { l.edit(l.ledger(), func(s *corev1.Secret) { s.Immutable = new(true) }) },
		reported: "APIServerFailed", repair: removeLedger,
	},
	"the ledger gets another owner": {
		do:       func(l *lifeByHand) { l.edit(l.ledger(), func(s *corev1.Secret) { s.Annotations = nil }) },
		reported: "LedgerInvalid", repair: removeLedger,
	},
	"the admin Secret is deleted": {
		do:       func(l *lifeByHand) { l.remove(l.find("orders-admin")) },
		reported: "SecretNotFound", repair: func(l *lifeByHand) { l.Create(fixture.AdminSecret()) },
	},
	"the admin Secret is emptied": {
		do:       func(l *lifeByHand) { l.edit(l.find("orders-admin"), func(s *corev1.Secret) { s.Data = nil }) },
		reported: "SecretInvalid", repair: func(l *lifeByHand) {
			l.edit(l.find("orders-admin"), func(s *corev1.Secret) { s.StringData = fixture.AdminSecret().StringData })
		},
	},
	"the Secret and the ledger are deleted": {gap: true, do: func(l *lifeByHand) { removeTarget(l); removeLedger(l) }},
}

var errDead = errors.New("the process is dead")

// interrupted plays an issue, a rotation and its overlap, and dies after its nth write. It returns the name of that write, and
// the ledger before it; the name is empty if the life is shorter.
func interrupted(t *testing.T, nth int) (l *lifeByHand, at string) {
	t.Helper()
	l = &lifeByHand{scene: newScene(t), login: aCredential("orders")}
	// rekey cannot know what was cut off or damaged by hand: only the form of its statements is checked.
	l.restart(world.Options{Racing: true})
	l.login.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	l.ready(aPolicy(), fixture.AdminSecret(), aServer())
	l.Create(l.login)
	count, dead := 0, false
	l.setHook(func(_ context.Context, r world.Request, do func() error) error {
		if dead {
			return errDead
		}
		if r.Writes() && count+1 == nth {
			l.older = l.ledger()
		}
		err := do()
		if r.Writes() {
			if count++; count == nth {
				dead, at = true, fmt.Sprintf("%s (revision %s)", r, revisionOf(l.ledger()))
			}
		}
		return err
	})
	l.settle(l.login)
	for _, wait := range []time.Duration{interval + time.Minute, overlap, time.Hour} {
		if !dead {
			l.Step(wait)
			l.settle(l.login)
		}
	}
	l.setHook(nil)
	l.restart(world.Options{Racing: true})
	l.Events()
	return l, at
}

func revisionOf(ledger *corev1.Secret) string {
	if ledger == nil {
		return "none"
	}
	return ledger.Annotations[v1alpha1.AnnotationRevision] + "/" + fmt.Sprint(slices.Sorted(maps.Keys(ledger.Data)))
}

// R15, R14, R19, R20, S: whatever a user does to the Secrets of a credential, at any stage of its life: no password is lost or
// rotated because of it, the published one works, rekey reports what the user has to do, and in the end everything is in order.
func TestManuallyDamagedSecretsAreRepairedAtEveryStage(t *testing.T) {
	random := size.Random(t, 0)
	names := slices.Sorted(maps.Keys(damages))
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	// The damages are played in turn, so that as many as possible are covered.
	for nth, next := 1, 0; ; nth++ {
		for range size.Number(1, 4) {
			name := names[next%len(names)]
			next++
			l, at := interrupted(t, nth)
			if at == "" {
				if nth < 15 {
					t.Errorf("a life has %d writes", nth-1)
				}
				return
			}
			t.Run(fmt.Sprintf("%02d %s: %s", nth, at, name), func(t *testing.T) {
				l.t, l.T = t, t
				l.checkRepaired(damages[name])
			})
		}
	}
}

func (l *lifeByHand) checkRepaired(d damage) {
	t, shown := l.t, l.target()
	t.Helper()
	worked := l.accepted(shown)
	d.do(l)
	refused, reported := time.Duration(0), map[string]bool{}
	last := l.Clock.Now()
	check := func() {
		now := l.Clock.Now()
		for _, c := range fixture.Conditions(l.login) {
			reported[c.Reason] = true
		}
		if s := l.target(); s != nil && worked && d.repair == nil && !l.accepted(s) {
			refused += now.Sub(last)
		}
		last = now
	}
	l.live(l.login, 20*time.Minute, check)
	if d.repair != nil {
		if !healthy(l.login) && !reported[d.reported] {
			t.Errorf("it was not reported: %v, want %s:%s", slices.Sorted(maps.Keys(reported)), d.reported, describe(l.login))
		}
		if l.needsRepair(d) {
			d.repair(l)
		}
	}
	l.live(l.login, 90*time.Minute, check)
	if !healthy(l.login) || !l.accepted(l.target()) {
		t.Fatalf("it was not repaired, or the published credential is rejected:%s", describe(l.login))
	}
	if refused > 0 && !d.gap {
		t.Errorf("the published credential was rejected for %s", refused)
	}
	// Everything continues as before: a rotation succeeds, and in the end there is exactly one login.
	seq := l.login.Status.Revision
	l.Edit(l.login, func() { metav1.SetMetaDataAnnotation(&l.login.ObjectMeta, v1alpha1.AnnotationRotate, "once more") })
	l.live(l.login, 90*time.Minute)
	if l.login.Status.Revision <= seq || !healthy(l.login) || !l.accepted(l.target()) {
		t.Errorf("it no longer rotates (revision %d, before %d):%s", l.login.Status.Revision, seq, describe(l.login))
	}
	if open := l.open(l.login); len(open) != 1 || open[0] != l.login.Status.ActiveUsername {
		t.Errorf("the logins %v are open, want %s", open, l.login.Status.ActiveUsername)
	}
	l.Delete(l.login)
	l.live(l.login, time.Hour)
	if _, a := l.Fake.Login("orders_a"); a || l.ledger() != nil {
		t.Error("after the deletion a login or the ledger still exists")
	}
}

// needsRepair reports whether the damage still exists: at some stages there was nothing to damage.
func (l *lifeByHand) needsRepair(d damage) bool {
	switch d.reported {
	case "SecretConflict":
		return l.target() != nil
	case "LedgerInvalid", "APIServerFailed":
		return !healthy(l.login) || l.ledger() != nil && l.ledger().Immutable != nil
	case "SecretNotFound":
		return l.find("orders-admin") == nil
	}
	return true
}
