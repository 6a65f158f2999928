// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/apiserver"
	"github.com/rekey/rekey/test/fixture"
)

// earlierCRDs returns our CRDs without the rules over several fields, as an earlier release may have had them.
func earlierCRDs(t *testing.T) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "config", "crd", "bases", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs: %v", err)
	}
	var out []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		text, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(text, crd)
		}
		if err != nil {
			t.Fatalf("reading %s: %v", file, err)
		}
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		spec.XValidations = nil
		if tls, ok := spec.Properties["tls"]; ok {
			tls.XValidations = nil
			spec.Properties["tls"] = tls
		}
		crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"] = spec
		out = append(out, crd)
	}
	return out
}

// Specs that the API server now rejects may have been stored by an earlier release, and remain. They cause no loop, do no harm,
// and their effect is reported.
func TestSpecsThatWereStoredBeforeTheirRuleAreServedSafely(t *testing.T) {
	t.Parallel()
	environment := &envtest.Environment{CRDs: earlierCRDs(t)}
	if err := apiserver.Start(environment); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = apiserver.Stop(environment) })
	world := func(t *testing.T) *world {
		t.Helper()
		return newWorldOn(t, environment.Config, metav1.ObjectMeta{GenerateName: "stored-"})
	}
	for _, renewBefore := range []time.Duration{23*time.Hour + 59*time.Minute + 59*time.Second, 24 * time.Hour, 1000 * time.Hour} {
		t.Run(fmt.Sprintf("renewBefore %s of 24h", renewBefore), func(t *testing.T) { renewsTooEarly(world(t), renewBefore) })
	}
	for title, spec := range contradictions() {
		t.Run("policy: "+title, func(t *testing.T) { contradicts(world(t), title, spec) })
	}
	t.Run("identities without a name", func(t *testing.T) { hasNoName(world(t)) })
	t.Run("a key pair of the user, with deletionPolicy Delete", func(t *testing.T) { keepsABroughtKey(world(t)) })
	t.Run("a server with a certificate that nothing can verify", func(t *testing.T) { checksNothing(world(t)) })
}

func renewsTooEarly(w *world, renewBefore time.Duration) {
	w.t.Helper()
	identity := aClientIdentity()
	identity.Spec.RenewBefore = &v1alpha1.Duration{Duration: renewBefore}
	ready(w, anAuthority(), identity)
	if said := messageOfReady(identity); !strings.Contains(said, "later than spec.renewBefore") {
		w.t.Errorf("no message says that it is renewed later than renewBefore requests: %s", said)
	}
	first := identity.Status.SerialNumber
	for range 14 {
		w.step(10 * time.Minute)
		w.settle(identity, 5)
		if identity.Status.SerialNumber != first {
			w.t.Fatalf("it is renewed before a tenth of its lifetime is over, at %s", w.clock.Now())
		}
	}
	w.step(14 * time.Hour)
	w.settle(identity, 5)
	if identity.Status.SerialNumber == first {
		w.t.Errorf("two thirds of its lifetime are over, and it is not renewed: %s", describeConditions(identity))
	}
}

// contradictions are policies with durations that contradict each other, by the field that the policy's Ready must name.
func contradictions() map[string]v1alpha1.RotationPolicySpec {
	spec := func(change func(*v1alpha1.RotationPolicySpec)) v1alpha1.RotationPolicySpec {
		out := aPolicy().Spec
		change(&out)
		return out
	}
	return map[string]v1alpha1.RotationPolicySpec{
		"spec.maxAge": spec(func(s *v1alpha1.RotationPolicySpec) { s.MaxAge = &v1alpha1.Duration{Duration: 2 * time.Hour} }),
		"spec.overlap.minimum": spec(func(s *v1alpha1.RotationPolicySpec) {
			s.Interval, s.Overlap.Minimum, s.MaxAge = duration(30*time.Second), duration(48*time.Hour), nil
		}),
		"spec.alarmBefore": spec(func(s *v1alpha1.RotationPolicySpec) { s.AlarmBefore = duration(100 * time.Hour) }),
	}
}

func contradicts(w *world, field string, spec v1alpha1.RotationPolicySpec) {
	w.t.Helper()
	policy, credential := aPolicy(), aCredential()
	policy.Spec = spec
	ready(w, anAdminSecret(), aServer(), policy, credential)
	if said := acceptedMessage(&policy.Spec); !strings.Contains(said, field) || !strings.Contains(said, "set a ") {
		w.t.Errorf("Ready does not say what is wrong with %s: %s", field, said)
	}
	revision, levels := credential.Status.Revision, map[string]bool{}
	for range 72 {
		w.step(time.Hour)
		w.settle(credential, 8)
		levels[condition(credential, v1alpha1.ConditionExpiringSoon)] = true
	}
	if made := credential.Status.Revision - revision; made < 1 || made > 4 {
		w.t.Errorf("%d rotations in three days; want at least one and at most four", made)
	}
	if field == "spec.maxAge" && !levels["True/Expired"] {
		w.t.Errorf("a password older than maxAge was not reported as expired: %v", levels)
	}
}

func hasNoName(w *world) {
	w.t.Helper()
	authority, clientIdentity, serverIdentity := anAuthority(), aClientIdentity(), aServerIdentity()
	clientIdentity.Spec.CommonName, serverIdentity.Spec.DNSNames = "", nil
	ready(w, authority, clientIdentity, serverIdentity)
	for _, o := range []client.Object{clientIdentity, serverIdentity} {
		w.settle(o, 20)
		w.written()
		if wait := w.reconcile(o).RequeueAfter; wait != 0 && wait < 10*time.Second {
			w.t.Errorf("%T is retried after %s", o, wait)
		}
		if wrote := w.written(); len(wrote) > 0 {
			w.t.Errorf("%T: writes that change nothing: %v", o, wrote)
		}
		ready := meta.FindStatusCondition(fixture.Conditions(o), v1alpha1.ConditionReady)
		if ready == nil || ready.Status != metav1.ConditionFalse || !strings.Contains(ready.Message, "name") {
			w.t.Errorf("%T: no message says that a name is missing: %s", o, describeConditions(o))
		}
	}
	for _, name := range []string{"app-mtls", "api-mtls"} {
		err := w.client.Get(w.ctx, client.ObjectKey{Namespace: w.namespace, Name: name}, &corev1.Secret{})
		if !apierrors.IsNotFound(err) {
			w.t.Errorf("a certificate without a name is published in %s: %v", name, err)
		}
	}
}

func keepsABroughtKey(w *world) {
	w.t.Helper()
	mine := providePair(w.t, "Brought", nil, nil)
	authority, identity := anAuthority(), aClientIdentity()
	fixture.SetKeyPair(&authority.Spec, "internal-ca")
	authority.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "internal-ca", Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": mine.pem(), "tls.key": mine.keyPEM(w.t)}}
	w.create(secret)
	before := w.secret(secret.Name)
	ready(w, authority, identity)
	w.wantCondition(identity, v1alpha1.ConditionReady, "True/Published")
	if err := w.client.Delete(w.ctx, authority); err != nil {
		w.t.Fatal(err)
	}
	w.reconcile(authority)
	if now := w.secret(secret.Name); now.ResourceVersion != before.ResourceVersion || len(now.OwnerReferences) > 0 {
		w.t.Errorf("the user's Secret was changed: owners %v", now.OwnerReferences)
	}
}

// checksNothing is VerifyFull without CA certificates, which must not become a connection without verification.
func checksNothing(w *world) {
	w.t.Helper()
	server, credential := aServer(), aCredential()
	server.Spec.TLS = v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeVerifyFull}
	pg := newPGWorld(w.t, servers.Of(w.t, 15))
	w.engines = pg.engines
	w.restart()
	admin := anAdminSecret()
	ready(w, admin, server, aPolicy(), credential)
	for _, o := range []client.Object{server, credential} {
		if said := describeConditions(o); condition(o, v1alpha1.ConditionReady) == "True/Published" || !strings.Contains(said, "caRef") {
			w.t.Errorf("%T does not report that spec.tls.caRef is missing: %s", o, said)
		}
	}
}

func messageOfReady(o client.Object) string {
	if ready := meta.FindStatusCondition(fixture.Conditions(o), v1alpha1.ConditionReady); ready != nil {
		return ready.Message
	}
	return ""
}
