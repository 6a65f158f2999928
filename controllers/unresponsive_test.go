// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
)

// breakReads makes every read of the named Secrets fail from now on; an empty answer ends that.
func (w *world) breakReads(t *testing.T, failing func(name string) error) {
	t.Helper()
	broken := interceptor.NewClient(w.client, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if _, ok := o.(*corev1.Secret); ok {
				if err := failing(key.Name); err != nil {
					return err
				}
			}
			return c.Get(ctx, key, o, opts...)
		},
	})
	w.shared.client, w.shared.live = broken, broken
	w.shared.authorities.live = broken
}

func TestAFailedReadIsReported(t *testing.T) {
	w := newWorld(t)
	broken := aCredential()
	w.create(aPolicy(), anAdminSecret(), aServer(), broken)
	w.breakReads(t, func(name string) error {
		if name == "orders-db" {
			return errors.New("the API server does not answer")
		}
		return nil
	})
	for range 6 {
		w.reconcile(broken)
		w.step(time.Minute)
	}
	w.wantCondition(broken, v1alpha1.ConditionReady, "Unknown/APIServerFailed")
	w.wantCondition(broken, v1alpha1.ConditionReconciling, "True/APIServerFailed")
	if events := w.events(); len(events) != 1 || !with(events, "Warning APIServerFailed") {
		t.Errorf("Events: %q", events)
	}
}

func TestALostLedgerBesideAnUnreachableServerIsReported(t *testing.T) {
	w := newWorld(t)
	credential := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), credential)
	w.database.SetDown(true)
	if err := w.client.Delete(w.ctx, w.secret(secretstore.LedgerName(kindDatabaseCredential, credential.Name))); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		w.reconcile(credential)
		w.step(time.Minute)
	}
	w.wantCondition(credential, v1alpha1.ConditionReconciling, "True/ServerUnreachable")
	w.wantCondition(credential, v1alpha1.ConditionReady, "True/Published")
	if events := w.events(); len(events) != 1 || !with(events, "Warning ServerUnreachable") {
		t.Errorf("Events: %q", events)
	}
	w.database.SetDown(false)
	w.step(time.Hour)
	w.settle(credential, 5)
	w.wantCondition(credential, v1alpha1.ConditionReconciling, "")
	w.wantCondition(credential, v1alpha1.ConditionReady, "True/Published")
}

func TestTrustAnchorsSurviveAFailedRead(t *testing.T) {
	w := newWorld(t)
	secret := keyPairSecret(t, map[string]string{v1alpha1.LabelAllow: "true"})
	other, _, err := ca.NewSelfSigned(ca.Root{CommonName: "Next CA", KeyAlgorithm: issuer.ECDSAP256, Lifetime: 8760 * time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secret.Data[credential.KeyAuthority] = append(append([]byte(nil), secret.Data[credential.KeyCertificate]...), other...)
	authority, identity := anAuthority(), aClientIdentity()
	fixture.SetKeyPair(&authority.Spec, "brought-ca")
	ready(w, secret, authority, identity)
	anchors := w.secret("app-mtls").Data[credential.KeyAuthority]
	if strings.Count(string(anchors), "BEGIN") != 2 {
		t.Fatalf("the Secret shows %d anchors, want 2", strings.Count(string(anchors), "BEGIN"))
	}
	reads := 0
	w.breakReads(t, func(name string) error {
		if name != "brought-ca" {
			return nil
		}
		if reads++; reads%2 == 0 {
			return errors.New("the API server does not answer")
		}
		return nil
	})
	for range 4 {
		w.step(time.Minute)
		w.reconcile(identity)
	}
	if now := w.secret("app-mtls").Data[credential.KeyAuthority]; string(now) != string(anchors) {
		t.Errorf("after failed reads the Secret shows %d anchors", strings.Count(string(now), "BEGIN"))
	}
	if reads < 2 {
		t.Error("nothing was read")
	}
}

func TestACertificateIsRenewedWithoutItsPolicy(t *testing.T) {
	w := newWorld(t)
	identity, policy := aClientIdentity(), aPolicy()
	identity.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: "daily"}
	policy.Spec.Interval, policy.Spec.MaxAge = duration(100*time.Hour), nil
	ready(w, anAuthority(), policy, identity)
	if err := w.client.Delete(w.ctx, policy); err != nil {
		t.Fatal(err)
	}
	w.step(17 * time.Hour)
	w.reconcile(identity)
	if identity.Status.Revision != 2 {
		t.Errorf("revision %d, want 2:%s", identity.Status.Revision, describeConditions(identity))
	}
	w.wantCondition(identity, v1alpha1.ConditionReconciling, "True/PolicyNotFound")
}

func TestPasswordsReportTheirApproachingDeadline(t *testing.T) {
	w := newWorld(t)
	credential := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), credential)
	w.database.SetDown(true)
	for range 80 {
		w.step(time.Hour)
		w.reconcile(credential)
	}
	w.wantCondition(credential, v1alpha1.ConditionExpiringSoon, "True/Expired")
	w.wantCondition(credential, v1alpha1.ConditionRotationOverdue, "True/RotationOverdue")
	// It works as far as rekey knows: Ready stays True.
	w.wantCondition(credential, v1alpha1.ConditionReady, "True/Published")
	seen := w.events()
	for _, reason := range []string{"ExpiresSoon", "ExpiresImminently", "Expired", "RotationOverdue", "ServerUnreachable"} {
		count := 0
		for _, line := range seen {
			if strings.HasPrefix(line, "Warning "+reason+" ") {
				count++
			}
		}
		if count != 1 {
			t.Errorf("%s was reported %d times; all: %q", reason, count, seen)
		}
	}
}

func TestSuspensionIsShownAndEnds(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority(), identity)
	w.edit(identity, func() { identity.Spec.Suspend = true })
	w.step(17 * time.Hour)
	w.reconcile(identity)
	w.wantCondition(identity, v1alpha1.ConditionSuspended, "True/Suspended")
	if identity.Status.Revision != 1 {
		t.Error("it was renewed although suspended")
	}
	w.step(8 * time.Hour)
	w.reconcile(identity)
	w.wantCondition(identity, v1alpha1.ConditionReady, "False/Expired")
	w.wantCondition(identity, v1alpha1.ConditionStalled, "True/Expired")
	w.edit(identity, func() { identity.Spec.Suspend = false })
	w.reconcile(identity)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	events := w.events()
	for _, reason := range []string{"Normal Suspended", "Warning Expired", "Normal Issued", "Normal Resumed"} {
		if !with(events, reason) {
			t.Errorf("no Event %s: %q", reason, events)
		}
	}
}

func TestWhatCouldNotBeCleanedUpIsReported(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	object.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.database.SetDown(true)
	if err := w.client.Delete(w.ctx, object); err != nil {
		t.Fatal(err)
	}
	w.reconcile(object)
	if object.DeletionTimestamp.IsZero() {
		t.Fatal("the finalizer was removed at once, although its server may come back")
	}
	w.step(lifecycle.WithdrawPatience + time.Minute)
	w.reconcile(object)
	w.step(time.Minute)
	w.reconcile(object)
	if events := w.events(); !with(events, "Warning CleanupIncomplete") {
		t.Errorf("Events: %q", events)
	}
}

func TestAServerThatRefusesTheAdminIsContactedLessAndLessOften(t *testing.T) {
	w := newWorld(t)
	server := aServer()
	w.create(anAdminSecret(), server)
	w.database.SetCheck(database.Report{}, fault.Blocked(fault.AdminRejected, errors.New("the server refused the admin")))
	reconciler := w.reconcilerOf(server)
	hours := size.Number(4, 24)
	for range hours * 60 * 2 {
		if _, err := reconciler.Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(server)}); err != nil {
			t.Fatal(err)
		}
		w.step(30 * time.Second)
	}
	if calls := w.database.Calls("Check"); calls > hours*6+20 {
		t.Errorf("asked %d times in %d hours", calls, hours)
	}
	w.database.SetCheck(database.Report{}, nil)
	secret := w.secret("orders-admin")
	w.edit(secret, func() { secret.Data["password"] = []byte("another-password-of-the-test") })
	if _, err := reconciler.Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(server)}); err != nil {
		t.Fatal(err)
	}
	w.get(server)
	w.wantCondition(server, v1alpha1.ConditionReady, "True/Serving")
}

func TestARecordFollowsTheDeletionPolicy(t *testing.T) {
	w := newWorld(t)
	authority := anAuthority()
	ready(w, authority)
	record := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: secretstore.LedgerName("CertificateAuthority", authority.Name)}}
	for _, tc := range []struct {
		policy v1alpha1.DeletionPolicy
		owners int
	}{{v1alpha1.DeletionDelete, 1}, {v1alpha1.DeletionRetain, 0}} {
		w.edit(authority, func() { authority.Spec.DeletionPolicy = tc.policy })
		w.reconcile(authority)
		w.get(record)
		if got := len(w.secret("internal-ca").OwnerReferences); len(record.OwnerReferences) != tc.owners || got != tc.owners {
			t.Errorf("%s: the record has %d owners, the Secret %d, want %d", tc.policy, len(record.OwnerReferences), got, tc.owners)
		}
	}
}

func TestAFightOverACertificateIsBounded(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority(), identity)
	made := 0
	minutes := size.Number(4, 15)
	for range minutes * 60 {
		secret := w.secret("app-mtls")
		w.edit(secret, func() { secret.Data["tls.crt"] = []byte("another user's") })
		w.step(time.Second)
		w.reconcile(identity)
		if with(w.events(), "Normal Issued") {
			made++
		}
	}
	// At once, then two more at intervals of ten seconds, as a user may edit twice; then once a minute.
	if made < minutes || made > minutes+3 {
		t.Errorf("%d certificates in %d minutes of a fight, want one a minute", made, minutes)
	}
	w.step(time.Minute)
	w.reconcile(identity)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
}

// T4: a server that never answers costs few writes: what is reported about it changes neither with every attempt, nor with
// every change of the server's own status.
func TestAServerThatNeverAnswersCostsFewWrites(t *testing.T) {
	w := newWorld(t)
	object, server := aCredential(), aServer()
	w.database.SetDown(true)
	w.create(aPolicy(), anAdminSecret(), server, object)
	next := map[client.Object]time.Time{object: w.clock.Now(), server: w.clock.Now()}
	var written []write
	for second := range 300 {
		if second%20 == 19 {
			// Another tool updates a time on the server; that does not mean that it answers now.
			written = append(written, w.written()...)
			w.request(server, "example.org/seen", w.clock.Now().String())
			next[object] = w.clock.Now()
		}
		for _, o := range []client.Object{server, object} {
			if w.clock.Now().Before(next[o]) {
				continue
			}
			version := server.ResourceVersion
			next[o] = w.clock.Now().Add(w.reconcile(o).RequeueAfter)
			if o == server && server.ResourceVersion != version {
				next[object] = w.clock.Now()
			}
		}
		w.step(time.Second)
	}
	writes := 0
	for _, of := range append(written, w.written()...) {
		if of.kind == "DatabaseCredential" && of.verb == "update status" {
			writes++
		}
	}
	asked := w.database.Calls("Marker")
	if writes == 0 || writes > 3 || asked < 4 || asked > 12 {
		t.Errorf("%d writes of the status in five minutes, and %d requests to the server", writes, asked)
	}
	if events := w.events(); strings.Count(strings.Join(events, "\n"), "DatabaseCredential/orders") != 1 {
		t.Errorf("Events: %q", events)
	}
}
