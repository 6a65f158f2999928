// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// refuse makes the API server refuse these writes, as a webhook, a policy or a quota does. The words name it.
func (w *world) refuse(these func(write) bool) {
	w.fail = func(of write) error {
		if !these(of) {
			return nil
		}
		return apierrors.NewForbidden(corev1.Resource("secrets"), of.name, errors.New("exceeded quota: team-quota"))
	}
}

func writesOf(verb, name string) func(write) bool {
	return func(of write) bool { return of.kind == "Secret" && of.name == name && strings.Contains(verb, of.verb) }
}

// T4: until the Secret shows a version, no Event and no field of the status says that it is published.
func TestNothingIsCalledPublishedBeforeTheSecretShowsIt(t *testing.T) {
	for name, tc := range map[string]struct {
		first    bool
		hold     func(w *world)
		mend     func(w *world)
		revision int64
		login    string
		// made is whether the next login is made at all.
		made bool
	}{
		"the first Secret may not be created": {
			first: true, hold: func(w *world) { w.refuse(writesOf("create", "orders-db")) },
			mend: func(w *world) { w.fail = nil }, made: true,
		},
		"the Secret may not be updated": {
			hold: func(w *world) { w.refuse(writesOf("update", "orders-db")) },
			mend: func(w *world) { w.fail = nil }, revision: 1, login: "orders_app_a", made: true,
		},
		"the Secret is immutable": {
			hold: func(w *world) {
				secret := w.secret("orders-db")
				w.edit(secret, func() { secret.Immutable = new(true) })
			},
			mend: func(w *world) {
				if err := w.client.Delete(w.ctx, w.secret("orders-db")); err != nil {
					w.t.Fatal(err)
				}
			},
			revision: 1, login: "orders_app_a",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			object := aCredential()
			next, want := "orders_app_b", int64(2)
			if tc.first {
				tc.hold(w)
				next, want = "orders_app_a", 1
			}
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			if !tc.first {
				tc.hold(w)
				w.step(25 * time.Hour)
			}
			for range 8 {
				w.reconcile(object)
				w.step(30 * time.Second)
			}
			if events := w.events(); with(events, "Rotated") || with(events, "is published") {
				t.Errorf("told before it is so: %q", events)
			}
			if s := object.Status; s.Revision != tc.revision || s.ActiveUsername != tc.login || (s.Binding != nil) != (tc.revision > 0) || s.Previous != nil {
				t.Errorf("status says revision %d, login %q, binding %v, previous %v", s.Revision, s.ActiveUsername, s.Binding, s.Previous)
			}
			if _, made := w.database.Login(next); made != tc.made {
				t.Errorf("login %s made: %t, want %t", next, made, tc.made)
			}
			if !tc.first && !w.database.Accepts("orders_app_a", string(w.secret("orders-db").Data["password"])) {
				t.Error("the login in the Secret is refused")
			}
			tc.mend(w)
			w.step(11 * time.Minute)
			w.settle(object, 8)
			if events := w.events(); !with(events, "Normal Rotated", next) {
				t.Errorf("Events after it was mended: %q", events)
			}
			if s := object.Status; s.Revision != want || s.ActiveUsername != next || s.Binding == nil {
				t.Errorf("status says revision %d, login %q, binding %v after it was mended", s.Revision, s.ActiveUsername, s.Binding)
			}
		})
	}
}

// T4: a Secret that was gone for a while and shows the same version again is no rotation.
func TestASecretThatComesBackIsNoRotation(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.refuse(writesOf("create", "orders-db"))
	if err := w.client.Delete(w.ctx, w.secret("orders-db")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.reconcile(object)
		w.step(30 * time.Second)
	}
	if object.Status.Binding != nil || object.Status.ActiveUsername != "" {
		t.Errorf("the status names %v and %q, and there is no Secret", object.Status.Binding, object.Status.ActiveUsername)
	}
	w.fail = nil
	w.step(11 * time.Minute)
	w.settle(object, 5)
	if events := w.events(); with(events, "Rotated") || !with(events, "Recovered") {
		t.Errorf("Events: %q", events)
	}
	if object.Status.Revision != 1 {
		t.Errorf("revision %d", object.Status.Revision)
	}
}

// T4: Ready judges the data. A label that may not be written is told, and keeps nobody from using what is published.
func TestMetadataThatCannotBeWrittenLeavesReadyTrue(t *testing.T) {
	template := &v1alpha1.SecretTemplate{Labels: map[string]v1alpha1.TemplateLabelValue{"team": "orders"}}
	login, identity := aCredential(), aClientIdentity()
	for secret, tc := range map[string]struct {
		object client.Object
		change func()
	}{
		"orders-db": {login, func() { login.Spec.SecretTemplate = template }},
		"app-mtls":  {identity, func() { identity.Spec.SecretTemplate = template }},
	} {
		t.Run(secret, func(t *testing.T) {
			w := newWorld(t)
			ready(w, aPolicy(), anAdminSecret(), aServer(), anAuthority(), tc.object)
			w.refuse(writesOf("update", secret))
			w.edit(tc.object, tc.change)
			for range 4 {
				w.reconcile(tc.object)
				w.step(30 * time.Second)
			}
			w.wantCondition(tc.object, v1alpha1.ConditionReady, "True/Published")
			w.wantCondition(tc.object, v1alpha1.ConditionReconciling, "True/QuotaExceeded")
			if said := describeConditions(tc.object); !strings.Contains(said, "team-quota") {
				t.Errorf("nothing says what refuses it:%s", said)
			}
			// Data that are wrong are another matter.
			w.fail = nil
			held := w.secret(secret)
			w.edit(held, func() {
				for key := range held.Data {
					held.Data[key] = []byte("somebody else's")
				}
			})
			w.refuse(writesOf("update", secret))
			w.step(11 * time.Minute)
			w.reconcile(tc.object)
			w.wantCondition(tc.object, v1alpha1.ConditionReady, "False/QuotaExceeded")
			w.fail = nil
			w.step(11 * time.Minute)
			w.settle(tc.object, 5)
			w.wantCondition(tc.object, v1alpha1.ConditionReady, "True/Published")
			w.wantCondition(tc.object, v1alpha1.ConditionReconciling, "")
			if w.secret(secret).Labels["team"] != "orders" {
				t.Error("the label was not written")
			}
		})
	}
}

// T4: while the API server refuses the Secret of an identity, one reason stands, one Event tells it, and few keys are made.
func TestARefusalStandsUntilItIsOver(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority())
	w.refuse(writesOf("create", "app-mtls"))
	w.create(identity)
	for range 600 {
		w.reconcile(identity)
		w.step(time.Second)
		if got := condition(identity, v1alpha1.ConditionReady); got != "False/QuotaExceeded" {
			t.Fatalf("Ready is %s%s", got, describeConditions(identity))
		}
	}
	events := w.events()
	if len(events) != 1 || !with(events, "Warning QuotaExceeded", "team-quota") || strings.Contains(events[0], "committing") {
		t.Errorf("Events: %q", events)
	}
	tries := 0
	for _, of := range w.written() {
		if of.name == "app-mtls" {
			tries++
		}
	}
	if tries < 3 || tries > 10 {
		t.Errorf("%d keys were made in ten minutes", tries)
	}
	w.fail = nil
	w.step(5 * time.Minute)
	w.settle(identity, 5)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
}

// T4: another tool that overwrites a certificate again and again is told, as for a login.
func TestAFightOverACertificateIsTold(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority(), identity)
	for range 40 {
		w.step(11 * time.Second)
		secret := w.secret("app-mtls")
		w.edit(secret, func() { secret.Data["tls.crt"] = []byte("somebody else's") })
		w.settle(identity, 3)
	}
	w.wantCondition(identity, v1alpha1.ConditionReconciling, "True/SecretConflict")
	if events := w.events(); !with(events, "Warning SecretConflict", "--show-managed-fields") {
		t.Errorf("Events: %q", events)
	} else if conflicts := strings.Count(strings.Join(events, "\n"), "SecretConflict"); conflicts > 1 {
		t.Errorf("told %d times", conflicts)
	}
	w.step(30 * time.Minute)
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReconciling, "")
}

// T4: a person's request is recorded also where what it asks for fails, so that the annotation may vanish.
func TestARequestIsRecordedWhereItsRotationFails(t *testing.T) {
	ask := func(o client.Object, value string) func() {
		return func() {
			annotations := map[string]string{}
			if value != "" {
				annotations[v1alpha1.AnnotationRotate] = value
			}
			o.SetAnnotations(annotations)
		}
	}
	identity, login := aClientIdentity(), aCredential()
	narrowed := func(w *world, names ...v1alpha1.NamePattern) {
		authority := anAuthority()
		authority.Namespace = w.namespace
		w.edit(authority, func() { authority.Spec.Constraints.CommonNames = names })
		w.settle(authority, 3)
	}
	for name, tc := range map[string]struct {
		object      client.Object
		fails, mend func(w *world)
	}{
		"constraints refuse the certificate": {identity, func(w *world) { narrowed(w, "nobody") }, func(w *world) { narrowed(w, "*") }},
		"the Secret may not be written": {login, func(w *world) {
			w.refuse(writesOf("update", "orders-db"))
			secret := w.secret("orders-db")
			w.fail = nil
			w.edit(secret, func() { secret.Data["uri"] = []byte("edited") })
			w.refuse(writesOf("update", "orders-db"))
		}, func(w *world) { w.fail = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ready(w, aPolicy(), anAdminSecret(), aServer(), anAuthority(), tc.object)
			tc.fails(w)
			refusal := w.fail
			w.fail = nil
			w.edit(tc.object, ask(tc.object, "leak-1"))
			w.fail = refusal
			w.reconcile(tc.object)
			w.fail = nil
			w.edit(tc.object, ask(tc.object, ""))
			w.fail = refusal
			w.step(time.Minute)
			w.reconcile(tc.object)
			tc.mend(w)
			w.step(time.Hour)
			w.settle(tc.object, 8)
			if got := revisionOf(tc.object); got != 2 {
				t.Errorf("revision %d: the request was forgotten%s", got, describeConditions(tc.object))
			}
		})
	}
}

// T4: a policy that is missing is a brake, and what was said of the deadline stays said.
func TestAMissingPolicyTakesNothingAwayAndSilencesNoWarning(t *testing.T) {
	w := newWorld(t)
	object, policy := aCredential(), aPolicy()
	ready(w, policy, anAdminSecret(), aServer(), object)
	w.step(25 * time.Hour)
	w.settle(object, 8)
	w.edit(policy, func() { policy.Spec.Suspend = true })
	w.step(71 * time.Hour)
	w.settle(object, 5)
	w.wantCondition(object, v1alpha1.ConditionExpiringSoon, "True/ExpiresImminently")
	w.wantCondition(object, v1alpha1.ConditionRotationOverdue, "True/RotationOverdue")
	if err := w.client.Delete(w.ctx, policy); err != nil {
		t.Fatal(err)
	}
	w.events()
	for range 5 {
		w.reconcile(object)
		w.step(time.Minute)
	}
	if login, _ := w.database.Login("orders_app_a"); !login.CanLogin {
		t.Error("the previous login was retired while the policy that suspends was missing")
	}
	w.wantCondition(object, v1alpha1.ConditionReconciling, "True/PolicyNotFound")
	w.wantCondition(object, v1alpha1.ConditionExpiringSoon, "True/ExpiresImminently")
	w.wantCondition(object, v1alpha1.ConditionRotationOverdue, "True/RotationOverdue")
	if events := w.events(); !with(events, "Warning PolicyNotFound") {
		t.Errorf("Events: %q", events)
	}

	// Nothing is repaired either, as under suspension.
	login, _ := w.database.Login("orders_app_b")
	login.Password = "changed by hand"
	w.database.Put("orders_app_b", login)
	for range 5 {
		w.step(time.Hour)
		w.reconcile(object)
	}
	if login, _ = w.database.Login("orders_app_b"); login.Password != "changed by hand" {
		t.Error("a login was repaired while the policy was missing")
	}
	again := aPolicy()
	w.create(again)
	w.settle(object, 9)
	w.step(time.Minute)
	w.settle(object, 9)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(object, v1alpha1.ConditionReconciling, "")
}

// T4: that the policy is missing shows also while a step fails for another reason.
func TestAMissingPolicyShowsBesideAFailingStep(t *testing.T) {
	for reason, refusal := range map[string]error{
		"APIServerFailed": apierrors.NewInternalError(errors.New("etcdserver: request timed out")),
		"QuotaExceeded":   apierrors.NewForbidden(corev1.Resource("secrets"), "app-mtls", errors.New("exceeded quota: team-quota")),
	} {
		t.Run(reason, func(t *testing.T) {
			w := newWorld(t)
			identity, authority, policy := aClientIdentity(), anAuthority(), aPolicy()
			identity.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: "daily"}
			ready(w, authority, policy, identity)
			if err := w.client.Delete(w.ctx, policy); err != nil {
				t.Fatal(err)
			}
			w.fail = func(of write) error {
				if writesOf("update", "app-mtls")(of) {
					return refusal
				}
				return nil
			}
			w.step(20 * time.Hour)
			for range 3 {
				w.reconcile(identity)
				w.step(time.Minute)
			}
			w.wantCondition(identity, v1alpha1.ConditionRotating, "True/"+reason)
			said := meta.FindStatusCondition(identity.Status.Conditions, v1alpha1.ConditionReconciling)
			if said == nil || said.Reason != "PolicyNotFound" && !strings.Contains(said.Message, "PolicyNotFound: RotationPolicy "+w.namespace+"/daily") {
				t.Errorf("the missing policy is not told:%s", describeConditions(identity))
			}
		})
	}
}

// T4: what is suspended before anything was issued is not called under way.
func TestWhatIsSuspendedIsNotCalledUnderWay(t *testing.T) {
	identity, login := aClientIdentity(), aCredential()
	identity.Spec.Suspend, login.Spec.Suspend = true, true
	for _, object := range []client.Object{identity, login} {
		w := newWorld(t)
		ready(w, aPolicy(), anAdminSecret(), aServer(), anAuthority(), object)
		w.wantCondition(object, v1alpha1.ConditionReady, "False/Suspended")
		w.wantCondition(object, v1alpha1.ConditionReconciling, "")
		w.wantCondition(object, v1alpha1.ConditionStalled, "True/Suspended")
		if got := w.kstatus(object); got != status.FailedStatus {
			t.Errorf("kstatus says %s of what nobody works on", got)
		}
	}
	w := newWorld(t)
	object := aClientIdentity()
	ready(w, anAuthority(), object)
	w.edit(object, func() { object.Spec.Suspend = true })
	if err := w.client.Delete(w.ctx, w.secret("app-mtls")); err != nil {
		t.Fatal(err)
	}
	w.settle(object, 3)
	w.wantCondition(object, v1alpha1.ConditionReady, "False/Suspended")
	w.wantCondition(object, v1alpha1.ConditionReconciling, "")
	w.edit(object, func() { object.Spec.Suspend = false })
	w.step(time.Minute)
	w.settle(object, 3)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
}

// T4: every warning about time names what it is about and why it was not replaced.
func TestEveryWarningAboutTimeNamesItsSubjectAndItsCause(t *testing.T) {
	w := newWorld(t)
	authority, login, identity := anAuthority(), aCredential(), aClientIdentity()
	cluster := &v1alpha1.ClusterCertificateAuthority{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}, Spec: v1alpha1.ClusterAuthoritySpec{AuthoritySpec: anAuthority().Spec}}
	cluster.Spec.SecretName = "cluster-ca"
	identity.Spec.Lifetime = duration(720 * time.Hour)
	ready(w, aPolicy(), anAdminSecret(), aServer(), authority, cluster, login, identity)
	w.edit(login, func() { login.Spec.Suspend = true })
	w.settle(login, 3)
	w.events()
	w.edit(identity, func() { identity.Spec.Suspend = true })
	w.step(71*time.Hour + 30*time.Minute)
	w.settle(login, 3)
	w.step(645 * time.Hour)
	w.settle(identity, 3)
	w.step((43800 - 720 - 100) * time.Hour)
	w.settle(authority, 3)
	w.settle(cluster, 3)
	events := w.events()
	for _, words := range [][]string{
		{"ExpiresImminently", "The login in Secret " + w.namespace + "/orders-db expires at ", "suspended"},
		{"Expires", "The certificate in Secret " + w.namespace + "/app-mtls expires at ", "suspended"},
		{"Expires", "The certificate of CertificateAuthority " + w.namespace + "/internal (CN=Test CA) expires at ", "Nothing renews it automatically: replace it as in docs/runbooks/AuthorityExpired.md."},
		{"Expires", "The certificate of ClusterCertificateAuthority " + w.namespace + " (CN=Test CA) expires at ", "Nothing renews it automatically"},
	} {
		if !with(events, words...) {
			t.Errorf("no Event says %q:\n%s", words, strings.Join(events, "\n"))
		}
	}
}

// T4: a status that cannot be written is counted as what it is.
func TestAStatusThatCannotBeWrittenIsCountedAsThat(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority())
	w.create(identity)
	w.refuse(func(of write) bool { return of.verb == "update status" })
	w.reconcile(identity)
	for of, want := range map[string]float64{"status": 1, "apiserver": 0} {
		if got := testutil.ToFloat64(w.shared.metrics.errors.WithLabelValues(of, "APIServerFailed")); got != want {
			t.Errorf("rekey_errors_total{of=%q} is %v, want %v", of, got, want)
		}
	}
}
