// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// unrelated lists edits of each kind that have nothing to do with most rules; suspending comes first where the kind supports
// it.
var unrelated = map[string][]change{
	authority:        {{"constraints.maxLifetime": "1h"}, {"constraints.emailDomains": []string{"example.com"}}},
	clusterAuthority: {{"constraints.maxLifetime": "1h"}, {"constraints.emailDomains": []string{"example.com"}}},
	clientIdentity:   {{"suspend": true}, {"keyAlgorithm": "RSA-3072"}, {"organizations": []string{"web"}}},
	serverIdentity:   {{"suspend": true}, {"keyAlgorithm": "RSA-3072"}, {"organizations": []string{"web"}}},
	policy:           {{"suspend": true}, {"jitterPercent": 20}},
	server:           {{"negativeControl": "AtFirst"}, {"adminSecretRef.name": "other"}},
	databaseLogin:    {{"suspend": true}, {"deletionPolicy": "Delete"}},
}

// unions lists the blocks of each kind of which exactly one must be set.
var unions = map[string][]string{
	authority: {"managed", "keyPair"}, clusterAuthority: {"managed", "keyPair"}, databaseLogin: {"postgresql"},
}

// stillRefused are stored specs that a rule over several fields refuses today, and a change of only these fields that the
// same rule refuses again.
var stillRefused = map[string]changedCase{
	"renewBefore, nearer":                  {clientIdentity, change{"lifetime": "24h", "renewBefore": "23h59m59s"}, change{"renewBefore": "23h59m58s"}, "spec"},
	"renewBefore, lifetime shorter":        {serverIdentity, change{"lifetime": "24h", "renewBefore": "23h"}, change{"lifetime": "23h30m"}, "spec"},
	"renewBefore, as long as the lifetime": {clientIdentity, change{"lifetime": "24h", "renewBefore": "24h"}, change{"lifetime": gone, "renewBefore": "25h"}, "spec"},
	"server, CA certificates for Disable":  {server, change{"tls.mode": "Require"}, change{"tls.mode": "Disable"}, "spec.tls"},
	"server, VerifyCA without any":         {server, change{"tls": map[string]any{"mode": "VerifyFull"}}, change{"tls.mode": "VerifyCA"}, "spec.tls"},
	"policy, a longer overlap":             {policy, change{"interval": "2h", "overlap.minimum": "2h"}, change{"overlap.minimum": "3h"}, "spec"},
	"policy, a shorter interval":           {policy, change{"interval": "2h", "overlap.minimum": "2h"}, change{"interval": "90m"}, "spec"},
	"policy, the default overlap":          {policy, change{"interval": "30m"}, change{"overlap": gone, "interval": "31m"}, "spec"},
	"policy, another maximum age":          {policy, change{"maxAge": "24h"}, change{"maxAge": "23h"}, "spec"},
	"policy, a longer interval":            {policy, change{"maxAge": "24h"}, change{"interval": "25h"}, "spec"},
	"policy, an earlier alarm":             {policy, change{"warnBefore": "1h", "alarmBefore": "2h"}, change{"alarmBefore": "3h"}, "spec"},
	"policy, a later warning":              {policy, change{"warnBefore": "1h", "alarmBefore": "2h"}, change{"warnBefore": "30m"}, "spec"},
}

// fixable are stored specs that a rule refuses today, and changes that fix them.
var fixable = map[string]changedCase{
	"renewBefore removed":      {clientIdentity, change{"lifetime": "24h", "renewBefore": "24h"}, change{"renewBefore": gone}, ""},
	"a longer lifetime":        {serverIdentity, change{"lifetime": "24h", "renewBefore": "23h59m59s"}, change{"lifetime": "48h"}, ""},
	"maxAge removed":           {policy, change{"maxAge": "24h"}, change{"maxAge": gone}, ""},
	"a shorter interval":       {policy, change{"maxAge": "24h"}, change{"interval": "20h"}, ""},
	"an alarm after the first": {policy, change{"warnBefore": "1h", "alarmBefore": "2h"}, change{"alarmBefore": "30m"}, ""},
	"a name":                   {serverIdentity, change{"dnsNames": gone, "commonName": "app"}, change{"dnsNames": []string{"app"}}, ""},
	"only our own key":         {authority, change{"keyPair": map[string]any{"secretName": "internal-ca"}}, change{"keyPair": gone}, ""},
	"a key that is kept":       {authority, change{"managed": gone, "keyPair": map[string]any{"secretName": "internal-ca"}, "deletionPolicy": "Delete"}, change{"deletionPolicy": "Retain"}, ""},
	"CA certificates to use":   {server, change{"tls.mode": "Require"}, change{"tls.mode": "VerifyCA"}, ""},
}

// TestObjectsStoredBeforeARuleCanBeEdited stores every object that a rule refuses as an earlier release without the rule
// would have stored it. With the rule in force, fields that it does not cover can be edited, including suspend; the object
// can be labeled and deleted; the rule checks a change of the offending fields.
func TestObjectsStoredBeforeARuleCanBeEdited(t *testing.T) {
	ns := namespace(t)
	stored := map[string]*unstructured.Unstructured{}
	withoutRules(t, ns, func() {
		for title, tc := range refused {
			if made := object(t, tc.kind, ns, tc.with); kube.Create(t.Context(), made) == nil {
				stored[title] = made
				remove(t, made.DeepCopy())
			}
		}
		for _, table := range []map[string]changedCase{stillRefused, fixable} {
			for title, tc := range table {
				stored[title] = object(t, tc.kind, ns, tc.with)
				if err := kube.Create(t.Context(), stored[title]); err != nil {
					t.Fatalf("%s: %v", title, err)
				}
				remove(t, stored[title].DeepCopy())
			}
		}
	})
	if len(stored) < 90 {
		t.Errorf("%d objects that rules refuse were stored without these rules; want at least 90", len(stored))
	}
	for _, title := range slices.Sorted(maps.Keys(stored)) {
		t.Run("unrelated: "+title, func(t *testing.T) { editUnrelated(t, stored[title]) })
	}
	for title, tc := range stillRefused {
		t.Run("as wrong: "+title, func(t *testing.T) {
			err := updated(t, stored[title], tc.to)
			if err == nil {
				t.Fatal("stored")
			}
			said, err := words(err)
			if err != nil {
				t.Fatal(err)
			}
			mustName(t, said, tc.field)
		})
	}
	for title, tc := range fixable {
		t.Run("fixed: "+title, func(t *testing.T) {
			if err := updated(t, stored[title], tc.to); err != nil {
				t.Error(err)
			}
		})
	}
}

// editUnrelated makes each edit of the kind that does not touch the fields for which the object was refused. Only an object without
// exactly one block of a union has to get that block with the first change of its spec.
func editUnrelated(t *testing.T, made *unstructured.Unstructured) {
	t.Helper()
	spec := specOf(t, made).(map[string]any)
	blocks := 0
	for _, block := range unions[made.GetKind()] {
		if spec[block] != nil {
			blocks++
		}
	}
	for _, to := range unrelated[made.GetKind()] {
		first := slices.Sorted(maps.Keys(to))[0]
		if parent, _, nested := strings.Cut(first, "."); nested && spec[parent] == nil {
			continue
		}
		err := updated(t, made, to)
		if unions[made.GetKind()] != nil && blocks != 1 {
			if said, err := words(err); err != nil || !slices.Contains(said, fmt.Sprintf("spec: Invalid value: exactly one of the fields in %v must be set", unions[made.GetKind()])) {
				t.Errorf("%v with %d blocks of the union: %v, %v", to, blocks, said, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", to, err)
		}
	}
	labeled := made.DeepCopy()
	labeled.SetLabels(map[string]string{"edited": "true"})
	if err := kube.Patch(t.Context(), labeled, client.MergeFrom(made)); err != nil {
		t.Errorf("a label: %v", err)
	}
}

// updated returns the API server's dry-run answer for the object with the change.
func updated(t *testing.T, made *unstructured.Unstructured, to change) error {
	t.Helper()
	edited := made.DeepCopy()
	if err := kube.Get(t.Context(), client.ObjectKeyFromObject(made), edited); err != nil {
		t.Fatal(err)
	}
	apply(t, edited, to)
	return kube.Update(t.Context(), edited, client.DryRunAll)
}

// withoutRules calls do while no CRD has a CEL rule.
func withoutRules(t *testing.T, namespace string, do func()) {
	t.Helper()
	var have apiextensionsv1.CustomResourceDefinitionList
	if err := kube.List(t.Context(), &have); err != nil {
		t.Fatal(err)
	}
	before := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for i := range have.Items {
		before[have.Items[i].Name] = have.Items[i].DeepCopy()
	}
	setSpecs := func(of func(name string) apiextensionsv1.CustomResourceDefinitionSpec, ruled bool) {
		for name := range before {
			err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
				var crd apiextensionsv1.CustomResourceDefinition
				// The test's own context may already be done.
				if err := kube.Get(context.Background(), client.ObjectKey{Name: name}, &crd); err != nil {
					return err
				}
				crd.Spec = of(name)
				return kube.Update(context.Background(), &crd)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		awaitRules(t, namespace, ruled)
	}
	restore := func() {
		setSpecs(func(name string) apiextensionsv1.CustomResourceDefinitionSpec { return before[name].Spec }, true)
	}
	defer restore()
	setSpecs(func(name string) apiextensionsv1.CustomResourceDefinitionSpec {
		spec := before[name].DeepCopy().Spec
		for i := range spec.Versions {
			stripRules(spec.Versions[i].Schema.OpenAPIV3Schema)
		}
		return spec
	}, false)
	do()
}

// brokenRule is, for each kind, a change that only a CEL rule refuses.
var brokenRule = map[string]change{
	authority: {"constraints.dnsNames": []string{"*.Example"}}, clusterAuthority: {"constraints.dnsNames": []string{"*.Example"}},
	clientIdentity: {"dnsNames": []string{"*"}}, serverIdentity: {"dnsNames": []string{"*"}}, policy: {"maxAge": "24h"},
	server: {"address": "orders-db"}, databaseLogin: {"username": "1app"},
}

// awaitRules waits until the API server serves every kind with its rules, or without them.
func awaitRules(t *testing.T, namespace string, ruled bool) {
	t.Helper()
	for kind, broken := range brokenRule {
		deadline := time.Now().Add(30 * time.Second)
		for {
			err := kube.Create(context.Background(), object(t, kind, namespace, broken), client.DryRunAll)
			if _, invalid := words(err); ruled == (err != nil && invalid == nil) && (ruled || err == nil) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the API server does not serve %s according to its CRD (rules: %t): %v", kind, ruled, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// stripRules removes every CEL rule below a schema.
func stripRules(of *apiextensionsv1.JSONSchemaProps) {
	of.XValidations = nil
	for name, field := range of.Properties {
		stripRules(&field)
		of.Properties[name] = field
	}
	if of.Items != nil && of.Items.Schema != nil {
		stripRules(of.Items.Schema)
	}
	if of.AdditionalProperties != nil && of.AdditionalProperties.Schema != nil {
		stripRules(of.AdditionalProperties.Schema)
	}
}
