// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/rekey/rekey/test/golden"
)

// grant is one rule, and where it applies: in one namespace, or everywhere ("*").
type grant struct {
	namespace string
	rule      rbacv1.PolicyRule
}

// grants returns all rights of the operator's ServiceAccount in an installation.
func grants(t *testing.T, folder string) []grant {
	t.Helper()
	all := objects(t, folder)
	cluster := clusterRoles(t, folder)
	var out []grant
	for _, binding := range only[*rbacv1.ClusterRoleBinding](all) {
		if !bindsOperator(t, binding.Subjects) {
			continue
		}
		role := cluster[binding.RoleRef.Name]
		if role == nil {
			t.Fatalf("ClusterRoleBinding %s names the role %s, which does not exist", binding.Name, binding.RoleRef.Name)
		}
		for _, rule := range role.Rules {
			out = append(out, grant{"*", rule})
		}
	}
	for _, binding := range only[*rbacv1.RoleBinding](all) {
		if !bindsOperator(t, binding.Subjects) {
			continue
		}
		rules := rulesOfRole(t, byName(only[*rbacv1.Role](all)), binding)
		for _, rule := range rules {
			out = append(out, grant{binding.Namespace, rule})
		}
	}
	return out
}

func byName(roles []*rbacv1.Role) map[string]*rbacv1.Role {
	out := map[string]*rbacv1.Role{}
	for _, role := range roles {
		out[role.Namespace+"/"+role.Name] = role
	}
	return out
}

func rulesOfRole(t *testing.T, roles map[string]*rbacv1.Role, binding *rbacv1.RoleBinding) []rbacv1.PolicyRule {
	t.Helper()
	role := roles[binding.Namespace+"/"+binding.RoleRef.Name]
	if binding.RoleRef.Kind != "Role" || role == nil {
		t.Fatalf("RoleBinding %s/%s names %s %s, which does not exist", binding.Namespace, binding.Name, binding.RoleRef.Kind, binding.RoleRef.Name)
	}
	return role.Rules
}

func bindsOperator(t *testing.T, subjects []rbacv1.Subject) bool {
	t.Helper()
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "rekey", Namespace: "rekey-system"}}
	if diff := cmp.Diff(want, subjects); diff != "" {
		t.Errorf("a binding has subjects other than the operator (-want +got):\n%s", diff)
	}
	return slices.Equal(subjects, want)
}

// lines prints grants one per line, for readers and for the golden file.
func lines(all []grant) string {
	var out []string
	for _, g := range all {
		verbs := strings.Join(g.rule.Verbs, ",")
		for _, group := range g.rule.APIGroups {
			for _, resource := range g.rule.Resources {
				out = append(out, fmt.Sprintf("%-14s %-22s %-40s %s", g.namespace, group, resource, verbs))
			}
		}
		for _, url := range g.rule.NonResourceURLs {
			out = append(out, fmt.Sprintf("%-14s %-22s %-40s %s", g.namespace, "", url, verbs))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n") + "\n"
}

func TestTheOperatorHasTheseRightsAndNoOthers(t *testing.T) {
	for _, folder := range []string{"default", "namespaced"} {
		t.Run(folder, func(t *testing.T) {
			golden.Check(t, filepath.Join(root, "test/packaging/testdata/rights_"+folder+".golden"), lines(grants(t, folder)))
		})
	}
}

// TestEveryRoleHasTheseRulesAndNoOthers covers unbound roles too: the user-facing ones and the one for scraping.
func TestEveryRoleHasTheseRulesAndNoOthers(t *testing.T) {
	for _, folder := range []string{"default", "namespaced"} {
		t.Run(folder, func(t *testing.T) {
			var out []string
			add := func(role string, labels map[string]string, rules []rbacv1.PolicyRule) {
				for label, value := range labels {
					if strings.Contains(label, "aggregate") {
						out = append(out, fmt.Sprintf("%s  label %s=%s", role, label, value))
					}
				}
				for _, rule := range rules {
					out = append(out, fmt.Sprintf("%s  groups=%v resources=%v names=%v urls=%v verbs=%v", role, rule.APIGroups, rule.Resources, rule.ResourceNames, rule.NonResourceURLs, rule.Verbs))
				}
			}
			for name, role := range clusterRoles(t, folder) {
				if role.AggregationRule != nil {
					t.Errorf("ClusterRole %s aggregates other roles", name)
				}
				add("ClusterRole "+name, role.Labels, role.Rules)
			}
			for _, role := range only[*rbacv1.Role](objects(t, folder)) {
				add("Role "+role.Namespace+"/"+role.Name, role.Labels, role.Rules)
			}
			for _, binding := range only[*rbacv1.ClusterRoleBinding](objects(t, folder)) {
				out = append(out, fmt.Sprintf("ClusterRoleBinding %s  %s %s to %v", binding.Name, binding.RoleRef.Kind, binding.RoleRef.Name, binding.Subjects))
			}
			for _, binding := range only[*rbacv1.RoleBinding](objects(t, folder)) {
				out = append(out, fmt.Sprintf("RoleBinding %s/%s  %s %s to %v", binding.Namespace, binding.Name, binding.RoleRef.Kind, binding.RoleRef.Name, binding.Subjects))
			}
			slices.Sort(out)
			golden.Check(t, filepath.Join(root, "test/packaging/testdata/roles_"+folder+".golden"), strings.Join(out, "\n")+"\n")
		})
	}
}

// TestSecretsAreListedClusterWideOnlyWithoutNamespaces distinguishes the two installations.
func TestSecretsAreListedClusterWideOnlyWithoutNamespaces(t *testing.T) {
	for folder, want := range map[string]bool{"default": true, "namespaced": false} {
		got := false
		for _, g := range grants(t, folder) {
			if g.namespace == "*" && slices.Contains(g.rule.Resources, "secrets") && slices.Contains(g.rule.Verbs, "list") {
				got = true
			}
		}
		if got != want {
			t.Errorf("config/%s lets the operator list Secrets in every namespace: %t, want %t", folder, got, want)
		}
	}
}

func TestNoRoleHasAWildcardOrARightThatGrantsOthers(t *testing.T) {
	for _, folder := range []string{"default", "namespaced"} {
		for _, g := range everyRule(t, folder) {
			for _, word := range slices.Concat(g.rule.APIGroups, g.rule.Resources, g.rule.Verbs, g.rule.NonResourceURLs) {
				switch {
				case strings.Contains(word, "*"):
					t.Errorf("config/%s: %s has a wildcard: %v", folder, g.namespace, g.rule)
				case slices.Contains([]string{"escalate", "bind", "impersonate", "serviceaccounts/token", "pods/exec", "pods", "roles", "clusterroles"}, word):
					t.Errorf("config/%s: %s has the right %q", folder, g.namespace, word)
				}
			}
		}
	}
}

// everyRule returns the rules of every role, bound or not, with the role's name in place of the namespace.
func everyRule(t *testing.T, folder string) []grant {
	t.Helper()
	var out []grant
	for name, role := range clusterRoles(t, folder) {
		for _, rule := range role.Rules {
			out = append(out, grant{name, rule})
		}
	}
	for _, role := range only[*rbacv1.Role](objects(t, folder)) {
		for _, rule := range role.Rules {
			out = append(out, grant{role.Name, rule})
		}
	}
	if len(out) == 0 {
		t.Fatalf("config/%s has no roles", folder)
	}
	return out
}

func TestTheNamespacedInstallationReachesSecretsOnlyInItsNamespaces(t *testing.T) {
	var where []string
	for _, g := range grants(t, "namespaced") {
		if !slices.Contains(g.rule.APIGroups, "") {
			continue
		}
		for _, resource := range []string{"secrets", "configmaps"} {
			if !slices.Contains(g.rule.Resources, resource) {
				continue
			}
			if g.namespace == "*" {
				t.Errorf("the operator has %v on %s in every namespace", g.rule.Verbs, resource)
			}
			where = append(where, g.namespace+"/"+resource)
		}
	}
	var namespaces []string
	for _, argument := range deployment(t, "namespaced").Spec.Template.Spec.Containers[0].Args {
		if list, ok := strings.CutPrefix(argument, "--watch-namespaces="); ok {
			namespaces = strings.Split(list, ",")
		}
	}
	if len(namespaces) == 0 {
		t.Fatal("the Deployment has no --watch-namespaces")
	}
	var want []string
	for _, namespace := range append(namespaces, "rekey-system") {
		want = append(want, namespace+"/configmaps", namespace+"/secrets")
	}
	slices.Sort(where)
	slices.Sort(want)
	if diff := cmp.Diff(want, where); diff != "" {
		t.Errorf("namespaces with rights differ from those of --watch-namespaces plus the operator's own (-want +got):\n%s", diff)
	}
}

func TestAggregatedRolesHoldUserFacingKindsOnly(t *testing.T) {
	const prefix = "rbac.authorization.k8s.io/aggregate-to-"
	want := map[string][]string{
		"view":  {"certificateauthority-viewer", "clientidentity-viewer", "databasecredential-viewer", "databaseserver-viewer", "rotationpolicy-viewer", "serveridentity-viewer"},
		"edit":  {"clientidentity-editor", "databasecredential-editor", "rotationpolicy-editor", "serveridentity-editor"},
		"admin": {"certificateauthority-editor", "databaseserver-editor"},
	}
	got := map[string][]string{}
	for name, role := range clusterRoles(t, "default") {
		for label, value := range role.Labels {
			if into, ok := strings.CutPrefix(label, prefix); ok && value == "true" {
				got[into] = append(got[into], strings.TrimPrefix(name, "rekey-"))
				checkUserRole(t, role)
			}
		}
	}
	for _, names := range got {
		slices.Sort(names)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("aggregated roles (-want +got):\n%s", diff)
	}
}

// checkUserRole allows our kinds only, without writes of the status.
func checkUserRole(t *testing.T, role *rbacv1.ClusterRole) {
	t.Helper()
	for _, rule := range role.Rules {
		if !slices.Equal(rule.APIGroups, []string{"rekey.dev"}) {
			t.Errorf("ClusterRole %s covers the groups %v", role.Name, rule.APIGroups)
		}
		for _, resource := range rule.Resources {
			if strings.Contains(resource, "/") && !slices.Equal(rule.Verbs, []string{"get"}) {
				t.Errorf("ClusterRole %s has %v on %s", role.Name, rule.Verbs, resource)
			}
			if strings.HasPrefix(resource, "cluster") {
				t.Errorf("ClusterRole %s covers the cluster-scoped %s", role.Name, resource)
			}
		}
		viewer := strings.HasSuffix(role.Name, "-viewer")
		for _, verb := range rule.Verbs {
			if viewer && !slices.Contains([]string{"get", "list", "watch"}, verb) {
				t.Errorf("ClusterRole %s may %s", role.Name, verb)
			}
		}
	}
}

func TestEveryKindHasAViewerAndAnEditorRole(t *testing.T) {
	roles := clusterRoles(t, "default")
	for kind := range kinds {
		for _, suffix := range []string{"viewer", "editor"} {
			name := "rekey-" + strings.ToLower(kind) + "-" + suffix
			if roles[name] == nil {
				t.Errorf("ClusterRole %s does not exist", name)
			}
		}
	}
}

func TestNoOtherPodGetsTheServiceAccountToken(t *testing.T) {
	accounts := only[*corev1.ServiceAccount](objects(t, "default"))
	if len(accounts) != 1 || accounts[0].AutomountServiceAccountToken == nil || *accounts[0].AutomountServiceAccountToken {
		t.Errorf("want one ServiceAccount with automountServiceAccountToken: false, got %v", accounts)
	}
	if mount := deployment(t, "default").Spec.Template.Spec.AutomountServiceAccountToken; mount == nil || !*mount {
		t.Error("the Deployment does not mount the token itself")
	}
}
