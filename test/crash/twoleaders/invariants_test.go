// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

// invariants observes everything that happens and reports what must never happen.
type invariants struct {
	play *twoLeaders
	// effective counts the successful writes of all processes, refused the failed ones (conflicts).
	effective, refused int
	// changes counts database changes by call and by version of an object.
	changes map[string]int
	// logins holds the last seen state of each login.
	logins map[string]state
	// material is what the Secret with a UID showed as a revision; revision is the highest one of each.
	material map[string]string
	revision map[string]int64
	// versions counts the published versions of each Secret, regardless of their numbers.
	versions map[string]int
	// excused lists the UIDs of Secrets that a user or the garbage collector deletes.
	excused map[string]bool
	// proven records which state of a Secret has been proven, and when.
	proven map[string]string
	// ahead is how far a process's clock is ahead.
	ahead time.Duration
}

func newInvariants(d *twoLeaders) invariants {
	return invariants{play: d, changes: map[string]int{}, logins: map[string]state{}, material: map[string]string{}, revision: map[string]int64{}, versions: map[string]int{},
		excused: map[string]bool{}, proven: map[string]string{}}
}

// countWrite counts the writes of processes.
func (w *invariants) countWrite(_ *actor, _ world.Request, err error) {
	if err == nil {
		w.effective++
		return
	}
	w.refused++
}

// checkLogins compares the logins with their last seen state: a version is staged once and retired once, by any process.
func (w *invariants) checkLogins(a *actor) {
	username, _ := w.play.database.base()
	for _, slot := range []string{"a", "b"} {
		name := username + "_" + slot
		before, now := w.logins[name], w.play.database.login(name)
		if before == now {
			continue
		}
		w.logins[name] = now
		if a.calling == "" {
			w.play.violation("I3: login %s changed without a call", name)
			continue
		}
		uid := ""
		if login := w.play.loginNow(); login != nil {
			uid = string(login.UID)
		}
		where := fmt.Sprintf(" in slot %s for %s", slot, uid)
		if strings.HasPrefix(a.calling, "Stage ") {
			w.allowRemoval(where)
		}
		key := a.calling + where
		w.changes[key]++
		w.play.record(fmt.Sprintf("    %s: %s changed login %s", a.name, a.calling, name))
		if w.changes[key] > 1 {
			w.play.violation("I3: %s changed the database %d times", key, w.changes[key])
		}
	}
}

// allowRemoval lets a login be removed once more after it was staged: a process that does not see the deletion yet may stage a version
// while the other one removes the logins, slot by slot. The ledger is still the same, and the removal starts over.
func (w *invariants) allowRemoval(where string) {
	maps.DeleteFunc(w.changes, func(key string, _ int) bool {
		return strings.HasPrefix(key, "Remove ") && strings.HasSuffix(key, where)
	})
}

// excuse excuses the disappearance of an object that another process deletes.
func (w *invariants) excuse(o client.Object) { w.excused[string(o.GetUID())] = true }

func digest(secret *corev1.Secret) string {
	h := sha256.New()
	for _, key := range []string{credential.KeyUsername, credential.KeyPassword, credential.KeyPrivateKey, corev1.TLSCertKey} {
		_, _ = fmt.Fprintf(h, "%d ", len(secret.Data[key]))
		_, _ = h.Write(secret.Data[key])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// recordSecret checks a written Secret: one revision always has the same key and certificate, and others have a higher
// revision.
func (w *invariants) recordSecret(o client.Object, gone bool) {
	secret, ok := o.(*corev1.Secret)
	if !ok || secret.Annotations[v1alpha1.AnnotationRevision] == "" {
		return
	}
	if gone {
		w.checkDeletion(secret)
		return
	}
	revision, err := strconv.ParseInt(secret.Annotations[v1alpha1.AnnotationRevision], 10, 64)
	if err != nil {
		w.play.violation("Secret %s: its revision is not a number: %v", secret.Name, err)
		return
	}
	uid := string(secret.UID)
	if before := w.revision[uid]; revision < before {
		w.play.violation("Secret %s went back from revision %d to %d", secret.Name, before, revision)
	}
	w.revision[uid] = max(w.revision[uid], revision)
	at := fmt.Sprintf("%s/%d", uid, revision)
	now := digest(secret)
	switch before := w.material[at]; before {
	case now:
	case "":
		w.material[at] = now
		w.versions[secret.Name]++
		w.play.record(fmt.Sprintf("    Secret %s shows revision %d (%s)", secret.Name, revision, now))
	default:
		w.play.violation("I5: Secret %s showed two credentials as revision %d", secret.Name, revision)
	}
}

// checkDeletion checks a deleted Secret: a process deletes it only together with the object, under policy Delete.
func (w *invariants) checkDeletion(secret *corev1.Secret) {
	if w.excused[string(secret.UID)] {
		return
	}
	kind, name, _ := secretstore.OwnerOf(secret)
	owner := w.play.history.now(kind, client.ObjectKey{Namespace: secret.Namespace, Name: name})
	if owner != nil && owner.GetDeletionTimestamp() == nil {
		w.play.violation("a process deleted Secret %s of %s %s, which is not being deleted", secret.Name, kind, name)
	}
}

// checkPublished runs after every effect: the server accepts the published login.
func (w *invariants) checkPublished() {
	w.checkCertificates()
	d := w.play
	secret, login := d.secretNow("orders-db"), d.loginNow()
	if secret == nil || login == nil && w.loginsDropped() || login != nil && login.DeletionTimestamp != nil && login.Spec.DeletionPolicy == v1alpha1.DeletionDelete {
		return
	}
	if len(secret.Data[credential.KeyPassword]) == 0 {
		return
	}
	name := string(secret.Data[credential.KeyUsername])
	if !d.database.accepts(name, string(secret.Data[credential.KeyPassword])) {
		d.violation("I1: the published login %s (revision %s) is refused", name, secret.Annotations[v1alpha1.AnnotationRevision])
	}
}

// loginsDropped reports whether the credential was deleted together with its logins.
func (w *invariants) loginsDropped() bool {
	for _, change := range slices.Backward(w.play.history["DatabaseCredential"]) {
		if login, ok := change.object.(*v1alpha1.DatabaseCredential); ok {
			return login.Spec.DeletionPolicy == v1alpha1.DeletionDelete
		}
	}
	return false
}

// ledger returns the ledger of the credential.
func (d *twoLeaders) ledger() *secretstore.Ledger {
	secret := d.secretNow(secretstore.LedgerName("DatabaseCredential", "orders"))
	if secret == nil {
		return nil
	}
	ledger, err := secretstore.DecodeLedger(secret.Data)
	if err != nil {
		d.violation("the ledger is unreadable: %v", err)
		return nil
	}
	return &ledger
}

// checkSettled runs once everything has settled.
func (d *twoLeaders) checkSettled() {
	d.invariants.checkPublished()
	d.checkNoOrphans()
	for _, o := range d.objects {
		now := d.history.now(world.KindOf(o), client.ObjectKeyFromObject(o))
		if now == nil {
			continue
		}
		if now.GetDeletionTimestamp() != nil {
			d.violation("I9: %s %s still exists", world.KindOf(o), o.GetName())
			continue
		}
		generation, conditions := fixture.ObservedGeneration(now), fixture.Conditions(now)
		ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
		if generation != now.GetGeneration() || ready == nil || ready.Status != metav1.ConditionTrue {
			d.violation("I8: %s %s does not become ready: observed generation %d of %d, %v", world.KindOf(o), o.GetName(), generation, now.GetGeneration(), conditions)
		}
	}
	login, ledger, secret := d.loginNow(), d.ledger(), d.secretNow("orders-db")
	if login == nil {
		return
	}
	switch {
	case ledger == nil || ledger.Current == nil || secret == nil:
		d.violation("I8: the credential has no ledger, version or Secret")
	case ledger.Pending != nil:
		d.violation("I8: version %d is still pending (%s)", ledger.Pending.Seq, ledger.Pending.Stage)
	case login.Status.Revision != ledger.Current.Seq || string(secret.Data[credential.KeyPassword]) != ledger.Current.Material.String(credential.KeyPassword):
		d.violation("I8: the Secret or the status (revision %d) does not show version %d", login.Status.Revision, ledger.Current.Seq)
	}
}

// checkNoOrphans compares what the database accepts with the ledger.
func (d *twoLeaders) checkNoOrphans() {
	username, _ := d.database.base()
	ledger := d.ledger()
	known := map[string]bool{}
	if ledger != nil {
		for _, r := range []*secretstore.Record{ledger.Pending, ledger.Current, ledger.Previous} {
			if r == nil {
				continue
			}
			name := r.Material.String(credential.KeyUsername)
			known[name] = true
			if r != ledger.Pending && !d.database.accepts(name, r.Material.String(credential.KeyPassword)) {
				d.violation("I1: version %d (%s) is refused", r.Seq, name)
			}
		}
	}
	for _, slot := range []string{"a", "b"} {
		name := username + "_" + slot
		if now := d.database.login(name); now.open && !known[name] {
			d.violation("I2: login %s is open, and no ledger records it", name)
		}
	}
}

// checkRestartsWriteNothing lets new processes reconcile everything: with nothing due they write nothing.
func (d *twoLeaders) checkRestartsWriteNothing() {
	for _, a := range d.actors {
		a.restart()
		defer func(lags bool) { a.lags = lags }(a.lags)
		a.lags = false
		before, refused := d.invariants.effective, d.invariants.refused
		for _, o := range d.objects {
			a.reconcile(o)
		}
		if d.invariants.effective != before || d.invariants.refused != refused {
			d.violation("I4: a restart with nothing due wrote")
		}
	}
}
