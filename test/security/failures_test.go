// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// answering listens, and runs talk with each client until one of them ends. It returns its address.
func answering(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				talk(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// hung never answers.
func hung(t *testing.T) string {
	t.Helper()
	return answering(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
}

// invalidKey looks like a private key in PEM, and is not one.
func invalidKey() []byte {
	noise := make([]byte, 120)
	_, _ = rand.Read(noise)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: noise})
}

func allowed(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: name, Labels: map[string]string{v1alpha1.LabelAllow: "true"}}, Data: data}
}

func keyPairAuthorityManifest(name, secret string) string {
	return fmt.Sprintf(`---
apiVersion: rekey.dev/v1alpha1
kind: CertificateAuthority
metadata: {name: %s, namespace: %s}
spec: {keyPair: {secretName: %s}, constraints: {commonNames: ["*"]}}
`, name, tenant, secret)
}

func identityManifest(name, authority, secret string) string {
	return fmt.Sprintf(`---
apiVersion: rekey.dev/v1alpha1
kind: ClientIdentity
metadata: {name: %s, namespace: %s}
spec: {authorityRef: {name: %s}, commonName: %s, secretName: %s}
`, name, tenant, authority, name, secret)
}

// causeFailures breaks specs, sources and servers, all at once, and waits until each failure is reported.
func (l *life) causeFailures() {
	l.t.Helper()
	d := l.databases[len(l.databases)-1]
	plain := fmt.Sprintf("plain-%d", d.Version)
	nobody := freePort(l.t)
	silent := hung(l.t)
	mixed, other := keyPair(l.t, tenant, "mixed-ca"), keyPair(l.t, tenant, "other-ca")
	mixed.Data["tls.key"] = other.Data["tls.key"]
	locked := adminSecret("unlabeled-admin", "plain", "Unlabeled-"+rand.Text(), d.Address())
	locked.Labels = nil
	l.create(mixed, locked,
		adminSecret("wrong-admin", "plain", "Wrong-"+rand.Text(), d.Address()),
		adminSecret("odd-admin", "pla\"in'\n\\", "Odd-'\"\\\n"+rand.Text(), d.Address()),
		adminSecret("long-admin", "plain", "Long-"+rand.Text()+strings.Repeat("x", 65<<10), d.Address()),
		adminSecret("nobody-admin", "plain", "Nobody-"+rand.Text(), nobody), adminSecret("silent-admin", "plain", "Silent-"+rand.Text(), silent),
		adminSecret("elsewhere-admin", "plain", "Elsewhere-"+rand.Text(), "db.elsewhere:5432"),
		allowed("key-as-ca", map[string][]byte{"ca.crt": invalidKey()}), allowed("broken-ca", map[string][]byte{"tls.crt": other.Data["tls.crt"], "tls.key": invalidKey()}),
		allowed("halved-ca", map[string][]byte{"tls.crt": other.Data["tls.crt"], "tls.key": other.Data["tls.key"][:len(other.Data["tls.key"])/2]}),
		allowed("swapped-ca", map[string][]byte{"tls.crt": other.Data["tls.key"], "tls.key": other.Data["tls.crt"]}),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "foreign"}, Data: map[string][]byte{"password": []byte("Foreign-" + rand.Text())}},
	)
	l.apply(strings.Join([]string{
		serverManifest("wrong", d.Address(), "wrong-admin", ""), serverManifest("odd", d.Address(), "odd-admin", ""), serverManifest("long", d.Address(), "long-admin", ""),
		serverManifest("nobody", nobody, "nobody-admin", ""), serverManifest("silent", silent, "silent-admin", ""),
		serverManifest("elsewhere", d.Address(), "elsewhere-admin", ""), serverManifest("unlabeled", d.Address(), "unlabeled-admin", ""),
		serverManifest("key-as-ca", d.Address(), plain+"-admin", "Secret/key-as-ca"),
		credentialManifest("wrong", "wrong", "wrong_app", ""), credentialManifest("silent", "silent", "silent_app", ""),
		credentialManifest("taken", plain, "taken_app", ""), credentialManifest("refused", plain, "refused_app", ""),
		credentialManifest("foreign", plain, "foreign_app", ""), identityManifest("foreign", "own", "foreign"),
		keyPairAuthorityManifest("mixed", "mixed-ca"), keyPairAuthorityManifest("broken", "broken-ca"), keyPairAuthorityManifest("halved", "halved-ca"), keyPairAuthorityManifest("swapped", "swapped-ca"),
	}, ""))
	l.create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "foreign-db"}, Data: map[string][]byte{"password": []byte("Foreign-" + rand.Text())}})
	for name, reason := range map[string]string{
		"wrong": "AdminRejected", "odd": "AdminRejected", "long": "SecretInvalid", "nobody": "ServerUnreachable", "silent": "ServerUnreachable",
		"elsewhere": "HostMismatch", "unlabeled": "SecretNotAllowed", "key-as-ca": "SecretInvalid", fmt.Sprintf("weak-%d", d.Version): "PrivilegeMissing",
	} {
		l.has("DatabaseServer", name, reason)
	}
	for name, reason := range map[string]string{"wrong": "AdminRejected", "silent": "ServerUnreachable", "taken": "LoginExists", "refused": "LoginForbidden"} {
		l.has("DatabaseCredential", name, reason)
	}
	for _, name := range []string{"mixed", "broken", "halved", "swapped"} {
		l.has("CertificateAuthority", name, "AuthorityInvalid")
	}
	l.has("ClientIdentity", "foreign", "SecretConflict")
	l.failStatements()
}

// failStatements makes the statement that holds a verifier fail, for every admin of every server.
func (l *life) failStatements() {
	l.t.Helper()
	for _, d := range l.databases {
		for _, admin := range admins {
			for _, slot := range []string{"_a", "_b"} {
				defer d.lock(admin + "_app" + slot)()
			}
		}
	}
	for _, name := range l.credentials() {
		l.annotate(credentialNamed(name), v1alpha1.AnnotationRotate, "while it is locked")
	}
	for _, name := range l.credentials() {
		l.has("DatabaseCredential", name, "LockTimeout")
	}
}

// quoting refuses Secrets and quotes them in its answer, as a careless webhook may. It refuses statuses without a quote.
const quoting = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: quoting}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [secrets]}
  matchConditions:
  - {name: ours, expression: "object.metadata.name.contains('quoted')"}
  validations:
  - expression: "false"
    messageExpression: "'policy-quoting refuses ' + object.data.map(k, k + '=' + string(object.data[k])).join(' ').replace('\\n', ' ')"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: quoting}
spec: {policyName: quoting, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: silencing}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [rekey.dev], apiVersions: ["*"], operations: [UPDATE], resources: ["*/status"]}
  matchConditions:
  - {name: ours, expression: "object.metadata.name == 'unreported'"}
  validations:
  - {expression: "false", message: policy-silencing refuses it}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: silencing}
spec: {policyName: silencing, validationActions: [Deny]}
`

// failWrites makes the API server refuse what the operator writes: Secrets, which it quotes, and statuses.
func (l *life) failWrites() {
	l.t.Helper()
	l.apply(quoting)
	// A new policy takes effect after a moment.
	l.until("waiting for the policy that refuses", func() error {
		probe := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, GenerateName: "quoted-"}, Data: map[string][]byte{"version": []byte("probe-of-the-policy")}}
		err := l.client.Create(l.t.Context(), probe, client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte("probe-of-the-policy"))) {
			return fmt.Errorf("it does not quote yet: %w", err)
		}
		return nil
	})
	plain := l.credentials()[0]
	l.apply(credentialManifest("quoted", plain, "quoted_app", "") + identityManifest("quoted", "own", "quoted-mtls") +
		identityManifest("unreported", "own", "unreported-mtls") + credentialManifest("unreported", plain, "unreported_app", ""))
	l.has("DatabaseCredential", "quoted", "AdmissionDenied")
	l.has("ClientIdentity", "quoted", "AdmissionDenied")
	l.until("waiting for statuses to be refused", func() error {
		for _, r := range l.requests() {
			if r.User.Username == operatorAccount && r.ObjectRef.Name == "unreported" && r.ObjectRef.Subresource == "status" && strings.Contains(r.ResponseStatus.Message, "policy-silencing") {
				return nil
			}
		}
		return fmt.Errorf("none was")
	})
	if l.folder == "default" {
		l.terminate()
	}
}

// terminate deletes the namespace of an identity that has a Secret to recreate.
func (l *life) terminate() {
	l.t.Helper()
	l.namespace("ending", nil)
	l.apply(strings.ReplaceAll(strings.ReplaceAll(authorities, "namespace: web", "namespace: ending"), "kind: ClusterCertificateAuthority, name: internal", "name: own"))
	l.has("ClientIdentity", "ending/own-client", "Published")
	l.remove(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ending"}})
	l.remove(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ending", Name: "own-mtls"}})
	l.has("ClientIdentity", "ending/own-client", "APIServerFailed")
}

// tamper edits ledgers and published Secrets by hand.
func (l *life) tamper() {
	l.t.Helper()
	names := l.credentials()
	garbage := "Garbage-" + rand.Text()
	l.ledger(names[1], func(s *corev1.Secret) {
		s.Data["current"] = []byte(`{"seq": "` + garbage + `", "material": {"password": "` + garbage + `"}}`)
	})
	l.has("DatabaseCredential", names[1], "LedgerInvalid")
	// A ledger that names a login which the spec does not derive is compared, and never obeyed.
	l.ledger(names[2], func(s *corev1.Secret) {
		var record map[string]any
		if err := json.Unmarshal(s.Data["current"], &record); err != nil {
			l.t.Fatal(err)
		}
		encode := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
		record["material"] = map[string]string{"username": encode("postgres"), "password": encode("Smuggled-" + rand.Text())}
		s.Data["current"], _ = json.Marshal(record)
	})
	l.has("DatabaseCredential", names[2], "LedgerInvalid")
	// The ledger is deleted, and the published password cannot be one that rekey generated.
	published := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: names[1] + "-db"}}
	l.edit(published, func() { published.Data["password"] = []byte("By-hand-\u00e9\n" + rand.Text()) })
	for _, name := range []string{names[1], names[2]} {
		secret := l.findLedger(name)
		l.remove(secret)
	}
	for _, name := range []string{names[1], names[2]} {
		l.has("DatabaseCredential", name, "Published")
	}
	certificate := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "own-mtls"}}
	l.edit(certificate, func() { certificate.Data["tls.key"] = invalidKey() })
}

func (l *life) findLedger(name string) *corev1.Secret {
	l.t.Helper()
	var all corev1.SecretList
	if err := l.client.List(l.t.Context(), &all, client.InNamespace(tenant)); err != nil {
		l.t.Fatal(err)
	}
	for i := range all.Items {
		if s := &all.Items[i]; s.Type == v1alpha1.SecretTypeLedger && s.Annotations[v1alpha1.AnnotationOwner] == "DatabaseCredential/"+name {
			return s
		}
	}
	l.t.Fatalf("DatabaseCredential %s has no ledger", name)
	return nil
}

func (l *life) ledger(name string, change func(*corev1.Secret)) {
	l.t.Helper()
	secret := l.findLedger(name)
	l.edit(secret, func() { change(secret) })
}
