// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

// account has the rights of the shipped roles, as config/namespaced binds them.
type account struct {
	*world
	user rest.ImpersonationConfig
}

// newAccount returns an account with the cluster-wide rights of the ClusterRole rekey, and none to Secrets.
func newAccount(w *world) *account {
	w.t.Helper()
	a := &account{w, rest.ImpersonationConfig{UserName: "system:serviceaccount:" + w.namespace + ":rekey", Groups: []string{"system:serviceaccounts", "system:authenticated"}}}
	name := "rekey-" + w.namespace
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: shippedRules(w.t, "rbac/role.yaml")}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}, Subjects: a.subjects()}
	for _, o := range []client.Object{role, binding} {
		if err := w.client.Create(w.ctx, o); err != nil {
			w.t.Fatal(err)
		}
	}
	return a
}

func (a *account) subjects() []rbacv1.Subject {
	return []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: a.user.UserName}}
}

// shippedRules returns the rules of a role in config/.
func shippedRules(t *testing.T, file string) []rbacv1.PolicyRule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "config", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	role := rbacv1.ClusterRole{}
	if err := yaml.Unmarshal(text, &role); err != nil || len(role.Rules) == 0 {
		t.Fatalf("%s holds no rules: %v", file, err)
	}
	return role.Rules
}

// grant binds the Role rekey-secrets in a namespace.
func (a *account) grant(namespace string) {
	a.t.Helper()
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "rekey-secrets"}, Rules: shippedRules(a.t, "namespaced/secrets-role/role.yaml")}
	if err := client.IgnoreAlreadyExists(a.client.Create(a.ctx, role)); err != nil {
		a.t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "rekey-secrets"},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "rekey-secrets"}, Subjects: a.subjects()}
	if err := a.client.Create(a.ctx, binding); err != nil {
		a.t.Fatal(err)
	}
}

// take removes the binding, as an admin of the namespace can.
func (a *account) take(namespace string) {
	a.t.Helper()
	if err := a.client.Delete(a.ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "rekey-secrets"}}); err != nil {
		a.t.Fatal(err)
	}
}

func (a *account) newNamespace(name string) string {
	a.t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := a.client.Create(a.ctx, namespace); err != nil {
		a.t.Fatal(err)
	}
	return namespace.Name
}

// tenant holds all objects of a namespace.
type tenant struct {
	authority *v1alpha1.CertificateAuthority
	identity  *v1alpha1.ClientIdentity
	login     *v1alpha1.DatabaseCredential
}

func (a *account) tenant(namespace string) tenant {
	out := tenant{anAuthority(), aClientIdentity(), aCredential()}
	// The fake has one server, so every namespace has its own logins.
	out.login.Spec.Username = "orders_" + strings.ReplaceAll(namespace, "-", "_")
	for _, o := range []client.Object{out.authority, out.identity, aPolicy(), anAdminSecret(), aServer(), out.login} {
		o.SetNamespace(namespace)
		if err := a.client.Create(a.ctx, o); err != nil {
			a.t.Fatal(err)
		}
	}
	return out
}

func (x tenant) objects() []client.Object { return []client.Object{x.authority, x.identity, x.login} }

// served waits until every object of a tenant is ready, and no condition mentions a right.
func (m *managed) served(x tenant) {
	m.t.Helper()
	for _, o := range x.objects() {
		m.until(func() bool {
			return m.client.Get(m.ctx, client.ObjectKeyFromObject(o), o) == nil && strings.HasPrefix(condition(o, v1alpha1.ConditionReady), "True/") &&
				!strings.Contains(describeConditions(o), "Forbidden")
		}, func() string {
			return kindOf(o) + " in " + o.GetNamespace() + " is not served:" + describeConditions(o)
		})
	}
}

// refused waits until an object names the missing right, and what grants it.
func (m *managed) refused(o client.Object, words ...string) {
	m.t.Helper()
	m.until(func() bool {
		m.get(o)
		for _, c := range fixture.Conditions(o) {
			if c.Reason == v1alpha1.ReasonForbidden && with([]string{c.Message}, words...) {
				return true
			}
		}
		return false
	}, func() string {
		return kindOf(o) + " in " + o.GetNamespace() + " does not say " + strings.Join(words, ", ") + ":" + describeConditions(o)
	})
}

// missing reports whether the metric names a right in a namespace.
func (m *managed) missing(namespace string) bool {
	m.t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		m.t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == "rekey_permission_missing" && strings.Contains(metric.String(), namespace) {
				return true
			}
		}
	}
	return false
}

// An admin of a listed namespace can remove rekey's rights there, or delete the namespace. No other namespace is affected,
// neither at the start nor later, and once the right is granted again the namespace is served without a restart.
func TestANamespaceWithoutItsRoleStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := newAccount(w)
	bare, absent := a.newNamespace(w.namespace+"-bare"), w.namespace+"-absent"
	a.grant(w.namespace)
	own, other := a.tenant(w.namespace), a.tenant(bare)
	logged := &lines{}
	m := startManagedAs(t, w, funcr.New(logged.add, funcr.Options{}), a.user, w.namespace, bare, absent)

	m.served(own)
	if err := m.ready(&http.Request{}); err != nil {
		t.Errorf("one namespace without its Role makes the whole process unready: %v", err)
	}
	m.refused(other.authority, "secrets in namespace "+bare, "config/namespaced/secrets-role")
	m.refused(other.login, "secrets in namespace "+bare, "config/namespaced/secrets-role")
	m.until(func() bool { return m.missing(bare) && m.missing(absent) }, func() string { return "no metric names the namespaces" })
	m.until(func() bool {
		return with(strings.Split(logged.String(), "\n"), "A right is missing", `"list"`, "secrets", bare, "config/namespaced/secrets-role")
	}, func() string { return "the log does not say which right is missing:\n" + logged.String() })

	a.grant(bare)
	m.served(other)
	m.until(func() bool { return !m.missing(bare) }, func() string { return "the metric stays although the right is back" })

	a.newNamespace(absent)
	a.grant(absent)
	m.served(a.tenant(absent))

	// In the middle: what is published stays, and the others continue.
	a.take(bare)
	before := &corev1.Secret{}
	if err := w.client.Get(w.ctx, client.ObjectKey{Namespace: bare, Name: "orders-db"}, before); err != nil {
		t.Fatal(err)
	}
	rotate := func(x tenant) {
		m.until(func() bool {
			m.get(x.login)
			metav1.SetMetaDataAnnotation(&x.login.ObjectMeta, v1alpha1.AnnotationRotate, "now")
			return w.client.Update(w.ctx, x.login) == nil
		}, func() string { return "the annotation could not be set" })
	}
	rotate(other)
	m.refused(other.login, "secrets in namespace "+bare, "config/namespaced/secrets-role")
	if ready := meta.FindStatusCondition(other.login.Status.Conditions, v1alpha1.ConditionReady); ready == nil || ready.Status != metav1.ConditionTrue {
		t.Errorf("a credential that works is no longer ready:%s", describeConditions(other.login))
	}
	rotate(own)
	m.until(func() bool { m.get(own.login); return own.login.Status.Revision == 2 }, func() string { return "the other namespace does not rotate" })
	after := &corev1.Secret{}
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(before), after); err != nil {
		t.Fatal(err)
	}
	if !w.database.Accepts(string(after.Data["username"]), string(after.Data["password"])) || after.ResourceVersion != before.ResourceVersion {
		t.Error("what was published was changed, or no longer works")
	}
	a.grant(bare)
	m.until(func() bool { m.get(other.login); return other.login.Status.Revision == 2 }, func() string { return "the right is back and nothing rotates" })
	m.served(other)
}

// A cache that may not be filled is empty, and says nothing about what exists: a published certificate and a working server are
// found anyway, and nothing is recreated.
func TestReadsBypassACacheThatMayNotBeFilled(t *testing.T) {
	w := newWorld(t)
	a := newAccount(w)
	a.grant(w.namespace)
	first := startManagedAs(t, w, logr.Discard(), a.user, w.namespace)
	own := a.tenant(w.namespace)
	first.served(own)
	first.stop()
	revision, serial := own.login.Status.Revision, own.identity.Status.SerialNumber

	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "rekey-" + w.namespace}}
	for _, rule := range shippedRules(t, "rbac/role.yaml") {
		resources := slices.DeleteFunc(slices.Clone(rule.Resources), func(name string) bool { return name == "databaseservers" || name == "certificateauthorities" })
		role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: rule.APIGroups, Resources: resources, Verbs: rule.Verbs})
	}
	role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{"rekey.dev"}, Resources: []string{"databaseservers", "certificateauthorities"}, Verbs: []string{"get"}})
	if err := w.client.Update(w.ctx, role); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"list", "watch"} {
		first.until(func() bool {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: a.user.UserName, Groups: a.user.Groups,
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: w.namespace, Verb: verb, Group: "rekey.dev", Resource: "databaseservers"}}}
			return w.client.Create(w.ctx, review) == nil && !review.Status.Allowed
		}, func() string { return "the API server does not follow the role" })
	}
	m := startManagedAs(t, w, logr.Discard(), a.user, w.namespace)
	m.refused(own.login, "databaseservers.rekey.dev in namespace "+w.namespace, "config/rbac/role.yaml")
	m.refused(own.identity, "certificateauthorities.rekey.dev in namespace "+w.namespace, "config/rbac/role.yaml")
	if err := m.ready(&http.Request{}); err == nil || !strings.Contains(err.Error(), "config/rbac/role.yaml") {
		t.Errorf("readiness does not name the missing right: %v", err)
	}
	for _, o := range []client.Object{own.login, own.identity} {
		if got := condition(o, v1alpha1.ConditionReady); got != "True/Published" {
			t.Errorf("%s is %s:%s", kindOf(o), got, describeConditions(o))
		}
	}
	if own.login.Status.Revision != revision || own.identity.Status.SerialNumber != serial {
		t.Error("what was published was recreated")
	}
}
