// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Names in config/samples.
const (
	appNamespace    = "rekey-samples"
	serverNamespace = "rekey-samples-api"
	serverName      = "api.rekey-samples-api.svc"
	appSecret       = "orders-mtls"
	serverSecret    = "api-mtls"
	loginSecret     = "orders-db"
	adminSecret     = "orders-admin"
	policyName      = "daily"
	sampleIdentity  = "orders"
)

// The demo's settings: the same life in seconds instead of hours.
const (
	hurriedPolicy = "every-40s"
	interval      = 40 * time.Second
	overlap       = 20 * time.Second // a pod sees a new Secret within about 15 s
	lifetime      = 3 * time.Minute
	// The identity that is not renewed, so that it expires: the warnings start 0.7 x 40 s before that.
	forgottenName     = "forgotten"
	forgottenSecret   = "forgotten-mtls"
	forgottenLifetime = 2 * time.Minute
	forgottenRenewal  = 40 * time.Second
)

// samples returns config/samples with shorter times and with the address and CA of the local database; nothing else
// changes. The quickstart is left out.
func samples(source string, db *database) ([]client.Object, error) {
	files, err := filepath.Glob(filepath.Join(source, "config", "samples", "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("listing the samples: %w", err)
	}
	var objects []client.Object
	for _, file := range files {
		if filepath.Base(file) == "quickstart.yaml" {
			continue
		}
		found, err := readSample(file)
		if err != nil {
			return nil, err
		}
		objects = append(objects, found...)
	}
	for _, object := range objects {
		hurry(object, db)
	}
	return withPolicy(objects), nil
}

// withPolicy adds a policy for the server's namespace, which has none in the samples, next to the existing one: it is
// applied before the objects that refer to it.
func withPolicy(objects []client.Object) []client.Object {
	for i, object := range objects {
		if _, ok := object.(*v1alpha1.RotationPolicy); ok {
			return slices.Insert(objects, i, client.Object(policyOf(serverNamespace)))
		}
	}
	return objects
}

func readSample(file string) ([]client.Object, error) {
	stream, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening a sample: %w", err)
	}
	defer func() { _ = stream.Close() }()
	raws, err := decode(stream)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
	}
	var objects []client.Object
	for _, raw := range raws {
		object, err := typed(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}

func typed(raw *unstructured.Unstructured) (client.Object, error) {
	made, err := objectKinds.New(raw.GroupVersionKind())
	if err != nil {
		return nil, fmt.Errorf("reading a %s: %w", raw.GetKind(), err)
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(raw.Object, made, true); err != nil {
		return nil, fmt.Errorf("reading the %s %s: %w", raw.GetKind(), raw.GetName(), err)
	}
	object, ok := made.(client.Object)
	if !ok {
		return nil, fmt.Errorf("reading the %s %s: it is not an object", raw.GetKind(), raw.GetName())
	}
	return object, nil
}

// hurry shortens the times of one object of the samples.
func hurry(object client.Object, db *database) {
	switch o := object.(type) {
	case *v1alpha1.RotationPolicy:
		*o = *policyOf(o.Namespace)
	case *v1alpha1.ClientIdentity:
		if o.Spec.SecretName == appSecret { // that of a Java application keeps its times
			hurryIdentity(&o.Spec.IdentitySpec)
		}
	case *v1alpha1.ServerIdentity:
		if o.Spec.SecretName == serverSecret { // its peers keep their times
			hurryIdentity(&o.Spec.IdentitySpec)
		}
	case *v1alpha1.DatabaseCredential:
		o.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: hurriedPolicy}
	case *v1alpha1.DatabaseServer:
		o.Spec.Address = db.Address()
	case *corev1.ConfigMap:
		o.Data = map[string]string{"ca.crt": string(db.Authority.PEM)}
	case *corev1.Secret:
		if o.Name != adminSecret {
			break
		}
		o.StringData = nil
		o.Data = map[string][]byte{"host": []byte(db.Address()), "username": []byte(adminRole), "password": db.admin.Reveal()}
	}
}

func hurryIdentity(spec *v1alpha1.IdentitySpec) {
	spec.Lifetime = v1alpha1.Duration{Duration: lifetime}
	spec.RenewBefore = nil // a third of the lifetime: the policy asks for an earlier time, but not before a minute
	spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: hurriedPolicy}
}

// policyOf returns the policy of one namespace, without jitter, so that the story has quiet moments.
func policyOf(namespace string) *v1alpha1.RotationPolicy {
	var none int32
	return &v1alpha1.RotationPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: hurriedPolicy, Namespace: namespace},
		Spec: v1alpha1.RotationPolicySpec{
			Interval:      v1alpha1.Duration{Duration: interval},
			JitterPercent: &none,
			MaxAge:        &v1alpha1.Duration{Duration: 2 * time.Minute},
			Overlap:       v1alpha1.Overlap{Minimum: v1alpha1.Duration{Duration: overlap}},
			WarnBefore:    v1alpha1.Duration{Duration: 30 * time.Second},
			AlarmBefore:   v1alpha1.Duration{Duration: 10 * time.Second},
		},
	}
}

// forgotten returns an identity like the application's, to be suspended and forgotten.
func forgotten(objects []client.Object) (*v1alpha1.ClientIdentity, error) {
	for _, object := range objects {
		like, ok := object.(*v1alpha1.ClientIdentity)
		if !ok || like.Name != sampleIdentity {
			continue
		}
		made := like.DeepCopy()
		made.Name = forgottenName
		made.Spec.CommonName = forgottenName
		made.Spec.URIs = nil
		made.Spec.SecretName = forgottenSecret
		made.Spec.RotationPolicyRef = nil
		made.Spec.Lifetime = v1alpha1.Duration{Duration: forgottenLifetime}
		made.Spec.RenewBefore = &v1alpha1.Duration{Duration: forgottenRenewal}
		return made, nil
	}
	return nil, fmt.Errorf("ClientIdentity %s not found in config/samples", sampleIdentity)
}
