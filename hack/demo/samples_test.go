// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
)

func TestTheSamplesHaveEverythingThatTheStoryNeeds(t *testing.T) {
	authority, err := pgtest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	db := &database{Server: &pgtest.Server{Host: "192.0.2.1", Port: 5432, Authority: authority}, admin: credential.SensitiveString("canary")}
	source, err := findSource()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := samples(source, db)
	if err != nil {
		t.Fatal(err)
	}
	secrets := map[client.ObjectKey]bool{}
	for _, object := range objects {
		switch o := object.(type) {
		case *v1alpha1.ClientIdentity:
			secrets[client.ObjectKey{Namespace: o.Namespace, Name: string(o.Spec.SecretName)}] = o.Spec.Lifetime.Duration == lifetime
		case *v1alpha1.ServerIdentity:
			secrets[client.ObjectKey{Namespace: o.Namespace, Name: string(o.Spec.SecretName)}] = o.Spec.Lifetime.Duration == lifetime
		case *v1alpha1.DatabaseCredential:
			secrets[client.ObjectKey{Namespace: o.Namespace, Name: string(o.Spec.SecretName)}] = o.Spec.RotationPolicyRef.Name == hurriedPolicy
		case *v1alpha1.DatabaseServer:
			if o.Spec.Address != "192.0.2.1:5432" {
				t.Errorf("the server is at %s, want the address of the demo's PostgreSQL", o.Spec.Address)
			}
		}
	}
	lost, err := forgotten(objects)
	if err != nil {
		t.Fatal(err)
	}
	secrets[client.ObjectKey{Namespace: lost.Namespace, Name: string(lost.Spec.SecretName)}] = lost.Spec.Lifetime.Duration == forgottenLifetime
	for key := range tracked {
		if !secrets[key] {
			t.Errorf("no sample publishes the Secret %s with short times", key)
		}
	}
}
