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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
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
		{"Expires", "The certificate of CertificateAuthority " + w.namespace + "/internal (CN=Test CA) expires at ", "rekey does not renew it: replace it as in docs/runbooks/AuthorityExpired.md."},
		{"Expires", "The certificate of ClusterCertificateAuthority " + w.namespace + " (CN=Test CA) expires at ", "rekey does not renew it"},
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

// T4: with --namespaces, objects in the operator's own namespace are served, so they are woken too.
func TestObjectsInTheOperatorsNamespaceAreWokenToo(t *testing.T) {
	if got := (Options{Namespaces: []string{"web"}, OperatorNamespace: "rekey-system"}).cached(); !slices.Equal(got, []string{"web", "rekey-system"}) {
		t.Errorf("labels of %q wake an object", got)
	}
	if got := (Options{OperatorNamespace: "rekey-system"}).cached(); len(got) != 0 {
		t.Errorf("labels of %q alone wake an object, and all namespaces are served", got)
	}
}
