// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

const (
	// overlap applies to every password: pods must follow within it.
	overlap = 3 * time.Second
	// interval is the rotation interval of scheduled credentials: the shortest possible one.
	interval = 30 * time.Second
	// renewal is the time from issue to renewal of the certificate that is renewed as often as possible.
	renewal = time.Minute
	// patience bounds everything that is due immediately. Between two kills the operator lives for a second or two.
	patience = 90 * time.Second
)

// place is the namespace of a test, with an operator of its own.
type place struct {
	t               *testing.T
	name, operators string
}

func newPlace(t *testing.T, name string) place {
	t.Helper()
	p := place{t: t, name: name, operators: name + "-operator"}
	env.places = append(env.places, p)
	for _, namespace := range []string{p.name, p.operators} {
		p.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	}
	for version, database := range env.databases {
		p.create(&corev1.ConfigMap{ObjectMeta: p.meta(caOf(version)), Data: map[string]string{"ca.crt": string(database.Authority.PEM)}})
		p.create(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: adminOf(version), Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
			Data:       map[string][]byte{"host": []byte(database.Address()), "username": []byte(admin), "password": database.password.Reveal()},
		})
		p.create(p.server("postgres-"+strconv.Itoa(version), version))
	}
	p.create(p.policy("on-request", time.Hour))
	p.create(p.policy("scheduled", interval))
	p.create(p.authority("peers"))
	return p
}

func caOf(version int) string    { return "ca-" + strconv.Itoa(version) }
func adminOf(version int) string { return "admin-" + strconv.Itoa(version) }

func (p place) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: p.name, Name: name}
}

func (p place) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: p.name, Name: name}
}

// create creates an object that must not exist yet.
func (p place) create(object client.Object) {
	p.t.Helper()
	if err := env.kube.Create(p.t.Context(), object); err != nil {
		p.t.Fatal(err)
	}
}

func (p place) server(name string, version int) *v1alpha1.DatabaseServer {
	return fixture.Server(func(s *v1alpha1.DatabaseServer) {
		s.ObjectMeta, s.Spec.Address = p.meta(name), env.databases[version].Address()
		s.Spec.TLS = fixture.Verified(caOf(version))
		s.Spec.AdminSecretRef.Name = v1alpha1.ObjectName(adminOf(version))
		fixture.Allow(s, anything, owner, guests)
	})
}

func (p place) policy(name string, interval time.Duration) *v1alpha1.RotationPolicy {
	return fixture.Policy(func(o *v1alpha1.RotationPolicy) {
		o.ObjectMeta, o.Spec.MaxAge, o.Spec.JitterPercent = p.meta(name), nil, new(int32(0))
		o.Spec.Interval, o.Spec.Overlap.Minimum = fixture.Duration(interval), fixture.Duration(overlap)
		o.Spec.WarnBefore, o.Spec.AlarmBefore = fixture.Duration(2*time.Second), fixture.Duration(time.Second)
	})
}

func (p place) managed(name string) v1alpha1.AuthoritySpec {
	spec := fixture.AuthoritySpec(name + "-ca")
	spec.DeletionPolicy, spec.Managed.CommonName, spec.Managed.Lifetime = v1alpha1.DeletionDelete, "Crash "+name, fixture.Duration(8760*time.Hour)
	spec.Constraints = v1alpha1.Constraints{MaxLifetime: fixture.Duration(2 * time.Hour), CommonNames: []v1alpha1.NamePattern{"*"},
		DNSNames: []v1alpha1.DNSPattern{"*.crash.example"}, Usages: []v1alpha1.Usage{v1alpha1.UsageClientAuth, v1alpha1.UsageServerAuth}}
	return spec
}

func (p place) authority(name string) *v1alpha1.CertificateAuthority {
	return fixture.Authority(func(a *v1alpha1.CertificateAuthority) { a.ObjectMeta, a.Spec = p.meta(name), p.managed(name) })
}

// configureIdentity sets the fields that both kinds have in common.
func configureIdentity(name string, spec *v1alpha1.IdentitySpec, kind v1alpha1.AuthorityKind, authority string) {
	spec.DeletionPolicy, spec.Lifetime, spec.CommonName = v1alpha1.DeletionDelete, fixture.Duration(time.Hour), name
	spec.AuthorityRef = v1alpha1.AuthorityReference{Kind: kind, Name: v1alpha1.ObjectName(authority)}
	spec.DNSNames = []v1alpha1.DNSName{v1alpha1.DNSName(name + ".crash.example")}
}

func (p place) clientIdentity(name string, kind v1alpha1.AuthorityKind, authority string) *v1alpha1.ClientIdentity {
	return fixture.ClientIdentity(name, func(i *v1alpha1.ClientIdentity) {
		i.Namespace = p.name
		configureIdentity(name, &i.Spec.IdentitySpec, kind, authority)
	})
}

func (p place) serverIdentity(name string, kind v1alpha1.AuthorityKind, authority string) *v1alpha1.ServerIdentity {
	return fixture.ServerIdentity(name, func(i *v1alpha1.ServerIdentity) {
		i.Namespace = p.name
		configureIdentity(name, &i.Spec.IdentitySpec, kind, authority)
	})
}

// credential returns a credential with the logins crash_<place>_<name>_a and _b and the Secret <name>-login.
func (p place) credential(name, server, policy string) *v1alpha1.DatabaseCredential {
	return fixture.Credential(name, func(c *v1alpha1.DatabaseCredential) {
		c.Namespace, c.Spec.DeletionPolicy = p.name, v1alpha1.DeletionDelete
		c.Spec.ServerRef.Name, c.Spec.RotationPolicyRef.Name = v1alpha1.ObjectName(server), v1alpha1.ObjectName(policy)
		fixture.SetLogin(c, databaseName, p.userOf(name), owner)
		c.Spec.SecretName = v1alpha1.ObjectName(name + "-login")
	})
}

// userOf returns the username of a credential. Places share the databases, so each has its own names.
func (p place) userOf(credential string) string { return "crash_" + p.name + "_" + credential }

// merge changes an object like kubectl patch.
func merge(ctx context.Context, object client.Object, patch map[string]any) error {
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	// The response is not written into the object, because other goroutines read it.
	target, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return errors.New("not an object")
	}
	return env.kube.Patch(ctx, target, client.RawPatch(types.MergePatchType, text))
}

func annotation(name, value string) map[string]any {
	return map[string]any{"metadata": map[string]any{"annotations": map[string]any{name: value}}}
}

// ready returns nil if the object is Ready at its latest generation.
func ready(ctx context.Context, object client.Object) error {
	gvk, err := apiutil.GVKForObject(object, env.kube.Scheme())
	if err != nil {
		return err
	}
	now := &unstructured.Unstructured{}
	now.SetGroupVersionKind(gvk)
	if err := env.kube.Get(ctx, client.ObjectKeyFromObject(object), now); err != nil {
		return err
	}
	var status struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	text, err := json.Marshal(now.Object)
	if err == nil {
		err = json.Unmarshal(text, &status)
	}
	if err != nil {
		return err
	}
	condition := meta.FindStatusCondition(status.Status.Conditions, v1alpha1.ConditionReady)
	if condition == nil || condition.Status != metav1.ConditionTrue || condition.ObservedGeneration < now.GetGeneration() {
		return fmt.Errorf("%s %s is not Ready: %+v", gvk.Kind, now.GetName(), status.Status.Conditions)
	}
	return nil
}

// gone returns nil if the object no longer exists.
func gone(ctx context.Context, object client.Object) error {
	now, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		return errors.New("not an object")
	}
	err := env.kube.Get(ctx, client.ObjectKeyFromObject(object), now)
	switch {
	case apierrors.IsNotFound(err), err == nil && now.GetUID() != object.GetUID() && object.GetUID() != "":
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%T %s still exists", object, object.GetName())
}
