// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Namespaces of config/samples.
const (
	appNamespace    = "rekey-samples"
	serverNamespace = "rekey-samples-api"
)

var samplePEM = regexp.MustCompile(`(?s)( +)-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\n`)

// samples copies config/samples into a folder. It replaces the two examples in them, the admin's password and the CA
// certificates of the database, with real values. Everything else is as shipped.
func samples(t *testing.T) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "samples")
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(env.root, "config", "samples"))); err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(folder, "40-databaseserver.yaml")
	text, err := os.ReadFile(server)
	if err != nil {
		t.Fatal(err)
	}
	const password = "  password: change-me "
	if strings.Count(string(text), password) != 1 || len(samplePEM.FindAllIndex(text, -1)) != 1 {
		t.Fatalf("%s no longer has one password change-me and one certificate", filepath.Base(server))
	}
	changed := strings.Replace(string(text), password, "  password: "+string(env.database.admin.Reveal())+" ", 1)
	changed = samplePEM.ReplaceAllStringFunc(changed, func(was string) string {
		indent := samplePEM.FindStringSubmatch(was)[1]
		return indent + strings.ReplaceAll(strings.TrimSpace(string(env.database.Authority.PEM)), "\n", "\n"+indent) + "\n"
	})
	if err := os.WriteFile(server, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return folder
}

// nameDatabase creates the Service with the database's name in the samples; it leads to our server.
func nameDatabase(t *testing.T) {
	t.Helper()
	name, namespace, _ := strings.Cut(databaseHost, ".")
	place{t: t, name: namespace}.create(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
			{Name: "postgresql", Port: 5432, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(int32(env.database.Port))},
		}},
	})
	place{t: t, name: namespace}.create(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{env.database.Host}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new("postgresql"), Port: new(int32(env.database.Port)), Protocol: new(corev1.ProtocolTCP)}},
	})
}

// workload is config/samples/workload with our application in place of psql. The rest, above all how it mounts the Secrets,
// is as shipped.
func workload(t *testing.T, folder, server string) string {
	t.Helper()
	path := filepath.Join(folder, "workload", "deployment.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?s)        image: postgres:18 [^\n]*\n        command: .*?\n        env:\n`)
	if len(command.FindAllIndex(text, -1)) != 1 {
		t.Fatal("config/samples/workload/deployment.yaml no longer has an image, a command and env in this order")
	}
	ours := fmt.Sprintf(`        image: %s
        imagePullPolicy: Never
        command: [/app]
        args: [--identity=/var/run/secrets/orders-mtls, --database=/var/run/secrets/orders-db, "--server=%s:8443", --server-name=%s]
        env:
`, appImage, server, server)
	path = filepath.Join(t.TempDir(), "deployment.yaml")
	if err := os.WriteFile(path, []byte(command.ReplaceAllLiteralString(string(text), ours)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
