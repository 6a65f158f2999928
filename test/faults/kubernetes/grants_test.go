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

// The shipped roles of the operator, and where each is bound.
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

// The sweeps that take rights away, by what asks for them.
const (
	sweepOfPasses  = "TestEveryRightThatIsTakenAwayIsNamedAndHarmsNothing"
	sweepOfManager = "TestEveryRightOfTheManagerThatIsTakenAway"
	sweepOfMetrics = "TestTheMetricsNameTheRightThatTheyLack"
)

// sweep is the one that takes the right away. Every right is in one, whatever a manifest grants tomorrow.
func (g grant) sweep() string {
	switch {
	case g.role == roleOfMetrics:
		return sweepOfMetrics
	case g.role == roleOfElection, g.resource == "events", g.verb == "list", g.verb == "watch":
		return sweepOfManager
	}
	return sweepOfPasses
}

// shippedRoles are the roles in config/ that a binding there gives to the operator's account, with their rules.
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

// T1: what the sweeps take away, all together, is what the manifests grant to the operator, verb by verb: a right that is added
// to a manifest is swept, or this fails.
func TestEveryRightOfTheManifestsIsSwept(t *testing.T) {
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
				t.Errorf("%s grants what no sweep can take away verb by verb: %v", file, rule)
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
	// The lists and watches of Secrets are those of one Role or of the other.
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
			t.Errorf("no sweep takes away %s", right)
		}
	}
	for right := range swept {
		if want[right] == 0 {
			t.Errorf("a sweep takes away %s, which no manifest grants", right)
		}
	}
	if len(want) < 40 {
		t.Errorf("only %d rights were found in the manifests", len(want))
	}
	t.Logf("%d rights in %d roles", len(want), len(shippedRoles(t)))
}

// grantsOf are all that the roles grant, one by one.
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

// warrant is what an account of the operator may do on the real API server: what the shipped roles say, except what was
// taken away.
type warrant struct {
	t         *testing.T
	admin     client.Client
	name      string
	namespace string
	user      rest.ImpersonationConfig
	roles     []string
	taken     []grant
}

// newWarrant binds the shipped roles to an account of its own: those of the whole cluster, and those of a namespace there.
func newWarrant(t *testing.T, admin client.Client, namespace string, roles ...string) *warrant {
	t.Helper()
	w := &warrant{t: t, admin: admin, name: "rekey-of-" + namespace, namespace: namespace, roles: roles, user: rest.ImpersonationConfig{
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

// rules are the two roles as they should be now.
func (w *warrant) rules() (*rbacv1.ClusterRole, *rbacv1.Role) {
	cluster := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: w.name}}
	own := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: w.name}}
	for _, g := range grantsOf(w.t, w.roles...) {
		if slices.Contains(w.taken, g) {
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

// take takes rights away, and waits until they are gone.
func (w *warrant) take(taken ...grant) {
	w.t.Helper()
	w.taken = taken
	cluster, own := w.rules()
	for _, o := range []client.Object{cluster, own} {
		if err := w.admin.Update(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
	w.settled(taken...)
}

// giveBack gives everything back, and waits until it holds.
func (w *warrant) giveBack() { was := w.taken; w.take(); w.settled(was...) }

// settled waits until the API server answers as the roles say: its authorizer follows them a moment later.
func (w *warrant) settled(about ...grant) {
	w.t.Helper()
	grants := grantsOf(w.t, w.roles...)
	about = append(about, grants[0], grants[len(grants)-1])
	for _, g := range about {
		resource, sub, _ := strings.Cut(g.resource, "/")
		until(w.t, func() bool {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: w.user.UserName, Groups: w.user.Groups,
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: w.namespace, Verb: g.verb, Group: g.group, Resource: resource, Subresource: sub}}}
			return w.admin.Create(w.t.Context(), review) == nil && review.Status.Allowed != slices.Contains(w.taken, g)
		}, func() string { return fmt.Sprintf("the API server does not follow the roles about %s", g) })
	}
}

// client of the account.
func (w *warrant) client() client.WithWatch {
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

// slowest pass that counts as one that does not hang.
const slowest = 20 * time.Second
