// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// fewestRequests is the minimum number of requests in a life.
const fewestRequests = 500

func nothingForbidden(t *testing.T, l *life) {
	t.Helper()
	count := 0
	for _, r := range l.requests() {
		if r.User.Username != operatorAccount {
			continue
		}
		count++
		if r.forbidden() {
			t.Errorf("the operator may not %s %s in namespace %q (%s)", r.Verb, r.resource(), r.ObjectRef.Namespace, r.RequestURI)
		}
	}
	if count < fewestRequests {
		t.Errorf("the operator made %d requests; expected at least %d: nothing was proven", count, fewestRequests)
	}
}

// explained lists rights that a life need not use, and why they are granted.
func explained(folder string) map[string]string {
	const readable = "a client that may list may also read: without it nothing would be safer, and a live read would be refused"
	const series = "an Event that recurs within minutes becomes a series: whether one does is random"
	out := map[string]string{
		"update rekey.dev/certificateauthorities/finalizers":        "required by the admission plugin OwnerReferencesPermissionEnforcement, which is on in the namespaced installation",
		"update rekey.dev/clustercertificateauthorities/finalizers": "as for certificateauthorities/finalizers",
		"patch events.k8s.io/events":                                series,
		"get rekey.dev/certificateauthorities":                      readable,
		"get rekey.dev/clustercertificateauthorities":               readable,
		"get rekey.dev/clientidentities":                            readable,
		"get rekey.dev/serveridentities":                            readable,
		"get rekey.dev/databaseservers":                             readable,
		"get rekey.dev/rotationpolicies":                            readable,
		"patch /events":                                             series,
	}
	for _, resource := range []string{"/namespaces", "/secrets", "rekey.dev/certificateauthorities", "rekey.dev/clustercertificateauthorities", "rekey.dev/clientidentities",
		"rekey.dev/serveridentities", "rekey.dev/databaseservers", "rekey.dev/databasecredentials", "rekey.dev/rotationpolicies"} {
		out["list "+resource] = "fills the cache if the API server does not stream lists to a watch, as this one does"
	}
	if folder == strict {
		out["update /configmaps"] = "used in the other installation: with the admission plugin it takes more than that"
	}
	return out
}

// noIdleRight requires every verb of every rule to be in the audit log, at least once, in the places where the rule applies.
func noIdleRight(t *testing.T, l *life) {
	t.Helper()
	used := map[string]bool{}
	for _, r := range l.requests() {
		if r.User.Username == operatorAccount {
			used[r.Verb+" "+r.ObjectRef.APIGroup+"/"+r.resource()] = true
		}
	}
	granted := map[string]bool{}
	for _, rule := range rulesOfOperator(t, l.folder) {
		for _, verb := range rule.Verbs {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					granted[verb+" "+group+"/"+resource] = true
				}
			}
		}
	}
	reasons := explained(l.folder)
	for _, right := range slices.Sorted(maps.Keys(granted)) {
		if !used[right] && reasons[right] == "" {
			t.Errorf("the operator may %s and never does: remove the right, or explain its purpose", right)
		}
	}
	for right := range reasons {
		if !granted[right] {
			t.Errorf("the explanation of %s is about a right that is not granted", right)
		}
	}
}

// rulesOfOperator returns the rules of every role that is bound to the operator's service account.
func rulesOfOperator(t *testing.T, folder string) []rbacv1.PolicyRule {
	t.Helper()
	rules := map[string][]rbacv1.PolicyRule{}
	var bound []string
	for _, o := range manifests(t, folder) {
		key := o.GetKind() + "/" + o.GetName()
		switch o.GetKind() {
		case "ClusterRole", "Role":
			var role rbacv1.ClusterRole
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
				t.Fatal(err)
			}
			rules[key] = role.Rules
		case "ClusterRoleBinding", "RoleBinding":
			var binding rbacv1.ClusterRoleBinding
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &binding); err != nil {
				t.Fatal(err)
			}
			bound = append(bound, binding.RoleRef.Kind+"/"+binding.RoleRef.Name)
		}
	}
	var out []rbacv1.PolicyRule
	for _, key := range bound {
		if rules[key] == nil {
			t.Fatalf("a binding names %s, which does not exist", key)
		}
		out = append(out, rules[key]...)
	}
	return out
}

func manifests(t *testing.T, folder string) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(rendered(t, folder)), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.Object != nil {
			out = append(out, o)
		}
	}
}

// listsItsOwnOnly holds whatever RBAC allows: with --watch-namespaces nothing is listed or watched across the cluster that could
// be listed by namespace, and no request goes to another namespace.
func listsItsOwnOnly(t *testing.T, l *life) {
	t.Helper()
	lists := 0
	for _, r := range l.requests() {
		if r.User.Username != operatorAccount || r.ObjectRef.Resource != "secrets" {
			continue
		}
		where := r.ObjectRef.Namespace
		if r.Verb == "list" || r.Verb == "watch" {
			lists++
			if !strings.Contains(r.RequestURI, "labelSelector=app.kubernetes.io%2Fmanaged-by%3Drekey") {
				t.Errorf("a request for Secrets has no selector: %s", r.RequestURI)
			}
		}
		if l.folder == "namespaced" && where != tenant && where != operatorNamespace {
			t.Errorf("with --watch-namespaces=%s the operator uses %s secrets in namespace %q", tenant, r.Verb, where)
		}
	}
	if lists == 0 {
		t.Error("the operator never listed a Secret: nothing was proven")
	}
}
