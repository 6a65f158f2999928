// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/world"
)

// watch looks at everything that happens, and says what must never be.
type watch struct {
	play *twoLeaders
	// effective writes and refused ones (conflicts), by any process.
	effective, refused int
	// changes at the database by what was to be done and for which version of which object.
	changes map[string]int
	// logins as they were seen last.
	logins map[string]state
	// material shown by the Secret of a UID as a revision, and the highest revision of each.
	material map[string]string
	revision map[string]int64
	// versions that were published, by Secret, whatever their number.
	versions map[string]int
	// excused are Secrets that a person or the garbage collector deletes.
	excused map[string]bool
	// shook is which state of a Secret has proven itself, and when.
	shook map[string]string
	// ahead is how far a process's clock is ahead.
	ahead time.Duration
}

func newWatch(d *twoLeaders) watch {
	return watch{play: d, changes: map[string]int{}, logins: map[string]state{}, material: map[string]string{}, revision: map[string]int64{}, versions: map[string]int{},
		excused: map[string]bool{}, shook: map[string]string{}}
}

// wrote counts the writes of processes.
func (w *watch) wrote(_ *actor, _ world.Request, err error) {
	if err == nil {
		w.effective++
		return
	}
	w.refused++
}

// compare looks at the logins: one version is staged once and retired once, by whomsoever.
func (w *watch) compare(a *actor) {
	username, _ := w.play.database.base()
	for _, slot := range []string{"a", "b"} {
		name := username + "_" + slot
		before, now := w.logins[name], w.play.database.login(name)
		if before == now {
			continue
		}
		w.logins[name] = now
		if a.calling == "" {
			w.play.blame("I3: login %s changed, and nobody had called", name)
			continue
		}
		uid := ""
		if login := w.play.loginNow(); login != nil {
			uid = string(login.UID)
		}
		key := fmt.Sprintf("%s in slot %s for %s", a.calling, slot, uid)
		w.changes[key]++
		w.play.note(fmt.Sprintf("    %s: %s changed login %s", a.name, a.calling, name))
		if w.changes[key] > 1 {
			w.play.blame("I3: %s changed the database %d times", key, w.changes[key])
		}
	}
}

// removed excuses what disappears because somebody else deletes it.
func (w *watch) removed(o client.Object) { w.excused[string(o.GetUID())] = true }

func digest(secret *corev1.Secret) string {
	h := sha256.New()
	for _, key := range []string{credential.KeyUsername, credential.KeyPassword, credential.KeyPrivateKey, corev1.TLSCertKey} {
		_, _ = fmt.Fprintf(h, "%d ", len(secret.Data[key]))
		_, _ = h.Write(secret.Data[key])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// saw looks at a Secret that was written: one revision has one key and one certificate for ever, others have
// a higher revision.
func (w *watch) saw(o client.Object, gone bool) {
	secret, ok := o.(*corev1.Secret)
	if !ok || secret.Annotations[v1alpha1.AnnotationRevision] == "" {
		return
	}
	if gone {
		w.disappeared(secret)
		return
	}
	revision, err := strconv.ParseInt(secret.Annotations[v1alpha1.AnnotationRevision], 10, 64)
	if err != nil {
		w.play.blame("Secret %s: its revision is no number: %v", secret.Name, err)
		return
	}
	uid := string(secret.UID)
	if before := w.revision[uid]; revision < before {
		w.play.blame("Secret %s went back from revision %d to %d", secret.Name, before, revision)
	}
	w.revision[uid] = max(w.revision[uid], revision)
	at := fmt.Sprintf("%s/%d", uid, revision)
	now := digest(secret)
	switch before := w.material[at]; before {
	case now:
	case "":
		w.material[at] = now
		w.versions[secret.Name]++
		w.play.note(fmt.Sprintf("    Secret %s shows revision %d (%s)", secret.Name, revision, now))
	default:
		w.play.blame("I5: Secret %s showed two credentials as revision %d", secret.Name, revision)
	}
}

// disappeared is for a Secret that somebody deleted: a process does so only where the object goes, with its policy Delete.
func (w *watch) disappeared(secret *corev1.Secret) {
	if w.excused[string(secret.UID)] {
		return
	}
	kind, name, _ := secretstore.OwnerOf(secret)
	owner := w.play.history.now(kind, client.ObjectKey{Namespace: secret.Namespace, Name: name})
	if owner != nil && owner.GetDeletionTimestamp() == nil {
		w.play.blame("a process deleted Secret %s of %s %s, which is not being deleted", secret.Name, kind, name)
	}
}

// look is asked after every effect: what is published is accepted.
func (w *watch) look() {
	w.lookAtCertificates()
	d := w.play
	secret, login := d.secretNow("orders-db"), d.loginNow()
	if secret == nil || login == nil && w.dropped() || login != nil && login.DeletionTimestamp != nil && login.Spec.DeletionPolicy == v1alpha1.DeletionDelete {
		return
	}
	if len(secret.Data[credential.KeyPassword]) == 0 {
		return
	}
	name := string(secret.Data[credential.KeyUsername])
	if !d.database.accepts(name, string(secret.Data[credential.KeyPassword])) {
		d.blame("I1: the published login %s (revision %s) is refused", name, secret.Annotations[v1alpha1.AnnotationRevision])
	}
}

// dropped tells whether the credential was deleted with its logins.
func (w *watch) dropped() bool {
	for _, change := range slices.Backward(w.play.history["DatabaseCredential"]) {
		if login, ok := change.object.(*v1alpha1.DatabaseCredential); ok {
			return login.Spec.DeletionPolicy == v1alpha1.DeletionDelete
		}
	}
	return false
}

// ledger gives what is written down about the credential.
func (d *twoLeaders) ledger() *secretstore.Ledger {
	secret := d.secretNow(secretstore.LedgerName("DatabaseCredential", "orders"))
	if secret == nil {
		return nil
	}
	ledger, err := secretstore.DecodeLedger(secret.Data)
	if err != nil {
		d.blame("the ledger cannot be read: %v", err)
		return nil
	}
	return &ledger
}

// rest is asked when everything has settled.
func (d *twoLeaders) rest() {
	d.watch.look()
	d.noOrphans()
	for _, o := range d.objects {
		now := d.history.now(world.KindOf(o), client.ObjectKeyFromObject(o))
		if now == nil {
			continue
		}
		if now.GetDeletionTimestamp() != nil {
			d.blame("I9: %s %s is still there", world.KindOf(o), o.GetName())
			continue
		}
		generation, conditions := statusOf(now)
		ready := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
		if generation != now.GetGeneration() || ready == nil || ready.Status != metav1.ConditionTrue {
			d.blame("I8: %s %s does not become ready: observed generation %d of %d, %v", world.KindOf(o), o.GetName(), generation, now.GetGeneration(), conditions)
		}
	}
	login, ledger, secret := d.loginNow(), d.ledger(), d.secretNow("orders-db")
	if login == nil {
		return
	}
	switch {
	case ledger == nil || ledger.Current == nil || secret == nil:
		d.blame("I8: the credential has no ledger, no version, or no Secret")
	case ledger.Pending != nil:
		d.blame("I8: version %d is still pending (%s)", ledger.Pending.Seq, ledger.Pending.Stage)
	case login.Status.Revision != ledger.Current.Seq || string(secret.Data[credential.KeyPassword]) != ledger.Current.Material.String(credential.KeyPassword):
		d.blame("I8: the Secret or the status (revision %d) does not show version %d", login.Status.Revision, ledger.Current.Seq)
	}
}

// noOrphans compares what the database accepts with what is written down.
func (d *twoLeaders) noOrphans() {
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
				d.blame("I1: version %d (%s) is refused", r.Seq, name)
			}
		}
	}
	for _, slot := range []string{"a", "b"} {
		name := username + "_" + slot
		if now := d.database.login(name); now.open && !known[name] {
			d.blame("I2: login %s is open, and nobody knows it", name)
		}
	}
}

// quiet lets new processes look at everything: with nothing due they write nothing.
func (d *twoLeaders) quiet() {
	for _, a := range d.actors {
		a.restart()
		defer func(lags bool) { a.lags = lags }(a.lags)
		a.lags = false
		before, refused := d.watch.effective, d.watch.refused
		for _, o := range d.objects {
			a.pass(o)
		}
		if d.watch.effective != before || d.watch.refused != refused {
			d.blame("I4: a restart with nothing due wrote")
		}
	}
}

func statusOf(o client.Object) (int64, []metav1.Condition) {
	switch o := o.(type) {
	case *v1alpha1.CertificateAuthority:
		return o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.ClusterCertificateAuthority:
		return o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.ClientIdentity:
		return o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.ServerIdentity:
		return o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.DatabaseCredential:
		return o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.DatabaseServer:
		return o.Status.ObservedGeneration, o.Status.Conditions
	case *v1alpha1.RotationPolicy:
		return o.Status.ObservedGeneration, o.Status.Conditions
	}
	return 0, nil
}
