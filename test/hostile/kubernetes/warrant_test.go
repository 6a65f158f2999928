// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
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
					out = append(out, grant{file, verb, rule.APIGroups[0], resource})
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
