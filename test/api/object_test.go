// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/api/v1alpha1"
)

// The kinds, by name.
const (
	authority        = "CertificateAuthority"
	clusterAuthority = "ClusterCertificateAuthority"
	clientIdentity   = "ClientIdentity"
	serverIdentity   = "ServerIdentity"
	policy           = "RotationPolicy"
	server           = "DatabaseServer"
	databaseLogin    = "DatabaseCredential"
)

// smallest is the smallest spec that each kind accepts.
var smallest = map[string]string{
	authority:        `{managed: {commonName: Example internal CA, secretName: internal-ca}, constraints: {}}`,
	clusterAuthority: `{managed: {commonName: Example internal CA, secretName: internal-ca}, constraints: {}}`,
	clientIdentity:   `{authorityRef: {name: internal}, commonName: app, secretName: app-mtls}`,
	serverIdentity:   `{authorityRef: {name: internal}, dnsNames: [app.example.internal], secretName: app-tls}`,
	policy:           `{interval: 24h}`,
	server: `{engine: PostgreSQL, address: "orders-db.data:5432", adminSecretRef: {name: orders-admin},
  tls: {mode: VerifyFull, caRef: {name: orders-db-ca}}, allowedUsernames: ["orders_*"], postgresql: {allowedOwners: [orders_owner]}}`,
	databaseLogin: `{serverRef: {name: orders}, postgresql: {database: orders, owner: orders_owner}, username: orders_app,
  strategy: AlternatingUsers, secretName: orders-db}`,
}

// change lists the differences from the smallest spec: the value at each dotted path below spec; gone removes it.
type change map[string]any

type absent struct{}

// gone is the value of a path that is removed.
var gone = absent{}

// object returns the smallest object of its kind, changed.
func object(t *testing.T, kind, namespace string, changes change) *unstructured.Unstructured {
	t.Helper()
	spec := map[string]any{}
	if err := yaml.Unmarshal([]byte(smallest[kind]), &spec); err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	out.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	out.SetGenerateName("test-")
	if kind != clusterAuthority {
		out.SetNamespace(namespace)
	}
	apply(t, out, changes)
	return out
}

func apply(t *testing.T, to *unstructured.Unstructured, changes change) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(changes)) {
		fields := append([]string{"spec"}, strings.Split(path, ".")...)
		if changes[path] == gone {
			unstructured.RemoveNestedField(to.Object, fields...)
			continue
		}
		// Converted through YAML, so that a case may use any Go number or slice.
		var value any
		text, err := yaml.Marshal(changes[path])
		if err == nil {
			err = yaml.Unmarshal(text, &value)
		}
		if err == nil {
			err = unstructured.SetNestedField(to.Object, value, fields...)
		}
		if err != nil {
			t.Fatalf("setting %s: %v", path, err)
		}
	}
}

// typed returns a new Go object of the kind.
func typed(t *testing.T, kind string) client.Object {
	t.Helper()
	return create[client.Object](t, kind)
}

// typedList returns a new Go list of the kind.
func typedList(t *testing.T, kind string) client.ObjectList {
	t.Helper()
	return create[client.ObjectList](t, kind+"List")
}

func create[T runtime.Object](t *testing.T, kind string) T {
	t.Helper()
	made, err := scheme.New(v1alpha1.GroupVersion.WithKind(kind))
	if err != nil {
		t.Fatal(err)
	}
	return made.(T)
}

// words returns the text of a refusal, a line for each cause: the field and the message.
func words(err error) ([]string, error) {
	var status *apierrors.StatusError
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) || status.ErrStatus.Details == nil {
		return nil, fmt.Errorf("not refused as invalid: %w", err)
	}
	var out []string
	for _, cause := range status.ErrStatus.Details.Causes {
		if cause.Field == "<nil>" { // The API server adds that it stopped there.
			continue
		}
		out = append(out, cause.Field+": "+cause.Message)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
