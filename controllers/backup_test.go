// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
)

// backup is a credential's state in a backup and in a dump of the database.
type backup struct {
	secrets []corev1.Secret
	logins  map[string]databasetest.FakeLogin
}

func (w *world) backup() backup {
	w.t.Helper()
	var list corev1.SecretList
	if err := w.client.List(w.ctx, &list, client.InNamespace(w.namespace), client.HasLabels{v1alpha1.LabelKind}); err != nil {
		w.t.Fatal(err)
	}
	return backup{secrets: list.Items, logins: w.logins()}
}

// rewind restores the selected Secrets, and deletes those that did not exist at the time of the backup.
func (w *world) rewind(to backup, selected func(*corev1.Secret) bool) {
	w.t.Helper()
	for _, secret := range w.backup().secrets {
		if !selected(&secret) {
			continue
		}
		if err := w.client.Delete(w.ctx, &secret); client.IgnoreNotFound(err) != nil {
			w.t.Fatal(err)
		}
	}
	for _, secret := range to.secrets {
		if !selected(&secret) {
			continue
		}
		w.put(&corev1.Secret{Type: secret.Type, Data: secret.Data, ObjectMeta: metav1.ObjectMeta{
			Name: secret.Name, Labels: secret.Labels, Annotations: secret.Annotations, OwnerReferences: secret.OwnerReferences}})
	}
}

// replaced returns the object as a restore of the whole cluster creates it: with another UID, and without status. The original
// disappears as if etcd was lost: the operator sees no deletion.
func (w *world) replaced(object *v1alpha1.DatabaseCredential) *v1alpha1.DatabaseCredential {
	w.t.Helper()
	w.edit(object, func() { object.Finalizers = nil })
	if err := w.client.Delete(w.ctx, object); err != nil && !apierrors.IsNotFound(err) {
		w.t.Fatal(err)
	}
	out := aCredential()
	out.Annotations, out.Spec = object.Annotations, object.Spec
	w.create(out)
	return out
}

// Yesterday's Secrets, yesterday's database, or both come back, a whole life later, from every stage of a life, with the object
// or without it. No help is needed: the published login is accepted, the next rotation happens, exactly one login is open after
// its overlap, and no number is used twice.
func TestARestoreFromYesterdayAtEveryStageOfALifeIsServed(t *testing.T) {
	everything := func(*corev1.Secret) bool { return true }
	ways := []struct {
		name               string
		secrets            func(*corev1.Secret) bool
		database, replaced bool
	}{
		{name: "the ledger", secrets: ledgers},
		{name: "the user's Secret", secrets: usersSecrets},
		{name: "both Secrets", secrets: everything},
		{name: "the database", secrets: func(*corev1.Secret) bool { return false }, database: true},
		{name: "both Secrets and the database", secrets: everything, database: true},
		{name: "both Secrets, and the object", secrets: everything, replaced: true},
		{name: "everything", secrets: everything, database: true, replaced: true},
	}
	tried := map[string]int{}
	stride := size.Number(3, 1)                                                        // Not the number of ways, so that every way has its turn.
	for nth, more := 2+size.RandomFrom(t, 1).IntN(stride), true; more; nth += stride { // Nothing exists before the second write.
		way := ways[nth%len(ways)]
		var w *world
		var object *v1alpha1.DatabaseCredential
		w, object, more = stopped(t, nth)
		yesterday := w.backup()
		firstContinues(t, w, object, nth)
		today := object.Status.Revision
		w.rewind(yesterday, way.secrets)
		if way.database {
			w.restore(yesterday.logins)
		}
		if way.replaced {
			object = w.replaced(object)
		}
		w.restart()
		tried[way.name]++
		servedAgain(t, w, object, today, fmt.Sprintf("%s, from after write %d", way.name, nth))
	}
	t.Logf("restored, by what was restored: %v", tried)
	if len(tried) < len(ways) {
		t.Errorf("only %d of %d ways were tried", len(tried), len(ways))
	}
}

func servedAgain(t *testing.T, w *world, object *v1alpha1.DatabaseCredential, today int64, where string) {
	t.Helper()
	for range 12 {
		w.settle(object, 5)
		w.step(time.Minute)
	}
	if condition(object, v1alpha1.ConditionReady) != "True/Published" || !w.accepted("orders-db") {
		t.Errorf("%s: the published login is not accepted (%t), or not Ready:%s", where, w.accepted("orders-db"), describeConditions(object))
		return
	}
	for range 2 {
		w.step(25 * time.Hour)
		w.settle(object, 8)
		if !w.accepted("orders-db") {
			t.Errorf("%s: the published login is refused after a rotation:%s", where, describeConditions(object))
		}
		w.step(2 * time.Hour)
		w.settle(object, 8)
		w.cut = false // Yesterday's previous login is over: from now on every report must be true.
	}
	open := 0
	for _, login := range w.logins() {
		if login.CanLogin {
			open++
		}
	}
	if open != 1 || object.Status.Revision <= today {
		t.Errorf("%s: %d logins are open after the overlap, want one; revision %d, was %d before the restore:%s", where, open, object.Status.Revision, today, describeConditions(object))
	}
}

// Certificates come back from every step of the replacement of an authority, and have long expired by then: the authority's
// Secret, the identities' or both. Each side has a certificate that the other one accepts, without help.
func TestCertificatesFromYesterdayAreReplaced(t *testing.T) {
	copies := map[string]func(*corev1.Secret) bool{
		"the authority's Secret":     func(s *corev1.Secret) bool { return s.Name == "brought-ca" },
		"the identities' Secrets":    func(s *corev1.Secret) bool { return s.Name != "brought-ca" },
		"one side's Secret":          func(s *corev1.Secret) bool { return s.Name == "app-mtls" },
		"the authority and one side": func(s *corev1.Secret) bool { return s.Name != "api-mtls" },
		"everything":                 func(*corev1.Secret) bool { return true },
	}
	type restore struct {
		step int
		name string
	}
	var all []restore
	for step := range 4 {
		for _, name := range slices.Sorted(maps.Keys(copies)) {
			all = append(all, restore{step, name})
		}
	}
	for _, from := range size.Sample(size.RandomFrom(t, 1), all, 10, func(r restore) string { return r.name }) {
		t.Run(fmt.Sprintf("from step %d, %s", from.step, from.name), func(t *testing.T) { certificatesFromYesterday(t, from.step, copies[from.name]) })
	}
}

func certificatesFromYesterday(t *testing.T, backedUp int, selected func(*corev1.Secret) bool) {
	t.Helper()
	w := newWorld(t)
	root := func(name string) (crt, key []byte) {
		crt, secret, err := ca.NewSelfSigned(ca.Root{CommonName: name, KeyAlgorithm: issuer.ECDSAP256, Lifetime: 8760 * time.Hour}, w.clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return crt, secret.Reveal()
	}
	old, oldKey := root("Old CA")
	next, nextKey := root("Next CA")
	providedPair := keyPairSecret(t, map[string]string{v1alpha1.LabelAllow: "true"})
	providedPair.Data = map[string][]byte{"tls.crt": old, "tls.key": oldKey}
	authority, clientSide, serverSide := anAuthority(), aClientIdentity(), aServerIdentity()
	fixture.SetKeyPair(&authority.Spec, "brought-ca")
	ready(w, providedPair, authority, clientSide, serverSide)
	reconcileAll := func() {
		w.step(time.Minute) // Key pairs are read again after half a minute.
		for _, o := range []client.Object{authority, clientSide, serverSide} {
			w.settle(o, 3)
		}
	}
	var yesterday backup
	for step, change := range []func(){
		func() {},
		func() { providedPair.Data["ca.crt"] = append(append([]byte{}, old...), next...) },
		func() { providedPair.Data["tls.crt"], providedPair.Data["tls.key"] = next, nextKey },
		func() { providedPair.Data["ca.crt"] = next },
	} {
		w.edit(providedPair, change)
		reconcileAll()
		if step == backedUp {
			yesterday = w.backup()
			yesterday.secrets = append(yesterday.secrets, *w.secret("brought-ca"))
		}
	}
	w.step(25 * time.Hour)
	reconcileAll()
	w.rewind(yesterday, selected)
	w.restart()
	for range 3 {
		reconcileAll()
	}
	w.wantCondition(clientSide, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(serverSide, v1alpha1.ConditionReady, "True/Published")
	if err := w.handshake(w.secret("app-mtls"), w.secret("api-mtls")); err != nil {
		t.Errorf("the handshake fails: %v%s%s", err, describeConditions(clientSide), describeConditions(serverSide))
	}
}
