// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/test/fixture"
)

// refuse makes the API server refuse these writes, as a webhook, a policy or a quota does. The refusal names which.
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

// T4: until the Secret holds a version, no Event and no status field calls it published.
func TestNothingIsCalledPublishedBeforeTheSecretHoldsIt(t *testing.T) {
	for name, tc := range map[string]struct {
		first    bool
		hold     func(w *world)
		repair   func(w *world)
		revision int64
		login    string
		// made is whether the next login is created at all.
		made bool
	}{
		"the first Secret may not be created": {
			first: true, hold: func(w *world) { w.refuse(writesOf("create", "orders-db")) },
			repair: func(w *world) { w.fail = nil }, made: true,
		},
		"the Secret may not be updated": {
			hold:   func(w *world) { w.refuse(writesOf("update", "orders-db")) },
			repair: func(w *world) { w.fail = nil }, revision: 1, login: "orders_app_a", made: true,
		},
		"the Secret is immutable": {
			hold: func(w *world) {
				secret := w.secret("orders-db")
				w.edit(secret, func() { secret.Immutable = new(true) })
			},
			repair: func(w *world) {
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
				t.Errorf("reported before it is true: %q", events)
			}
			if s := object.Status; s.Revision != tc.revision || s.ActiveUsername != tc.login || (s.Binding != nil) != (tc.revision > 0) || s.Previous != nil {
				t.Errorf("the status has revision %d, login %q, binding %v, previous %v", s.Revision, s.ActiveUsername, s.Binding, s.Previous)
			}
			if _, made := w.database.Login(next); made != tc.made {
				t.Errorf("login %s created: %t, want %t", next, made, tc.made)
			}
			if !tc.first && !w.database.Accepts("orders_app_a", string(w.secret("orders-db").Data["password"])) {
				t.Error("the login in the Secret is refused")
			}
			tc.repair(w)
			w.step(11 * time.Minute)
			w.settle(object, 8)
			if events := w.events(); !with(events, "Normal Rotated", next) {
				t.Errorf("Events after the fix: %q", events)
			}
			if s := object.Status; s.Revision != want || s.ActiveUsername != next || s.Binding == nil {
				t.Errorf("the status has revision %d, login %q, binding %v after the fix", s.Revision, s.ActiveUsername, s.Binding)
			}
		})
	}
}

// T4: a Secret that was missing for a while and holds the same version again is not a rotation.
func TestASecretThatComesBackIsNotARotation(t *testing.T) {
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

// T4: Ready judges the data. A label that may not be written is reported, but no client is kept from using what is published.
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
				t.Errorf("no message names what refuses it:%s", said)
			}
			// Wrong data make it not Ready.
			w.fail = nil
			held := w.secret(secret)
			w.edit(held, func() {
				for key := range held.Data {
					held.Data[key] = []byte("another user's")
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

// T4: while the API server refuses the Secret of an identity, there is one reason, one Event reports it, and few keys are created.
func TestARefusalIsReportedUntilItIsOver(t *testing.T) {
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
	made := w.counted("rekey_step_attempts_total", map[string]string{"kind": kindClientIdentity, "step": string(rotation.StepPropose), "result": "success"})
	if tries < 3 || tries > 10 || int(made) > tries {
		t.Errorf("in ten minutes %v keys were created for %d attempts to write them", made, tries)
	}
	w.fail = nil
	w.step(5 * time.Minute)
	w.settle(identity, 5)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
}

// T4: another tool that overwrites a certificate repeatedly is reported, as for a login.
func TestAFightOverACertificateIsReported(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority(), identity)
	for range 40 {
		w.step(11 * time.Second)
		secret := w.secret("app-mtls")
		w.edit(secret, func() { secret.Data["tls.crt"] = []byte("another user's") })
		w.settle(identity, 3)
	}
	w.wantCondition(identity, v1alpha1.ConditionReconciling, "True/SecretConflict")
	if events := w.events(); !with(events, "Warning SecretConflict", "--show-managed-fields") {
		t.Errorf("Events: %q", events)
	} else if conflicts := strings.Count(strings.Join(events, "\n"), "SecretConflict"); conflicts > 1 {
		t.Errorf("reported %d times", conflicts)
	}
	w.step(30 * time.Minute)
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReconciling, "")
}

// T4: a user's request is recorded even if its rotation fails, so the annotation may disappear.
func TestARequestIsRecordedEvenIfItsRotationFails(t *testing.T) {
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
		object        client.Object
		fails, repair func(w *world)
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
			tc.repair(w)
			w.step(time.Hour)
			w.settle(tc.object, 8)
			if got := revisionOf(tc.object); got != 2 {
				t.Errorf("revision %d: the request was forgotten%s", got, describeConditions(tc.object))
			}
		})
	}
}

// T4: a missing policy only pauses rotation, and what was reported about the deadline stays.
func TestAMissingPolicyRetiresNothingAndSilencesNoWarning(t *testing.T) {
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
	w.wantCondition(object, v1alpha1.ConditionSuspended, "True/Suspended")
	if events := w.events(); !with(events, "Warning PolicyNotFound") || with(events, "Resumed") {
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
	w.wantCondition(object, v1alpha1.ConditionSuspended, "")
}

// Resumed is reported when rotation resumes: not when the suspending policy is deleted, but when it is recreated without suspend.
func TestADeletedPolicyResumesNothing(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	kept := aPolicy()
	kept.Namespace = w.namespace
	w.edit(kept, func() { kept.Spec.Suspend = true })
	w.settle(object, 3)
	if err := w.client.Delete(w.ctx, kept); err != nil {
		t.Fatal(err)
	}
	w.events()
	w.settle(object, 3)
	if events := w.events(); with(events, "Resumed") || !with(events, "PolicyNotFound") {
		t.Errorf("without the policy: %q", events)
	}
	w.create(aPolicy())
	w.settle(object, 3)
	if events := w.events(); !with(events, "Normal Resumed") {
		t.Errorf("with a policy that does not suspend: %q", events)
	}
	w.wantCondition(object, v1alpha1.ConditionSuspended, "")
}

// T4: a missing policy is also reported while a step fails for another reason.
func TestAMissingPolicyIsReportedBesideAFailingStep(t *testing.T) {
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
				t.Errorf("the missing policy is not reported:%s", describeConditions(identity))
			}
		})
	}
}

// T4: an object that is suspended before its first issue is not called in progress.
func TestASuspendedObjectIsNotInProgress(t *testing.T) {
	identity, login := aClientIdentity(), aCredential()
	identity.Spec.Suspend, login.Spec.Suspend = true, true
	for _, object := range []client.Object{identity, login} {
		w := newWorld(t)
		ready(w, aPolicy(), anAdminSecret(), aServer(), anAuthority(), object)
		w.wantCondition(object, v1alpha1.ConditionReady, "False/Suspended")
		w.wantCondition(object, v1alpha1.ConditionReconciling, "")
		w.wantCondition(object, v1alpha1.ConditionStalled, "True/Suspended")
		if got := w.kstatus(object); got != status.FailedStatus {
			t.Errorf("kstatus is %s for an object that is suspended", got)
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

// T4: every warning about time names its subject and why it was not replaced.
func TestEveryWarningAboutTimeNamesItsSubjectAndItsCause(t *testing.T) {
	w := newWorld(t)
	authority, login, identity := anAuthority(), aCredential(), aClientIdentity()
	cluster := fixture.ClusterAuthority(w.namespace)
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
			t.Errorf("no Event contains %q:\n%s", words, strings.Join(events, "\n"))
		}
	}
}

// T4: a status that cannot be written is counted as such.
func TestAStatusThatCannotBeWrittenIsCountedAsSuch(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority())
	w.create(identity)
	w.refuse(func(of write) bool { return of.verb == "update status" })
	w.reconcile(identity)
	for of, want := range map[string]float64{"status": 1, "apiserver": 0} {
		if got := w.counted("rekey_errors_total", map[string]string{"of": of, "reason": "APIServerFailed"}); got != want {
			t.Errorf("rekey_errors_total{of=%q} is %v, want %v", of, got, want)
		}
	}
}

// T4: a leak is answered with one command: the leaked login is refused as soon as its successor is published and proven. A
// request to end an overlap alone ends only that.
func TestALeakIsAnsweredInOneCommand(t *testing.T) {
	now := func(w *world, o *v1alpha1.DatabaseCredential, requests ...string) {
		w.edit(o, func() {
			if o.Annotations == nil {
				o.Annotations = map[string]string{}
			}
			for _, request := range requests {
				o.Annotations[request] = "leak-1"
			}
		})
		w.settle(o, 12)
		w.step(time.Minute)
		w.settle(o, 12)
	}
	open := func(w *world) (out string) {
		for _, name := range []string{"orders_app_a", "orders_app_b"} {
			if login, _ := w.database.Login(name); login.CanLogin {
				out += name[len(name)-1:]
			}
		}
		return out
	}
	both := []string{v1alpha1.AnnotationRotate, v1alpha1.AnnotationRetirePrevious}
	for name, tc := range map[string]struct {
		act      func(w *world, o *v1alpha1.DatabaseCredential)
		revision int64
		open     string
	}{
		"outside an overlap": {func(w *world, o *v1alpha1.DatabaseCredential) { now(w, o, both...) }, 2, "b"},
		"within an overlap": {func(w *world, o *v1alpha1.DatabaseCredential) {
			w.step(24*time.Hour + time.Minute)
			w.settle(o, 8)
			now(w, o, both...)
		}, 3, "a"},
		"after the process died between the two": {func(w *world, o *v1alpha1.DatabaseCredential) {
			w.database.SetDown(true)
			now(w, o, both...)
			w.restart()
			w.database.SetDown(false)
			w.step(time.Hour)
			w.settle(o, 12)
		}, 2, "b"},
		"to end an overlap, while a rotation waits for its end": {func(w *world, o *v1alpha1.DatabaseCredential) {
			w.step(24*time.Hour + time.Minute)
			w.settle(o, 8)
			now(w, o, v1alpha1.AnnotationRotate)
			now(w, o, v1alpha1.AnnotationRetirePrevious)
		}, 3, "ab"},
		"without a previous login or a rotation": {func(w *world, o *v1alpha1.DatabaseCredential) {
			now(w, o, v1alpha1.AnnotationRetirePrevious)
			w.step(24*time.Hour + time.Minute)
			w.settle(o, 8)
		}, 2, "ab"},
		"with the first version": {func(w *world, o *v1alpha1.DatabaseCredential) {
			w.step(24*time.Hour + time.Minute)
			w.settle(o, 8)
		}, 2, "ab"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			object := aCredential()
			if name == "with the first version" {
				object.Annotations = map[string]string{both[0]: "leak-1", both[1]: "leak-1"}
			}
			ready(w, aPolicy(), anAdminSecret(), aServer(), object)
			tc.act(w, object)
			if got := open(w); object.Status.Revision != tc.revision || got != tc.open {
				t.Errorf("revision %d with logins %q open, want %d and %q%s", object.Status.Revision, got, tc.revision, tc.open, describeConditions(object))
			}
		})
	}
}

// T4: a changed bundle of CA certificates reaches the application's Secret with the next check of the server.
func TestAChangedBundleReachesTheSecretWithTheNextCheckOfTheServer(t *testing.T) {
	w := newWorld(t)
	object, server := aCredential(), aServer()
	server.Spec.TLS = v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeVerifyFull, CARef: &v1alpha1.CAReference{Kind: v1alpha1.CASourceConfigMap, Name: "db-ca", Key: "ca.crt"}}
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "db-ca"}, Data: map[string]string{"ca.crt": string(keyPairSecret(t, nil).Data["tls.crt"])}}
	ready(w, aPolicy(), anAdminSecret(), bundle, server, object)
	before := server.Status.CASHA256
	renewed := string(keyPairSecret(t, nil).Data["tls.crt"])
	w.edit(bundle, func() { bundle.Data["ca.crt"] = renewed })
	w.step(lifecycle.RecheckHealthy)
	w.reconcile(server)
	if before == "" || server.Status.CASHA256 == before {
		t.Fatalf("the status of the server is %q before and %q after: nothing is woken", before, server.Status.CASHA256)
	}
	w.settle(object, 5)
	if got := string(w.secret("orders-db").Data["certificates"]); got != renewed {
		t.Error("the Secret does not hold the new bundle")
	}
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
			// Another tool updates a time on the server; that is no reason to believe that it answers now.
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

// T4: with --namespaces, objects in the operator's own namespace are served, so they are woken too.
func TestObjectsInTheOperatorsNamespaceAreWokenToo(t *testing.T) {
	if got := (Options{Namespaces: []string{"web"}, OperatorNamespace: "rekey-system"}).cached(); !slices.Equal(got, []string{"web", "rekey-system"}) {
		t.Errorf("labels of %q wake an object", got)
	}
	if got := (Options{OperatorNamespace: "rekey-system"}).cached(); len(got) != 0 {
		t.Errorf("labels of %q alone wake an object, and all namespaces are served", got)
	}
}
