// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// expressions select the writes in writesOfRekey, in the CEL of an admission policy. They do not match the deletion of an
// object, which is a user's request.
var expressions = map[string]string{
	"create the key pair of an authority":    inCEL("CREATE", "secrets", "internal-ca"),
	"create the record of an authority":      inCEL("CREATE", "configmaps", ""),
	"create the Secret of an identity":       inCEL("CREATE", "secrets", "app-mtls"),
	"update the Secret of an identity":       inCEL("UPDATE", "secrets", "app-mtls"),
	"create the ledger":                      inCEL("CREATE", "secrets", "rekey-databasecredential-"),
	"update the ledger":                      inCEL("UPDATE", "secrets", "rekey-databasecredential-"),
	"delete the ledger":                      inCEL("DELETE", "secrets", "rekey-databasecredential-"),
	"create the Secret of a credential":      inCEL("CREATE", "secrets", "orders-db"),
	"update the Secret of a credential":      inCEL("UPDATE", "secrets", "orders-db"),
	"delete the Secret of a credential":      inCEL("DELETE", "secrets", "orders-db"),
	"update the finalizer":                   inCEL("UPDATE", "databasecredentials", "") + ` && !(` + ofStatus + `)`,
	"update the status of an authority":      statusInCEL("certificateauthorities"),
	"update the status of an identity":       statusInCEL("clientidentities"),
	"update the status of a credential":      statusInCEL("databasecredentials"),
	"update the status of a DatabaseServer":  statusInCEL("databaseservers"),
	"every write of a Secret":                `request.resource.resource == "secrets"`,
	"every write of anything":                `!(request.operation == "DELETE" && request.resource.group == "rekey.dev")`,
	"every write of anything but the status": `!(` + ofStatus + `) && !(request.operation == "DELETE" && request.resource.group == "rekey.dev")`,
}

// ofStatus checks that the key exists: a request for the object itself has no such key, and an expression that fails refuses.
const ofStatus = `has(request.subResource) && request.subResource == "status"`

func inCEL(verb, resource, prefix string) string {
	return fmt.Sprintf("request.operation == %q && request.resource.resource == %q && request.name.startsWith(%q)", verb, resource, prefix)
}

func statusInCEL(resource string) string {
	return fmt.Sprintf(`request.operation == "UPDATE" && request.resource.resource == %q && %s`, resource, ofStatus)
}

// admissionPolicy creates a real ValidatingAdmissionPolicy for the life's namespace that refuses what the expression matches.
func admissionPolicy(l *admissionLife, expression string) {
	l.t.Helper()
	name := l.Namespace
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: l.Namespace}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update, admissionregistrationv1.Delete},
					Rule: admissionregistrationv1.Rule{APIGroups: []string{"", "rekey.dev"}, APIVersions: []string{"*"},
						Resources: []string{"secrets", "configmaps", "databasecredentials", "*/status"}}}}}},
			Validations: []admissionregistrationv1.Validation{{Expression: fmt.Sprintf(`!(request.name == "probe" || (%s))`, expression), Message: "not in this namespace"}},
		}}
	binding := func() *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
		return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: name,
				ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}}}
	}
	if err := l.Client.Create(l.Ctx, policy); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = l.Client.Delete(context.Background(), binding())
		_ = l.Client.Delete(context.Background(), policy)
	})
	l.words = []string{"AdmissionDenied", fmt.Sprintf("admission policy %q", name)}
	l.gate = func(shut bool) {
		l.change(shut, binding())
		l.probed(shut, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: "probe"}})
	}
}

// quota creates a real, exhausted ResourceQuota. No controller counts here, so the test records the usage; without it the API
// server does not know the usage, and refuses as well.
func quota(l *admissionLife, known bool) {
	l.words = []string{"QuotaExceeded", `ResourceQuota "team"`}
	most := corev1.ResourceList{"count/secrets": resource.MustParse("1"), "count/configmaps": resource.MustParse("1")}
	l.gate = func(shut bool) {
		object := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: "team"}, Spec: corev1.ResourceQuotaSpec{Hard: most}}
		l.change(shut, object)
		if shut {
			object.Status.Hard = most
			if known {
				object.Status.Used = most
			}
			if err := l.Client.Status().Update(l.Ctx, object); err != nil {
				l.t.Fatal(err)
			}
		}
		l.probed(shut, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: l.Namespace, Name: "probe"}})
	}
}

// immutable makes a Secret immutable, and then mutable again with the command in the message.
func immutable(l *admissionLife, name string) {
	l.words = []string{"immutable", "kubectl"}
	l.gate = func(shut bool) {
		secret := l.find(name)
		switch {
		case secret == nil:
			return
		case shut:
			secret.Immutable = new(true)
			if err := l.Client.Update(l.Ctx, secret); err != nil {
				l.t.Fatal(err)
			}
			return
		}
		again := secret.DeepCopy()
		again.Immutable, again.ResourceVersion, again.UID = nil, "", ""
		if err := l.Client.Delete(l.Ctx, secret); err != nil {
			l.t.Fatal(err)
		}
		if err := l.Client.Create(l.Ctx, again); err != nil {
			l.t.Fatal(err)
		}
	}
}

// change creates or deletes an object.
func (l *admissionLife) change(create bool, object client.Object) {
	l.t.Helper()
	err := client.IgnoreAlreadyExists(l.Client.Create(l.Ctx, object))
	if !create {
		err = client.IgnoreNotFound(l.Client.Delete(l.Ctx, object))
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// probed waits until the API server refuses, or admits, the object.
func (l *admissionLife) probed(refused bool, object client.Object) {
	l.t.Helper()
	until(l.t, func() bool {
		probe, _ := object.DeepCopyObject().(client.Object)
		return (l.Client.Create(l.Ctx, probe, client.DryRunAll) != nil) == refused
	}, func() string { return fmt.Sprintf("the API server does not refuse: %t", refused) })
}

// gatedLife is a life of every kind behind a gate, which shuts at the start or in the middle.
func gatedLife(t *testing.T, midway bool, gate func(*admissionLife)) int {
	t.Helper()
	l := &admissionLife{scene: newScene(t), identity: fixture.ClientIdentity("app"), login: aCredential("orders")}
	gate(l)
	l.setHook(func(_ context.Context, r world.Request, do func() error) error {
		err := do()
		if err != nil && l.refuse && r.Writes() {
			l.refused++
		}
		return err
	})
	authority, server := anAuthority(), aServer()
	l.all = []client.Object{authority, server, l.identity, l.login}
	l.Create(aPolicy(), fixture.AdminSecret(), authority, server, l.identity, l.login)
	if !midway {
		l.shut(true)
	}
	l.phase("issue")
	if midway {
		l.settle(l.all...)
		l.shut(true)
	}
	l.Step(interval + time.Minute)
	l.phase("rotate")
	// A user deletes the published Secret: rekey recreates it, if it is allowed to.
	for _, name := range []string{"app-mtls", "orders-db"} {
		if secret := l.find(name); secret != nil {
			_ = l.Client.Delete(l.Ctx, secret) // this can be refused as well
		}
	}
	l.phase("recreated")
	l.Step(overlap)
	l.phase("retire")
	l.repaired()
	l.end()
	return l.refused
}

// T2: a real ValidatingAdmissionPolicy refuses each write of rekey.
func TestAPolicyThatRefusesAWriteIsReportedAndHarmsNothing(t *testing.T) {
	random, met := size.Random(t, 0), map[string]int{}
	names := slices.Sorted(maps.Keys(writesOfRekey))
	for _, name := range names {
		if expressions[name] == "" {
			t.Fatalf("no policy refuses to %s", name)
		}
	}
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	// Some writes occur in few lives; every life makes some of the writes in the broad groups.
	const always = "every write of anything but the status"
	names = append([]string{always}, slices.DeleteFunc(names, func(name string) bool { return name == always })...)
	total := 0
	for _, what := range names[:size.Number(2, len(names))] {
		midway := random.IntN(2) == 0
		t.Run(fmt.Sprintf("%s, midway %t", what, midway), func(t *testing.T) {
			met[what] = gatedLife(t, midway, func(l *admissionLife) {
				policy := []v1alpha1.DeletionPolicy{v1alpha1.DeletionRetain, v1alpha1.DeletionDelete}[random.IntN(2)]
				l.identity.Spec.DeletionPolicy, l.login.Spec.DeletionPolicy = policy, policy
				admissionPolicy(l, expressions[what])
			})
			total += met[what]
		})
	}
	if total == 0 {
		t.Error("nothing was ever refused")
	}
	t.Logf("refused requests, by write: %v", met)
}

// T2: a real ResourceQuota is exhausted, or its usage has not been counted.
func TestAnExhaustedQuotaIsReportedAndHarmsNothing(t *testing.T) {
	for _, midway := range []bool{false, true} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("midway %t, counted %t", midway, known), func(t *testing.T) {
				if n := gatedLife(t, midway, func(l *admissionLife) { quota(l, known) }); n == 0 {
					t.Error("nothing was refused")
				}
			})
		}
	}
}

// T2: a user makes each Secret that rekey writes immutable, on the real API server.
func TestAnImmutableSecretIsReportedAndHarmsNothing(t *testing.T) {
	ledger := ledgerName(aCredential("orders"))
	for _, name := range []string{"app-mtls", "orders-db", ledger} {
		t.Run(name, func(t *testing.T) { gatedLife(t, true, func(l *admissionLife) { immutable(l, name) }) })
	}
}
