// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/internal/fault"
)

const operator = `User "system:serviceaccount:rekey-system:rekey"`

func answered(resource, name, text string) error {
	return apierrors.NewForbidden(schema.ParseGroupResource(resource), name, errors.New(text))
}

func TestMissing(t *testing.T) {
	for what, tc := range map[string]struct {
		err  error
		want Right
		none bool
	}{
		"a Secret in a namespace": {err: answered("secrets", "app", operator+` cannot update resource "secrets" in API group "" in the namespace "web"`),
			want: Right{Verb: "update", Resource: "secrets", Namespace: "web"}},
		"a list in the cluster": {err: answered("secrets", "", operator+` cannot list resource "secrets" in API group "" at the cluster scope`),
			want: Right{Verb: "list", Resource: "secrets"}},
		"a status": {err: answered("clientidentities.rekey.dev", "app", operator+` cannot update resource "clientidentities/status" in API group "rekey.dev" in the namespace "web"`),
			want: Right{Verb: "update", Group: "rekey.dev", Resource: "clientidentities/status", Namespace: "web"}},
		"with the reason of RBAC": {err: answered("secrets", "app", operator+` cannot get resource "secrets" in API group "" in the namespace "web": RBAC: role.rbac.authorization.k8s.io "rekey-secrets" not found`),
			want: Right{Verb: "get", Resource: "secrets", Namespace: "web"}},
		"a namespace, which the API server says is in itself": {err: answered("namespaces", "web", operator+` cannot get resource "namespaces" in API group "" in the namespace "web"`),
			want: Right{Verb: "get", Resource: "namespaces"}},
		"wrapped": {err: fmt.Errorf("reading: %w", answered("secrets", "app", operator+` cannot get resource "secrets" in API group "" in the namespace "web"`)),
			want: Right{Verb: "get", Resource: "secrets", Namespace: "web"}},
		"a user with quotes in the name": {err: answered("secrets", "app", `User "a\" cannot get resource \"x" cannot get resource "secrets" in API group "" in the namespace "web"`),
			want: Right{Verb: "get", Resource: "secrets", Namespace: "web"}},
		"finalizers of an owner": {err: answered("secrets", "ca", `cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>`),
			want: Right{Verb: "update", Group: "rekey.dev", Resource: "certificateauthorities/finalizers"}},
		"finalizers of an owner for the whole cluster": {
			err:  Owned("clustercertificateauthorities", answered("secrets", "ca", `cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>`)),
			want: Right{Verb: "update", Group: "rekey.dev", Resource: "clustercertificateauthorities/finalizers"}},
		"an owner of what may not be deleted": {err: answered("secrets", "app", `cannot set an ownerRef on a resource you can't delete: , <nil>`),
			want: Right{Verb: "delete", Resource: "secrets"}},

		"a quota":                      {err: answered("secrets", "app", `exceeded quota: team, requested: count/secrets=1, used: count/secrets=1, limited: count/secrets=1`), none: true},
		"a namespace that ends":        {err: answered("secrets", "app", `unable to create new content in namespace web because it is being terminated`), none: true},
		"a webhook":                    {err: &apierrors.StatusError{ErrStatus: answeredStatus(`admission webhook "w" denied the request: no`)}, none: true},
		"a webhook that quotes RBAC":   {err: &apierrors.StatusError{ErrStatus: answeredStatus(`admission webhook "w" denied the request: secrets "a" is forbidden: ` + operator + ` cannot get resource "secrets" in API group "" in the namespace "web"`)}, none: true},
		"a policy":                     {err: answered("secrets", "app", `ValidatingAdmissionPolicy 'labels' with binding 'labels' denied request: `+operator+` cannot get resource "secrets" in API group "" in the namespace "web"`), none: true},
		"RBAC's words without a 403":   {err: errors.New(`secrets "a" is forbidden: ` + operator + ` cannot get resource "secrets" in API group "" in the namespace "web"`), none: true},
		"something else":               {err: apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, "app", errors.New("changed")), none: true},
		"nothing":                      {err: nil, none: true},
		"a Secret that does not exist": {err: apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, "app"), none: true},
		"a right on a path, not ours":  {err: answered("", "", operator+` cannot get path "/metrics"`), none: true},
	} {
		t.Run(what, func(t *testing.T) {
			got, ok := Missing(tc.err)
			if got != tc.want || ok == tc.none {
				t.Errorf("got %+v, %v", got, ok)
			}
		})
	}
}

func answeredStatus(text string) (out metav1.Status) {
	out = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "app", nil).ErrStatus
	out.Message = text
	return out
}

func TestFailedNamesTheRightAndTheManifest(t *testing.T) {
	err := Failed("updating Secret web/app", answered("secrets", "app", operator+` cannot update resource "secrets" in API group "" in the namespace "web"`))
	const want = "updating Secret web/app: rekey may not update secrets in namespace web: apply and bind the Role rekey-secrets in config/namespaced/secrets-role, " +
		"or for all namespaces the ClusterRole rekey-secrets in config/rbac/cluster"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if fault.Classify(err) != fault.ClassBlocked || fault.ReasonOf(err, "") != fault.Forbidden || !apierrors.IsForbidden(err) {
		t.Errorf("class %s, reason %s, forbidden %v", fault.Classify(err), fault.ReasonOf(err, ""), apierrors.IsForbidden(err))
	}
	quota := Failed("creating Secret web/app", answered("secrets", "app", "exceeded quota: team"))
	if fault.Classify(quota) != fault.ClassTransient || fault.ReasonOf(quota, "") != fault.APIServerFailed || !strings.Contains(quota.Error(), "exceeded quota") {
		t.Errorf("a quota is reported as %s %s: %v", fault.Classify(quota), fault.ReasonOf(quota, ""), quota)
	}
}

// Every right that the shipped roles grant is granted by the manifest that the message names.
func TestEveryMessageNamesTheManifestThatGrantsTheRight(t *testing.T) {
	count := 0
	for _, file := range []string{"rbac/role.yaml", "rbac/cluster/secrets_role.yaml", "rbac/leader_election_role.yaml", "rbac/metrics_auth_role.yaml", "namespaced/secrets-role/role.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "config", filepath.FromSlash(file)))
		if err != nil {
			t.Fatal(err)
		}
		var role rbacv1.ClusterRole
		if err := yaml.Unmarshal(text, &role); err != nil {
			t.Fatal(err)
		}
		namespaces := []string{"web", ""}
		if role.Kind == "Role" {
			namespaces = namespaces[:1]
		}
		for _, rule := range role.Rules {
			for _, verb := range rule.Verbs {
				for _, resource := range rule.Resources {
					for _, namespace := range namespaces {
						count++
						right := Right{Verb: verb, Group: rule.APIGroups[0], Resource: resource, Namespace: namespace}
						if text := right.Text(); !slices.ContainsFunc(manifests(text), func(name string) bool { return strings.HasPrefix("config/"+file, name) }) ||
							!strings.Contains(text, role.Name) {
							t.Errorf("%s is granted by %s in config/%s: %s", right, role.Name, file, text)
						}
					}
				}
			}
		}
	}
	if count < 80 {
		t.Errorf("only %d rights were checked", count)
	}
}

func manifests(text string) []string {
	return regexp.MustCompile(`config/[a-z/_.-]+`).FindAllString(text, -1)
}

func TestTheRightThatARequestNeeds(t *testing.T) {
	for request, want := range map[string]Right{
		"GET /api/v1/namespaces/web/secrets/app":                                          {Verb: "get", Resource: "secrets", Namespace: "web"},
		"GET /api/v1/namespaces/web/secrets":                                              {Verb: "list", Resource: "secrets", Namespace: "web"},
		"GET /api/v1/secrets?limit=500":                                                   {Verb: "list", Resource: "secrets"},
		"GET /api/v1/secrets?watch=true":                                                  {Verb: "watch", Resource: "secrets"},
		"POST /api/v1/namespaces/web/secrets":                                             {Verb: "create", Resource: "secrets", Namespace: "web"},
		"PUT /api/v1/namespaces/web/configmaps/ca":                                        {Verb: "update", Resource: "configmaps", Namespace: "web"},
		"DELETE /api/v1/namespaces/web/secrets/app":                                       {Verb: "delete", Resource: "secrets", Namespace: "web"},
		"DELETE /api/v1/namespaces/web/secrets":                                           {Verb: "deletecollection", Resource: "secrets", Namespace: "web"},
		"GET /api/v1/namespaces/kube-system":                                              {Verb: "get", Resource: "namespaces"},
		"GET /api/v1/namespaces":                                                          {Verb: "list", Resource: "namespaces"},
		"PUT /apis/rekey.dev/v1alpha1/namespaces/web/databasecredentials/orders/status":   {Verb: "update", Group: "rekey.dev", Resource: "databasecredentials/status", Namespace: "web"},
		"PUT /apis/rekey.dev/v1alpha1/clustercertificateauthorities/internal/status":      {Verb: "update", Group: "rekey.dev", Resource: "clustercertificateauthorities/status"},
		"PATCH /apis/events.k8s.io/v1/namespaces/web/events/app.1":                        {Verb: "patch", Group: "events.k8s.io", Resource: "events", Namespace: "web"},
		"PUT /proxy/c-1/apis/coordination.k8s.io/v1/namespaces/rekey-system/leases/rekey": {Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "rekey-system"},
		"POST /apis/authentication.k8s.io/v1/tokenreviews":                                {Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"},
		// Not one of our rights.
		"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews": {},
		"GET /apis/rekey.dev/v1alpha1":                                {},
		"GET /api/v1":                                                 {},
		"GET /api":                                                    {},
		"GET /version":                                                {},
		"GET /":                                                       {},
	} {
		method, url, _ := strings.Cut(request, " ")
		made, err := http.NewRequestWithContext(t.Context(), method, "https://example.com"+url, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := rightOf(made)
		if ok != (want != Right{}) || ok && got != want {
			t.Errorf("%s takes %+v (%v), want %+v", request, got, ok, want)
		}
	}
}

// FuzzMissing checks that the text names only the words of a right, whatever the API server answers.
func FuzzMissing(f *testing.F) {
	f.Add(`secrets "app" is forbidden: ` + operator + ` cannot update resource "secrets" in API group "" in the namespace "web"`)
	f.Add(`secrets "app" is forbidden: canary-password-1`)
	f.Add(`0 is forbidden: User "" cannot 0 resource "\n" in API group "" in the namespace " 0000"`)
	f.Add(`0 is forbidden: User "" cannot "x" resource "secrets" in API group "" at the cluster scope`)
	f.Fuzz(func(t *testing.T, message string) {
		right, ok := Missing(&apierrors.StatusError{ErrStatus: answeredStatus(message)})
		if !ok {
			return
		}
		for _, word := range []string{right.Verb, right.Group, right.Resource, right.Namespace} {
			if strings.ContainsAny(word, "\" \n") && right.Resource != "certificateauthorities/finalizers" {
				t.Errorf("a right reads %q in %q", word, message)
			}
		}
		_ = right.Text()
	})
}
