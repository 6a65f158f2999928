// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/test/world"
)

// These are the shipped roles of the operator, and where each is bound.
const (
	roleOfKinds    = "rbac/role.yaml"
	roleOfSecrets  = "rbac/cluster/secrets_role.yaml"
	roleOfTenant   = "namespaced/secrets-role/role.yaml"
	roleOfElection = "rbac/leader_election_role.yaml"
	roleOfMetrics  = "rbac/metrics_auth_role.yaml"
)

// grant is one verb on one resource of a shipped role.
type grant struct {
	role                  string
	verb, group, resource string
}

func (g grant) String() string { return g.verb + " " + g.right("").Name() }

func (g grant) right(namespace string) access.Right {
	return access.Right{Verb: g.verb, Group: g.group, Resource: g.resource, Namespace: namespace}
}

// These are the sweeps that remove rights, by the component that uses them.
const (
	sweepOfPasses  = "TestEveryMissingRightIsReportedAndHarmsNothing"
	sweepOfManager = "TestEveryMissingManagerRightIsReported"
	sweepOfMetrics = "TestTheMetricsEndpointLogsItsMissingRight"
)

// sweep returns the sweep that removes the right. Every right belongs to one, including rights that a future manifest grants.
func (g grant) sweep() string {
	switch {
	case g.role == roleOfMetrics:
		return sweepOfMetrics
	case g.role == roleOfElection, g.resource == "events", g.verb == "list", g.verb == "watch":
		return sweepOfManager
	}
	return sweepOfPasses
}

// shippedRoles returns the roles in config/ that are bound to the operator's account, with their rules.
func shippedRoles(t *testing.T) map[string][]rbacv1.PolicyRule {
	t.Helper()
	roles, bound := map[string]rbacv1.ClusterRole{}, map[string]bool{}
	root := filepath.Join(world.Root(), "config")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		for document := range bytes.SplitSeq(text, []byte("\n---\n")) {
			var role rbacv1.ClusterRole
			var binding rbacv1.ClusterRoleBinding
			if yaml.Unmarshal(document, &role) == nil && (role.Kind == "ClusterRole" || role.Kind == "Role") {
				roles[filepath.ToSlash(name)] = role
			}
			if yaml.Unmarshal(document, &binding) == nil && slices.ContainsFunc(binding.Subjects, func(s rbacv1.Subject) bool { return s.Name == "rekey" }) {
				bound[binding.RoleRef.Kind+"/"+binding.RoleRef.Name] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]rbacv1.PolicyRule{}
	for file, role := range roles {
		if bound[role.Kind+"/"+role.Name] {
			out[file] = role.Rules
		}
	}
	return out
}

// T1: together, the sweeps remove exactly what the manifests grant to the operator, verb by verb. A right that is added to a
// manifest is swept, or this test fails.
func TestEveryRightInTheManifestsIsSwept(t *testing.T) {
	want := map[string]int{}
	for file, rules := range shippedRoles(t) {
		for _, rule := range rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						want[file+": "+grant{file, verb, group, resource}.String()]++
					}
				}
			}
			if len(rule.ResourceNames)+len(rule.NonResourceURLs) > 0 || slices.Contains(rule.Verbs, "*") || slices.Contains(rule.Resources, "*") {
				t.Errorf("%s grants rights that no sweep can remove verb by verb: %v", file, rule)
			}
		}
	}
	swept := map[string]int{}
	note := func(g grant) { swept[g.role+": "+g.String()]++ }
	for _, g := range grantsOf(t, roleOfKinds, roleOfSecrets, roleOfTenant) {
		if g.sweep() == sweepOfPasses {
			note(g)
		}
	}
	managers := map[grant]bool{}
	for _, l := range losses(t) {
		for _, g := range l.grants {
			managers[g] = true
		}
	}
	// One Role or the other grants list and watch of Secrets.
	for g := range managers {
		note(g)
		if g.role == roleOfTenant {
			g.role = roleOfSecrets
			note(g)
		}
	}
	for _, g := range grantsOf(t, roleOfMetrics) {
		note(g)
	}
	for right := range want {
		if swept[right] == 0 {
			t.Errorf("no sweep removes %s", right)
		}
	}
	for right := range swept {
		if want[right] == 0 {
			t.Errorf("a sweep removes %s, which no manifest grants", right)
		}
	}
	if len(want) < 40 {
		t.Errorf("found only %d rights in the manifests", len(want))
	}
	t.Logf("%d rights in %d roles", len(want), len(shippedRoles(t)))
}

// grantsOf returns all grants of the roles, one by one.
func grantsOf(t *testing.T, roles ...string) []grant {
	t.Helper()
	var out []grant
	for _, file := range roles {
		text, err := os.ReadFile(filepath.Join(world.Root(), "config", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		var role rbacv1.ClusterRole
		if err := yaml.Unmarshal(text, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, group := range rule.APIGroups {
						out = append(out, grant{file, verb, group, resource})
					}
				}
			}
		}
	}
	return out
}

// account is an operator account on the real API server: it has the rights of the shipped roles, except the removed ones.
type account struct {
	t         *testing.T
	admin     client.Client
	name      string
	namespace string
	user      rest.ImpersonationConfig
	roles     []string
	removed   []grant
}

// newAccount binds the shipped roles to a new account: those for the whole cluster, and those for a namespace.
func newAccount(t *testing.T, admin client.Client, namespace string, roles ...string) *account {
	t.Helper()
	w := &account{t: t, admin: admin, name: "rekey-of-" + namespace, namespace: namespace, roles: roles, user: rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":rekey", Groups: []string{"system:serviceaccounts", "system:authenticated"}}}
	ctx := context.WithoutCancel(t.Context())
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: w.user.UserName}}
	everywhere := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: w.name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: w.name}, Subjects: subjects}
	here := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: w.name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: w.name}, Subjects: subjects}
	cluster, own := w.rules()
	for _, o := range []client.Object{cluster, own, everywhere, here} {
		if err := admin.Create(ctx, o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = admin.Delete(ctx, o) })
	}
	w.settled()
	return w
}

// rules returns the current content of the two roles.
func (w *account) rules() (*rbacv1.ClusterRole, *rbacv1.Role) {
	cluster := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: w.name}}
	own := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: w.name}}
	for _, g := range grantsOf(w.t, w.roles...) {
		if slices.Contains(w.removed, g) {
			continue
		}
		rule := rbacv1.PolicyRule{APIGroups: []string{g.group}, Resources: []string{g.resource}, Verbs: []string{g.verb}}
		if g.role == roleOfTenant || g.role == roleOfElection {
			own.Rules = append(own.Rules, rule)
		} else {
			cluster.Rules = append(cluster.Rules, rule)
		}
	}
	return cluster, own
}

// remove removes rights, and waits until that is effective.
func (w *account) remove(removed ...grant) {
	w.t.Helper()
	w.removed = removed
	cluster, own := w.rules()
	for _, o := range []client.Object{cluster, own} {
		if err := w.admin.Update(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
	w.settled(removed...)
}

// restore restores all rights, and waits until that is effective.
func (w *account) restore() { was := w.removed; w.remove(); w.settled(was...) }

// settled waits until the API server follows the roles, which its authorizer does after a moment.
func (w *account) settled(about ...grant) {
	w.t.Helper()
	grants := grantsOf(w.t, w.roles...)
	about = append(about, grants[0], grants[len(grants)-1])
	for _, g := range about {
		resource, sub, _ := strings.Cut(g.resource, "/")
		until(w.t, func() bool {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: w.user.UserName, Groups: w.user.Groups,
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: w.namespace, Verb: g.verb, Group: g.group, Resource: resource, Subresource: sub}}}
			return w.admin.Create(w.t.Context(), review) == nil && review.Status.Allowed != slices.Contains(w.removed, g)
		}, func() string { return fmt.Sprintf("the API server does not follow the roles for %s", g) })
	}
}

// client returns a client with the account's rights.
func (w *account) client() client.WithWatch {
	w.t.Helper()
	scheme, err := world.Scheme()
	if err != nil {
		w.t.Fatal(err)
	}
	config := world.APIServer()
	config.Impersonate = w.user
	out, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// slowest is the longest reconcile that does not count as hanging.
const slowest = 20 * time.Second
