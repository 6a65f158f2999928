// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// kinds that users write.
var kinds = map[string]client.Object{
	"CertificateAuthority":        &v1alpha1.CertificateAuthority{},
	"ClientIdentity":              &v1alpha1.ClientIdentity{},
	"ClusterCertificateAuthority": &v1alpha1.ClusterCertificateAuthority{},
	"DatabaseCredential":          &v1alpha1.DatabaseCredential{},
	"DatabaseServer":              &v1alpha1.DatabaseServer{},
	"RotationPolicy":              &v1alpha1.RotationPolicy{},
	"ServerIdentity":              &v1alpha1.ServerIdentity{},
}

// samples decodes every sample, strictly, in the order in which kubectl applies them.
func samples(t *testing.T, pattern string) []client.Object {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "config/samples", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("finding samples: %v, %v", files, err)
	}
	slices.Sort(files)
	var out []client.Object
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range documents(t, data) {
			out = append(out, decode(t, file, document))
		}
	}
	return out
}

func TestEveryKindHasASampleWithKnownFieldsOnly(t *testing.T) {
	var have []string
	for _, object := range append(samples(t, "*.yaml"), samples(t, "workload/*.yaml")...) {
		have = append(have, reflect.TypeOf(object).Elem().Name())
	}
	for kind := range kinds {
		if !slices.Contains(have, kind) {
			t.Errorf("there is no sample of %s", kind)
		}
	}
	for registered := range v1alphaKinds(t) {
		if kinds[registered] == nil {
			t.Errorf("this test does not know kind %s", registered)
		}
	}
}

// v1alphaKinds returns the kinds of the CRDs.
func v1alphaKinds(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for _, document := range documents(t, render(t, "crd")) {
		_, after, found := strings.Cut(string(document), "\n    kind: ")
		if !found {
			t.Fatalf("a CRD without a kind:\n%.300s", document)
		}
		kind, _, _ := strings.Cut(after, "\n")
		out[kind] = true
	}
	return out
}

func TestSamplesReferOnlyToEarlierSamples(t *testing.T) {
	have := map[string]bool{"Namespace/default": true}
	need := func(object client.Object, what string) {
		if !have[what] {
			t.Errorf("%T %s needs %s, which no earlier sample creates", object, object.GetName(), what)
		}
	}
	for _, object := range samples(t, "*.yaml") {
		namespace := object.GetNamespace()
		if namespace != "" {
			need(object, "Namespace/"+namespace)
		}
		for _, what := range references(object) {
			need(object, what)
		}
		kind := reflect.TypeOf(object).Elem().Name()
		have[strings.TrimPrefix(kind+"/"+namespace+"/"+object.GetName(), "/")] = true
		have[kind+"/"+object.GetName()] = have[kind+"/"+object.GetName()] || namespace == ""
	}
}

// references returns the objects that an object names, as Kind/namespace/name.
func references(object client.Object) []string {
	namespace := object.GetNamespace()
	switch o := object.(type) {
	case *v1alpha1.ClientIdentity:
		return identityReferences(namespace, o.Spec.IdentitySpec)
	case *v1alpha1.ServerIdentity:
		return identityReferences(namespace, o.Spec.IdentitySpec)
	case *v1alpha1.DatabaseServer:
		return []string{
			"Secret/" + namespace + "/" + string(o.Spec.AdminSecretRef.Name),
			"ConfigMap/" + namespace + "/" + string(o.Spec.TLS.CARef.Name),
		}
	case *v1alpha1.DatabaseCredential:
		return []string{
			"DatabaseServer/" + namespace + "/" + string(o.Spec.ServerRef.Name),
			"RotationPolicy/" + namespace + "/" + string(o.Spec.RotationPolicyRef.Name),
		}
	}
	return nil
}

func identityReferences(namespace string, spec v1alpha1.IdentitySpec) []string {
	out := []string{"CertificateAuthority/" + namespace + "/" + string(spec.AuthorityRef.Name)}
	if spec.AuthorityRef.Kind == v1alpha1.AuthorityKindCluster {
		out[0] = "ClusterCertificateAuthority/" + string(spec.AuthorityRef.Name)
	}
	if spec.Keystore != nil {
		out = append(out, "Secret/"+namespace+"/"+string(spec.Keystore.PasswordSecretRef.Name))
	}
	return out
}

func TestTheQuickstartIsShortEnoughForTheReadme(t *testing.T) {
	text := read(t, "config/samples/quickstart.yaml")
	_, body, _ := strings.Cut(text, "\n\n")
	if count := strings.Count(body, "\n"); count > 22 {
		t.Errorf("quickstart.yaml has %d lines without its header", count)
	}
}
