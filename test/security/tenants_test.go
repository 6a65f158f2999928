// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

// resource is one that tenants have.
type resource struct {
	schema.GroupVersionResource
	// ours reports whether our roles grant the rights on a resource, not those of the cluster.
	ours, everywhere bool
	// example is a valid object.
	example func() client.Object
}

func ours(name string, example func() client.Object) resource {
	return resource{GroupVersionResource: v1alpha1.GroupVersion.WithResource(name), ours: true, example: example}
}

func tenantResources() []resource {
	clusterWide := ours("clustercertificateauthorities", func() client.Object { return clusterAuthority(true)(nil, "nobody")[0] })
	clusterWide.everywhere = true
	return []resource{
		ours("certificateauthorities", func() client.Object { return foreignAuthority(nil, "")[0] }),
		ours("clientidentities", func() client.Object { return crossings()[0].from()[0] }),
		ours("serveridentities", func() client.Object {
			return fixture.ServerIdentity("target", func(i *v1alpha1.ServerIdentity) { i.Spec.IdentitySpec = identitySpec(own, "x") })
		}),
		ours("rotationpolicies", func() client.Object { return aPolicy("target") }),
		ours("databaseservers", func() client.Object { return aServer("target", "admin", nil) }),
		ours("databasecredentials", func() client.Object { return aLogin("server", "", "x") }),
		clusterWide,
		{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, example: func() client.Object { return foreignSecret(nil, "")[0] }},
		{GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, example: func() client.Object { return &corev1.ConfigMap{ObjectMeta: meta("target")} }},
	}
}

// verbs are all operations on a resource, by verb, for an object with that name in a namespace. They change nothing.
var verbs = map[string]func(ctx context.Context, c dynamic.ResourceInterface, name string, example *unstructured.Unstructured) error{
	"get": func(ctx context.Context, c dynamic.ResourceInterface, name string, _ *unstructured.Unstructured) error {
		_, err := c.Get(ctx, name, metav1.GetOptions{})
		return err
	},
	"list": func(ctx context.Context, c dynamic.ResourceInterface, _ string, _ *unstructured.Unstructured) error {
		_, err := c.List(ctx, metav1.ListOptions{})
		return err
	},
	"watch": func(ctx context.Context, c dynamic.ResourceInterface, _ string, _ *unstructured.Unstructured) error {
		watching, err := c.Watch(ctx, metav1.ListOptions{})
		if err == nil {
			watching.Stop()
		}
		return err
	},
	"create": func(ctx context.Context, c dynamic.ResourceInterface, name string, example *unstructured.Unstructured) error {
		example.SetName(name + "-new")
		_, err := c.Create(ctx, example, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	},
	"update": func(ctx context.Context, c dynamic.ResourceInterface, name string, example *unstructured.Unstructured) error {
		example.SetName(name)
		_, err := c.Update(ctx, example, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	},
	"update status": func(ctx context.Context, c dynamic.ResourceInterface, name string, example *unstructured.Unstructured) error {
		example.SetName(name)
		_, err := c.UpdateStatus(ctx, example, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	},
	"patch": func(ctx context.Context, c dynamic.ResourceInterface, name string, _ *unstructured.Unstructured) error {
		_, err := c.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	},
	"delete": func(ctx context.Context, c dynamic.ResourceInterface, name string, _ *unstructured.Unstructured) error {
		return c.Delete(ctx, name, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
	},
	"deletecollection": func(ctx context.Context, c dynamic.ResourceInterface, _ string, _ *unstructured.Unstructured) error {
		return c.DeleteCollection(ctx, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}, metav1.ListOptions{})
	},
}

var reading = []string{"get", "list", "watch"}

// TestATenantReachesNothingOfAnother makes the service account of one tenant, with every user-facing role that config/
// ships, try every verb on every kind in the namespace of the other.
func TestATenantReachesNothingOfAnother(t *testing.T) {
	t.Parallel()
	c := install(t, "default")
	c.namespace("one", nil)
	c.namespace("other", nil)
	for _, r := range tenantResources() {
		for _, namespace := range []string{"one", "other"} {
			example := r.example()
			example.SetName("target")
			if !r.everywhere {
				example.SetNamespace(namespace)
			}
			c.create(example)
		}
	}
	for _, role := range []string{"viewer", "editor"} {
		c.bind(role)
		t.Run(role, func(t *testing.T) {
			impersonated := rest.CopyConfig(c.config)
			impersonated.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:one:" + role,
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:one", "system:authenticated"}}
			as, err := dynamic.NewForConfig(impersonated)
			if err != nil {
				t.Fatal(err)
			}
			tries := 0
			for _, r := range tenantResources() {
				for verb := range verbs {
					if verb == "update status" && !r.ours {
						continue
					}
					tries++
					tryVerb(t, c, as, r, role, verb)
				}
			}
			if want := 7*len(verbs) + 2*(len(verbs)-1); tries != want {
				t.Errorf("tried %d verbs, want %d", tries, want)
			}
		})
	}
}

// bind binds every shipped role of that sort to a service account with the sort's name, in namespace one.
func (c *cluster) bind(sort string) {
	c.t.Helper()
	var roles rbacv1.ClusterRoleList
	if err := c.client.List(c.t.Context(), &roles); err != nil {
		c.t.Fatal(err)
	}
	bound := 0
	for _, role := range roles.Items {
		if !strings.HasPrefix(role.Name, "rekey-") || !strings.HasSuffix(role.Name, "-"+sort) {
			continue
		}
		bound++
		c.create(&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: role.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "one", Name: sort}},
		})
	}
	if bound != 7 {
		c.t.Errorf("config/ ships %d roles of sort %s, want one for each kind", bound, sort)
	}
}

func tryVerb(t *testing.T, c *cluster, as dynamic.Interface, r resource, role, verb string) {
	t.Helper()
	try := func(namespace, name string) error {
		var to dynamic.ResourceInterface = as.Resource(r.GroupVersionResource)
		if namespace != "" {
			to = as.Resource(r.GroupVersionResource).Namespace(namespace)
		}
		return verbs[verb](t.Context(), to, name, c.stored(t, r, namespace))
	}
	what := verb + " " + r.Resource
	if r.everywhere {
		if err := try("", "target"); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want it to be forbidden", what, err)
		}
		return
	}
	there, absent := try("other", "target"), try("other", "absent")
	if !apierrors.IsForbidden(there) || !apierrors.IsForbidden(absent) {
		t.Errorf("%s of another tenant: %v; of a missing object: %v; want both to be forbidden", what, there, absent)
	} else if strings.ReplaceAll(there.Error(), `"target"`, "") != strings.ReplaceAll(absent.Error(), `"absent"`, "") {
		t.Errorf("%s distinguishes another tenant's object from a missing one: %q, %q", what, there, absent)
	}
	if verb == "list" || verb == "watch" || verb == "deletecollection" {
		if err := try("", ""); !apierrors.IsForbidden(err) && !apierrors.IsMethodNotSupported(err) && !apierrors.IsNotFound(err) {
			t.Errorf("%s in all namespaces: %v, want it to be forbidden", what, err)
		}
	}
	// In its own namespace it works, or the refusals would prove nothing.
	may := r.ours && (slices.Contains(reading, verb) || role == "editor" && verb != "update status")
	if err := try("one", "target"); may != (err == nil) || !may && !apierrors.IsForbidden(err) {
		t.Errorf("%s in its own namespace: %v; allowed should be %t", what, err, may)
	}
}

// stored returns the example as it is stored in the namespace, to be sent again.
func (c *cluster) stored(t *testing.T, r resource, namespace string) *unstructured.Unstructured {
	t.Helper()
	example := r.example()
	kind, err := c.client.GroupVersionKindFor(example)
	if err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(kind)
	if namespace == "" && !r.everywhere {
		return out
	}
	if err := c.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "target"}, out); err != nil {
		t.Fatal(fmt.Errorf("reading the example of %s: %w", r.Resource, err))
	}
	return out.DeepCopy()
}
