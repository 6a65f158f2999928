// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// lines collects log lines.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) add(prefix, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(prefix + line + "\n")
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// canaries are the secrets in the Secrets of a namespace, as texts that must not appear anywhere else.
func canaries(t *testing.T, m *managed) map[string]string {
	t.Helper()
	var secrets corev1.SecretList
	if err := m.client.List(m.ctx, &secrets, client.InNamespace(m.namespace)); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	add := func(where string, value []byte) {
		out[where] = string(value)
		out[where+", base64"] = base64.StdEncoding.EncodeToString(value)
	}
	for _, secret := range secrets.Items {
		if key := secret.Data["tls.key"]; len(key) > 0 {
			// The second line of the PEM text: the first is always the same.
			add(secret.Name+"/tls.key", bytes.Split(key, []byte("\n"))[1])
		}
		if password := secret.Data["password"]; len(password) > 0 {
			add(secret.Name+"/password", password)
		}
	}
	return out
}

func TestNoSecretAppearsOutsideSecrets(t *testing.T) {
	logged := &lines{}
	m := startManaged(t, funcr.New(logged.add, funcr.Options{Verbosity: 10, LogCaller: funcr.All}))
	identity, credential, admin := aClientIdentity(), aCredential(), anAdminSecret()
	withKeystores := anIdentityWithKeystores(v1alpha1.FormatPKCS12, v1alpha1.FormatJKS)
	withKeystores.Name, withKeystores.Spec.SecretName = "java", "java-mtls"
	m.create(anAuthority(), identity, aPolicy(), admin, aServer(), credential, aKeystorePassword("Kuckucksuhr-4711"), withKeystores)
	m.becomes(withKeystores, v1alpha1.ConditionReady, "True/Published")
	m.becomes(identity, v1alpha1.ConditionReady, "True/Published")
	m.becomes(credential, v1alpha1.ConditionReady, "True/Published")
	known := canaries(t, m)
	// Some failures, because most text is written then.
	m.edit(withKeystores, func() { withKeystores.Spec.Keystore.PasswordSecretRef.Key = "other" })
	m.follows(withKeystores, v1alpha1.ConditionReconciling, "True/SecretInvalid")
	m.database.SetDown(true)
	m.edit(credential, func() { credential.Annotations = map[string]string{v1alpha1.AnnotationRotate: "now"} })
	m.becomes(credential, v1alpha1.ConditionRotating, "True/ServerUnreachable")
	m.database.SetDown(false)
	m.edit(credential, func() { credential.Annotations[v1alpha1.AnnotationRotate] = "once more" })
	m.until(func() bool { m.get(credential); return credential.Status.Revision > 1 }, func() string {
		return "the rotation did not continue:" + describeConditions(credential)
	})
	for where, value := range canaries(t, m) {
		known[where+", later"] = value
	}
	if len(known) < 8 {
		t.Fatalf("only %d canaries", len(known))
	}
	places := map[string]string{"the log": logged.String()}
	for _, list := range []client.ObjectList{&eventsv1.EventList{}, &v1alpha1.ClientIdentityList{}, &v1alpha1.DatabaseCredentialList{},
		&v1alpha1.DatabaseServerList{}, &v1alpha1.CertificateAuthorityList{}, &v1alpha1.RotationPolicyList{}, &corev1.ConfigMapList{}} {
		if err := m.client.List(m.ctx, list, client.InNamespace(m.namespace)); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		places[fmt.Sprintf("%T", list)] = string(text)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	places["the metrics"] = fmt.Sprint(families)
	for place, text := range places {
		if len(text) == 0 {
			t.Errorf("%s is empty: nothing was searched", place)
		}
		for where, value := range known {
			if strings.Contains(text, value) {
				t.Errorf("%s contains %s", place, where)
			}
		}
	}
}
