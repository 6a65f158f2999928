// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/test/fixture"
)

// aFailure is a failure of one object. It must be reported so that any user understands it: one condition, one Event, no harm,
// and no help needed once the cause is gone.
type aFailure struct {
	// arrange provokes the failure and returns the affected object. Everything else is already reconciled.
	arrange func(w *world) client.Object
	reason  string
	// words that the message must contain: where it is, and what to do.
	words []string
	// stalled is true if only a change of the spec or of the other side helps.
	stalled bool
	// repair removes the cause.
	repair func(w *world, o client.Object)
}

// keyPairSecret holds a key pair that a user created.
func keyPairSecret(t *testing.T, labels map[string]string) *corev1.Secret {
	t.Helper()
	crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: "Brought CA", KeyAlgorithm: issuer.ECDSAP256, Lifetime: 8760 * time.Hour}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "brought-ca", Labels: labels}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{"tls.crt": crt, "tls.key": key.Reveal()}}
}

func ready(w *world, objects ...client.Object) {
	w.t.Helper()
	w.create(objects...)
	for _, o := range objects {
		if _, ok := o.(*v1alpha1.RotationPolicy); ok || kindOf(o) == "Secret" || kindOf(o) == "ConfigMap" {
			continue
		}
		w.settle(o, 5)
	}
	w.events()
}

var identityFailures = map[string]aFailure{
	"no such authority": {
		arrange: func(w *world) client.Object {
			identity := aClientIdentity()
			w.create(identity)
			return identity
		},
		reason: "AuthorityNotFound", words: []string{"CertificateAuthority", "/internal not found", "create it"},
		repair: func(w *world, _ client.Object) { ready(w, anAuthority()) },
	},
	"the authority's key pair is missing": {
		arrange: func(w *world) client.Object {
			authority, identity := anAuthority(), aClientIdentity()
			fixture.SetKeyPair(&authority.Spec, "brought-ca")
			w.create(authority, identity)
			w.reconcile(authority)
			w.wantCondition(authority, v1alpha1.ConditionReady, "False/SecretNotFound")
			w.events()
			return identity
		},
		reason: "AuthorityNotReady", words: []string{"CertificateAuthority", "is not ready", "brought-ca not found"},
		repair: func(w *world, _ client.Object) {
			w.create(keyPairSecret(w.t, map[string]string{v1alpha1.LabelAllow: "true"}))
		},
	},
	"the authority's Secret does not allow its use": {
		arrange: func(w *world) client.Object {
			authority := anAuthority()
			fixture.SetKeyPair(&authority.Spec, "brought-ca")
			w.create(keyPairSecret(w.t, nil), authority)
			return authority
		},
		reason: "SecretNotAllowed", words: []string{"brought-ca does not allow", "kubectl -n", "label secret brought-ca rekey.dev/allow=true"},
		repair: func(w *world, _ client.Object) {
			secret := w.secret("brought-ca")
			w.edit(secret, func() { secret.Labels = map[string]string{v1alpha1.LabelAllow: "true"} })
		},
	},
	"the Secret belongs to another owner": {
		arrange: func(w *world) client.Object {
			identity := aClientIdentity()
			ready(w, anAuthority())
			w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "app-mtls"}, StringData: map[string]string{"precious": "yes"}}, identity)
			return identity
		},
		reason: "SecretConflict", words: []string{"app-mtls", "rekey.dev/adopt"}, stalled: true,
		repair: func(w *world, _ client.Object) {
			secret := w.secret("app-mtls")
			if string(secret.Data["precious"]) != "yes" {
				w.t.Errorf("the foreign Secret was written to: %v", secret.Labels)
			}
			if err := w.client.Delete(w.ctx, secret); err != nil {
				w.t.Fatal(err)
			}
		},
	},
	"the lifetime is longer than allowed": {
		arrange: func(w *world) client.Object {
			authority, identity := anAuthority(), aClientIdentity()
			authority.Spec.Constraints.MaxLifetime = duration(time.Hour)
			ready(w, authority)
			w.create(identity)
			return identity
		},
		reason: "LifetimeTooLong", words: []string{"24h", "1h"}, stalled: true,
		repair: func(w *world, o client.Object) {
			identity, _ := o.(*v1alpha1.ClientIdentity)
			w.edit(identity, func() { identity.Spec.Lifetime = duration(time.Hour) })
		},
	},
	"a name is outside the constraints": {
		arrange: func(w *world) client.Object {
			identity := aServerIdentity()
			ready(w, anAuthority())
			identity.Spec.DNSNames = []v1alpha1.DNSName{"api.example.com"}
			w.create(identity)
			return identity
		},
		reason: "ConstraintViolated", words: []string{"api.example.com", "*.example.internal"}, stalled: true,
		repair: func(w *world, o client.Object) {
			identity, _ := o.(*v1alpha1.ServerIdentity)
			w.edit(identity, func() { identity.Spec.DNSNames = []v1alpha1.DNSName{"api.example.internal"} })
		},
	},
	"the policy does not exist": {
		arrange: func(w *world) client.Object {
			identity := aClientIdentity()
			identity.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: "daily"}
			ready(w, anAuthority())
			w.create(identity)
			return identity
		},
		reason: "PolicyNotFound", words: []string{"/daily not found", "spec.rotationPolicyRef"},
		repair: func(w *world, _ client.Object) { w.create(aPolicy()) },
	},
	"the admin Secret does not allow its use": {
		arrange: func(w *world) client.Object {
			admin, server := anAdminSecret(), aServer()
			admin.Labels = nil
			w.create(admin, server)
			return server
		},
		reason: "SecretNotAllowed", words: []string{"orders-admin does not allow", "rekey.dev/allow=true"},
		repair: func(w *world, _ client.Object) {
			secret := w.secret("orders-admin")
			w.edit(secret, func() { secret.Labels = map[string]string{v1alpha1.LabelAllow: "true"} })
		},
	},
	"the admin Secret is for another host": {
		arrange: func(w *world) client.Object {
			admin, server := anAdminSecret(), aServer()
			admin.StringData["host"] = "elsewhere.data:5432"
			w.create(admin, server)
			return server
		},
		reason: "HostMismatch", words: []string{"orders-admin", "key host must be exactly orders-db.data:5432"},
		repair: func(w *world, _ client.Object) {
			secret := w.secret("orders-admin")
			w.edit(secret, func() { secret.Data["host"] = []byte("orders-db.data:5432") })
		},
	},
	"the server object does not exist": {
		arrange: func(w *world) client.Object {
			credential := aCredential()
			w.create(aPolicy(), credential)
			return credential
		},
		reason: "ServerNotFound", words: []string{"DatabaseServer", "/orders not found"},
		repair: func(w *world, _ client.Object) { ready(w, anAdminSecret(), aServer()) },
	},
	"the published login's Secret belongs to another owner": {
		arrange: func(w *world) client.Object {
			credential := aCredential()
			ready(w, aPolicy(), anAdminSecret(), aServer())
			w.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "orders-db"}, StringData: map[string]string{"precious": "yes"}}, credential)
			return credential
		},
		reason: "SecretConflict", words: []string{"orders-db", "rekey.dev/adopt"}, stalled: true,
		repair: func(w *world, _ client.Object) {
			if calls := w.database.Calls("Stage"); calls != 0 {
				w.t.Errorf("the server got a login %d times before the Secret was free", calls)
			}
			if err := w.client.Delete(w.ctx, w.secret("orders-db")); err != nil {
				w.t.Fatal(err)
			}
		},
	},
}

func TestEveryFailureIsReportedOnceAndRecovers(t *testing.T) {
	for name, tc := range identityFailures {
		t.Run(name, func(t *testing.T) { tc.run(t, newWorld(t)) })
	}
}

func (tc aFailure) run(t *testing.T, w *world) {
	t.Helper()
	o := tc.arrange(w)
	w.events()
	for range 5 {
		w.reconcile(o)
		w.step(time.Minute)
	}
	status := "Reconciling"
	if tc.stalled {
		status = "Stalled"
	}
	w.wantCondition(o, status, "True/"+tc.reason)
	w.wantCondition(o, v1alpha1.ConditionReady, "False/"+tc.reason)
	events := w.events()
	if len(events) != 1 || !with(events, "Warning "+tc.reason+" ") {
		t.Errorf("Events: %q, want one Warning %s", events, tc.reason)
	}
	for _, word := range tc.words {
		if !strings.Contains(describeConditions(o), word) {
			t.Errorf("the conditions do not contain %q:%s", word, describeConditions(o))
		}
	}
	tc.repair(w, o)
	for range 20 {
		w.reconcile(o)
		if strings.HasPrefix(condition(o, v1alpha1.ConditionReady), "True/") {
			break
		}
		w.step(time.Minute)
	}
	if !strings.HasPrefix(condition(o, v1alpha1.ConditionReady), "True/") || condition(o, v1alpha1.ConditionStalled) != "" || condition(o, v1alpha1.ConditionReconciling) != "" {
		t.Errorf("after the cause was gone:%s", describeConditions(o))
	}
}

func TestAnotherNamespaceCannotFindOutWhetherAnAuthorityExists(t *testing.T) {
	w := newWorld(t)
	authority := &v1alpha1.ClusterCertificateAuthority{ObjectMeta: metav1.ObjectMeta{Name: "cluster-" + w.namespace}}
	authority.Spec.AuthoritySpec = anAuthority().Spec
	authority.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"team": "web"}}
	ready(w, authority)
	w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")
	var messages []string
	for _, name := range []string{authority.Name, "absent-authority"} {
		identity := aClientIdentity()
		identity.Name, identity.Spec.SecretName = name, v1alpha1.ObjectName(name)
		identity.Spec.AuthorityRef = v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: v1alpha1.ObjectName(name)}
		w.create(identity)
		w.reconcile(identity)
		w.wantCondition(identity, v1alpha1.ConditionReady, "False/AuthorityNotFound")
		messages = append(messages, strings.ReplaceAll(identity.Status.Conditions[0].Message, name, "NAME"))
	}
	if messages[0] != messages[1] {
		t.Errorf("forbidden and missing differ:\n%s\n%s", messages[0], messages[1])
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}
	w.edit(namespace, func() { namespace.Labels["team"] = "web" })
	identity := aClientIdentity()
	identity.Namespace, identity.Name = w.namespace, authority.Name
	w.reconcile(identity)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
}

func TestAnAdoptedSecretIsReported(t *testing.T) {
	w := newWorld(t)
	identity := aClientIdentity()
	ready(w, anAuthority())
	w.create(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "app-mtls", Labels: map[string]string{"team": "web"},
			Annotations: map[string]string{v1alpha1.AnnotationAdopt: "ClientIdentity/app"}},
		Type: corev1.SecretTypeTLS, StringData: map[string]string{"tls.crt": "by hand", "tls.key": "by hand"},
	}, identity)
	w.settle(identity, 3)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if events := w.events(); !with(events, "Normal Adopted", "app-mtls") || !with(events, "Normal Issued") {
		t.Errorf("Events: %q", events)
	}
	if secret := w.secret("app-mtls"); secret.Labels["team"] != "web" {
		t.Errorf("the label of another owner was not kept: %v", secret.Labels)
	}
}
