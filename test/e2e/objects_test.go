// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
)

// soon limits anything that is due at once. It is long because tests share a busy machine.
const soon = time.Minute

// overlap of the policies that tests create.
const overlap = 5 * time.Second

// place is a namespace with a database server and a policy with a short overlap.
type place struct {
	t    *testing.T
	name string
}

// newPlace creates one, unless the namespace exists.
func newPlace(t *testing.T, name string) place {
	t.Helper()
	p := place{t: t, name: name}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"internal-mtls": "true"}}},
		&corev1.ConfigMap{ObjectMeta: p.meta("db-ca"), Data: map[string]string{"ca.crt": string(env.database.Authority.PEM)}},
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "db-admin", Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
			Data:       map[string][]byte{"host": []byte(env.database.Address()), "username": []byte(adminRole), "password": env.database.admin.Reveal()},
		},
		fixture.Server(func(s *v1alpha1.DatabaseServer) {
			s.ObjectMeta, s.Spec.Address, s.Spec.TLS = p.meta("db"), env.database.Address(), fixture.Verified("db-ca")
			s.Spec.AdminSecretRef.Name = "db-admin"
			fixture.Allow(s, "e2e_*", ownerRole)
		}),
		fixture.Policy(func(o *v1alpha1.RotationPolicy) {
			o.ObjectMeta, o.Spec.MaxAge, o.Spec.JitterPercent = p.meta("fast"), nil, new(int32(0))
			o.Spec.Interval, o.Spec.Overlap.Minimum = fixture.Duration(time.Hour), fixture.Duration(overlap)
			o.Spec.WarnBefore, o.Spec.AlarmBefore = fixture.Duration(time.Minute), fixture.Duration(time.Second)
		}),
	} {
		p.create(object)
	}
	return p
}

func (p place) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: p.name, Name: name}
}

func (p place) create(object client.Object) {
	p.t.Helper()
	if err := env.kube.Create(p.t.Context(), object); err != nil && !apierrors.IsAlreadyExists(err) {
		p.t.Fatal(err)
	}
}

// credential returns one with the logins e2e_<name>_a and _b and the Secret <name>-login.
func (p place) credential(name string, policy v1alpha1.DeletionPolicy) *v1alpha1.DatabaseCredential {
	p.t.Helper()
	object := fixture.Credential(name, func(c *v1alpha1.DatabaseCredential) {
		c.Namespace, c.Spec.DeletionPolicy, c.Spec.SecretName = p.name, policy, v1alpha1.ObjectName(name+"-login")
		c.Spec.ServerRef.Name, c.Spec.RotationPolicyRef.Name = "db", "fast"
		fixture.SetLogin(c, databaseName, "e2e_"+name, ownerRole)
	})
	p.create(object)
	return object
}

// identity returns one of the authority, with the Secret <name>-mtls.
func (p place) identity(name string, authority v1alpha1.AuthorityReference, policy v1alpha1.DeletionPolicy) *v1alpha1.ClientIdentity {
	p.t.Helper()
	object := fixture.ClientIdentity(name, func(i *v1alpha1.ClientIdentity) {
		i.Namespace, i.Spec.DeletionPolicy, i.Spec.AuthorityRef, i.Spec.Lifetime = p.name, policy, authority, fixture.Duration(time.Hour)
	})
	p.create(object)
	return object
}

func (p place) key(name string) client.ObjectKey {
	return client.ObjectKey{Namespace: p.name, Name: name}
}

// secret reads a Secret that must exist.
func (p place) secret(name string) *corev1.Secret {
	p.t.Helper()
	secret := &corev1.Secret{}
	if err := env.kube.Get(p.t.Context(), p.key(name), secret); err != nil {
		p.t.Fatal(err)
	}
	return secret
}

// ledger reads the ledger of a credential.
func (p place) ledger(name string) (secretstore.Ledger, error) {
	secret := &corev1.Secret{}
	if err := env.kube.Get(p.t.Context(), p.key(secretstore.LedgerName("DatabaseCredential", name)), secret); err != nil {
		return secretstore.Ledger{}, err
	}
	return secretstore.DecodeLedger(secret.Data)
}

// ready waits until the object is Ready at its newest generation, and reads it.
func ready(t *testing.T, object client.Object) {
	t.Helper()
	eventually(t, soon, "waiting for "+object.GetName(), func() error {
		if err := env.kube.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		conditions := fixture.Conditions(object)
		condition := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady)
		if condition == nil || condition.Status != metav1.ConditionTrue || condition.ObservedGeneration < object.GetGeneration() {
			return fmt.Errorf("%s is not Ready: %+v", object.GetName(), conditions)
		}
		return nil
	})
}

// annotate sets an annotation as a user does.
func annotate(t *testing.T, object client.Object, kind, annotation, value string) {
	t.Helper()
	kubectl(t, "-n", object.GetNamespace(), "annotate", "--overwrite", kind, object.GetName(), annotation+"="+value)
}

// gone waits until an object no longer exists.
func gone(t *testing.T, object client.Object, key client.ObjectKey) {
	t.Helper()
	eventually(t, soon, fmt.Sprintf("waiting until the %T %s is gone", object, key), func() error {
		err := env.kube.Get(t.Context(), key, object)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("it exists (%w)", err)
	})
}

// remove deletes an object and waits until it is gone.
func remove(t *testing.T, object client.Object) {
	t.Helper()
	key := client.ObjectKeyFromObject(object)
	if err := env.kube.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	gone(t, object, key)
}

// sameData reports whether two Secrets hold the same data, without printing it.
func sameData(t *testing.T, what string, was, is *corev1.Secret) {
	t.Helper()
	if !cmp.Equal(was.Data, is.Data) {
		t.Errorf("%s: the data of the Secret %s/%s has changed", what, is.Namespace, is.Name)
	}
}
