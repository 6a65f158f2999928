// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// changing lists the verbs with which a tenant can make one of its objects name another.
var changing = map[string]func(ctx context.Context, as client.Client, object *unstructured.Unstructured, spec any) error{
	"update": func(ctx context.Context, as client.Client, object *unstructured.Unstructured, spec any) error {
		object.Object["spec"] = spec
		return as.Update(ctx, object)
	},
	"patch": func(ctx context.Context, as client.Client, object *unstructured.Unstructured, spec any) error {
		text, err := json.Marshal(map[string]any{"spec": spec})
		if err != nil {
			return err
		}
		return as.Patch(ctx, object, client.RawPatch(types.MergePatchType, text))
	},
	"apply": func(ctx context.Context, as client.Client, object *unstructured.Unstructured, spec any) error {
		text, err := json.Marshal(map[string]any{"apiVersion": object.GetAPIVersion(), "kind": object.GetKind(),
			"metadata": map[string]any{"name": object.GetName(), "namespace": object.GetNamespace()}, "spec": spec})
		if err != nil {
			return err
		}
		return as.Patch(ctx, object, client.RawPatch(types.ApplyPatchType, text), client.FieldOwner("tenant"), client.ForceOwnership)
	},
}

// answer is what a tenant sees of the request: from the API server at once, and from rekey later.
type answer struct {
	Refused string
	sight
	// Secrets lists those in the tenant's namespace: new ones, and those that were published before.
	Secrets []string
}

// tenant is a client with no more rights than a service account of the namespace with the shipped editor roles.
func (o *observer) tenant(t *testing.T) client.Client {
	t.Helper()
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(rendered(t, "default")), 4096)
	bound := 0
	for {
		role := &rbacv1.ClusterRole{}
		if err := documents.Decode(role); err != nil {
			break
		}
		if role.Kind != "ClusterRole" || !strings.HasSuffix(role.Name, "-editor") {
			continue
		}
		bound++
		if err := o.Client.Create(t.Context(), role); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		o.put(o.asking, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: role.Name},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: o.asking, Name: "editor"}}})
	}
	if bound != 7 {
		t.Fatalf("config/ ships %d editor roles, want one for each kind", bound)
	}
	config := world.APIServer()
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + o.asking + ":editor",
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + o.asking, "system:authenticated"}}
	as, err := client.New(config, client.Options{Scheme: o.Client.Scheme(), Mapper: o.Client.RESTMapper()}) // Discovery would cost more than the test.
	if err != nil {
		t.Fatal(err)
	}
	// A role takes effect a moment after it was bound.
	for _, list := range []client.ObjectList{&v1alpha1.CertificateAuthorityList{}, &v1alpha1.ClientIdentityList{}, &v1alpha1.ServerIdentityList{},
		&v1alpha1.RotationPolicyList{}, &v1alpha1.DatabaseServerList{}, &v1alpha1.DatabaseCredentialList{}} {
		if err := poll(t.Context(), func() error { return as.List(t.Context(), list, client.InNamespace(o.asking)) }); err != nil {
			t.Fatal(err)
		}
	}
	return as
}

// secrets returns the tenant's Secrets, each by its content. It includes ledgers, to show that no step started.
func (o *observer) secrets(t *testing.T) map[string]map[string][]byte {
	t.Helper()
	var all corev1.SecretList
	if err := o.Client.List(t.Context(), &all, client.InNamespace(o.asking)); err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string][]byte{}
	for _, s := range all.Items {
		out[o.plain(s.Name)] = s.Data
	}
	return out
}

// end removes everything that would be visible in another situation.
func (o *observer) end(t *testing.T) {
	t.Helper()
	var all v1alpha1.ClusterCertificateAuthorityList
	if err := o.Client.List(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for i := range all.Items {
		if err := o.Client.Delete(t.Context(), &all.Items[i]); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
	}
}

// before returns an object that names "before" instead of "target".
func before(t *testing.T, object client.Object) client.Object {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	out, _ := reflect.TypeAssert[client.Object](reflect.New(reflect.TypeOf(object).Elem()))
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(text), `"target`, `"before`)), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// ofClusterAuthority reports whether the field names the Secret of a cluster authority.
func (c crossing) ofClusterAuthority() bool {
	return strings.HasPrefix(c.field, "ClusterCertificateAuthority ") && strings.HasSuffix(c.field, ".secretName")
}

// reachable creates, under the name "before", what the object may name, and returns what rekey has to reconcile for it.
func (o *observer) reachable(t *testing.T, c crossing, things []client.Object) []client.Object {
	t.Helper()
	if _, everywhere := things[0].(*v1alpha1.ClusterCertificateAuthority); everywhere {
		things = clusterAuthority(true)(t, o.asking)
	}
	var out []client.Object
	for _, thing := range things {
		if secret, ok := thing.(*corev1.Secret); ok && secret.Labels[v1alpha1.LabelAllow] == "" {
			continue // This one only blocks the name of the published Secret.
		}
		thing = before(t, thing)
		namespace := o.asking
		if c.ofClusterAuthority() {
			namespace = o.Namespace
		}
		o.put(namespace, thing)
		out = append(out, thing)
	}
	return out
}

// name makes the tenant name "target" with a verb, and returns the outcome. With there, another namespace has the object. A
// changed object names an object like mine before.
func name(t *testing.T, at time.Time, c crossing, mine []client.Object, verb string, there bool) answer {
	t.Helper()
	o := &observer{World: world.New(t, nil)}
	o.Clock.SetTime(at)
	o.asking, o.other = o.newNamespace("asking"), o.newNamespace("other")
	as := o.tenant(t)
	defer o.end(t)
	if there {
		o.put(o.other, c.to(t, o.other)...)
	}
	asks := c.from()
	spec := o.unstructured(t, asks[0]).Object["spec"]
	var out answer
	var was map[string]map[string][]byte
	if verb == "create" {
		o.put(o.asking, asks[1:]...)
		asks[0].SetNamespace(o.asking)
		if err := as.Create(t.Context(), asks[0]); err != nil {
			out.Refused = o.plain(err.Error())
			return out
		}
	} else {
		asks[0] = before(t, asks[0])
		o.put(o.asking, asks...)
		asks = append(asks, o.reachable(t, c, mine)...)
		o.look(t, asks)
		o.wantReady(t, asks[0])
		was = o.secrets(t)
		if err := changing[verb](t.Context(), as, o.unstructured(t, asks[0]), spec); err != nil {
			out.Refused = o.plain(err.Error())
		}
	}
	out.sight = o.look(t, asks)
	if out.Refused != "" {
		out.Requeues = nil // The Secret is as it was, and when a healthy object is reconciled again is random.
	}
	is := o.secrets(t)
	out.Secrets = slices.Sorted(maps.Keys(is))
	if verb != "create" && !cmp.Equal(was, is) {
		t.Errorf("the published Secrets changed: %q before, %q now", slices.Sorted(maps.Keys(was)), out.Secrets)
	}
	return out
}

func (o *observer) unstructured(t *testing.T, object client.Object) *unstructured.Unstructured {
	t.Helper()
	kind, err := o.Client.GroupVersionKindFor(object)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{}
	if err := json.Unmarshal(text, &out.Object); err != nil {
		t.Fatal(err)
	}
	out.SetGroupVersionKind(kind)
	return out
}

// wantReady fails if the object was not ready before it was changed: the change would then prove nothing.
func (o *observer) wantReady(t *testing.T, object client.Object) {
	t.Helper()
	o.Get(object)
	var shown struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	if err := decode(o.unstructured(t, object), &shown, nil); err != nil {
		t.Fatal(err)
	}
	if !apimeta.IsStatusConditionTrue(shown.Status.Conditions, v1alpha1.ConditionReady) {
		t.Fatalf("it was not ready before it was changed: %s", o.plain(fmt.Sprint(shown.Status.Conditions)))
	}
}

// verbsFor returns the verbs for a field: all of them, or creation and one that changes. The fields take turns.
func verbsFor(turn int) []string {
	changes := slices.Sorted(maps.Keys(changing))
	if !size.Full() {
		changes = changes[turn%len(changes):][:1]
	}
	return append([]string{"create"}, changes...)
}

// TestNamingAnotherTenantsObjectLooksLikeNamingAMissingOne makes an impersonated tenant write each field that refers to an object,
// with each verb that can write it. make crash tests all of them.
func TestNamingAnotherTenantsObjectLooksLikeNamingAMissingOne(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	turn := size.Random(t, 1).IntN(len(changing))
	for i, c := range crossings() {
		mine := c.to(t, "") // Created once, since the times of a key pair are visible.
		for _, verb := range verbsFor(turn + i) {
			t.Run(verb+" "+strings.TrimSpace(c.field+" "+c.name), func(t *testing.T) {
				absent := name(t, at, c, mine, verb, false)
				if diff := cmp.Diff(absent, name(t, at, c, mine, verb, true), cmp.AllowUnexported(answer{})); diff != "" {
					t.Errorf("visible difference between no object of that name, and one in another namespace (-absent +foreign):\n%s", diff)
				}
				if absent.Refused == "" && (absent.Status == "" || len(absent.Requests) == 0) {
					t.Errorf("no output was seen: %+v", absent)
				}
				// A tenant may not write a cluster-wide object.
				forbidden := strings.Contains(absent.Refused, "is forbidden")
				if forbidden != c.ofClusterAuthority() {
					t.Errorf("the API server answers %q", absent.Refused)
				}
			})
		}
	}
}
