// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/pki"
)

// withoutTLS refuses TLS to every client.
func withoutTLS(t *testing.T) string {
	t.Helper()
	return answering(t, func(conn net.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, 8)); err == nil {
			_, _ = conn.Write([]byte("N"))
			_, _ = io.Copy(io.Discard, conn)
		}
	})
}

// hourPair is a key pair with a certificate that is valid for an hour, starting at the given time.
func hourPair(t *testing.T, name string, ago time.Duration) *corev1.Secret {
	t.Helper()
	crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: name, KeyAlgorithm: "ECDSA-P256", Lifetime: time.Hour}, time.Now().Add(-ago))
	if err != nil {
		t.Fatal(err)
	}
	return allowed(name+"-ca", map[string][]byte{"tls.crt": crt, "tls.key": key.Reveal()})
}

// lose removes the key pair of an authority that rekey created.
func (l *life) lose() {
	l.t.Helper()
	l.apply(strings.ReplaceAll(keyPairAuthorityManifest("lost", "lost-ca"), "keyPair: {", "managed: {commonName: Lost, "))
	l.has("CertificateAuthority", "lost", "Serving")
	l.remove(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "lost-ca"}})
	l.has("CertificateAuthority", "lost", "AuthorityLost")
}

// unsupportedPair is a key pair on a curve that Go does not support.
func unsupportedPair(t *testing.T) *corev1.Secret {
	t.Helper()
	folder := t.TempDir()
	crt, key := filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	made, err := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1", "-nodes",
		"-subj", "/CN=Unsupported CA", "-days", "30", "-keyout", key, "-out", crt).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, made)
	}
	data := map[string][]byte{}
	for name, file := range map[string]string{"tls.crt": crt, "tls.key": key} {
		if data[name], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	return allowed("unsupported-ca", data)
}

// bulkyPair is the key pair of an intermediate below a root. Each has a certificate of 150 KiB, so that an identity's Secret has no
// room for all formats.
func bulkyPair(t *testing.T) *corev1.Secret {
	t.Helper()
	var keys [2]*ecdsa.PrivateKey
	var certificates [2]*x509.Certificate
	for i, name := range []string{"Bulky root", "Bulky intermediate"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, SubjectKeyId: []byte(name),
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
			BasicConstraintsValid: true, IsCA: true, MaxPathLen: -1, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 25, 1}, Value: bytes.Repeat([]byte{5, 0}, 75<<10)}}}
		parent, signer := template, key
		if i > 0 {
			parent, signer = certificates[0], keys[0]
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		if certificates[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		keys[i] = key
	}
	key, err := x509.MarshalPKCS8PrivateKey(keys[1])
	if err != nil {
		t.Fatal(err)
	}
	return allowed("bulky-ca", map[string][]byte{"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"tls.crt": pki.EncodeCertificates(certificates[1]), "ca.crt": pki.EncodeCertificates(certificates[0])})
}

// refuse provokes every refusal with a reason of its own, and waits until each is reported. In most of them rekey holds a
// secret that the text could quote.
func (l *life) refuse() {
	l.t.Helper()
	d := l.databases[len(l.databases)-1]
	plain := fmt.Sprintf("plain-%d", d.Version)
	open, forbidden := withoutTLS(l.t), "169.254.169.254:5432"
	other := keyPair(l.t, tenant, "untrusted")
	l.create(hourPair(l.t, "expired", 2*time.Hour), hourPair(l.t, "ending", 50*time.Minute), unsupportedPair(l.t), bulkyPair(l.t), allowed("bulky-keystore", map[string][]byte{"password": []byte("Bulky-" + rand.Text())}),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: "untrusted"}, Data: map[string]string{"ca.crt": string(other.Data["tls.crt"])}},
		adminSecret("clear-admin", "clear", d.passwords["clear"], d.Address()), adminSecret("limited-admin", "limited", d.passwords["limited"], d.Address()),
		adminSecret("fixed-admin", "fixed", d.passwords["fixed"], d.Address()), adminSecret("open-admin", "plain", "Open-"+rand.Text(), open),
		adminSecret("forbidden-admin", "plain", "Forbidden-"+rand.Text(), forbidden), adminSecret("untrusted-admin", "plain", d.passwords["plain"], d.Address()))
	change := strings.NewReplacer
	l.apply(strings.Join([]string{
		serverManifest("clear", d.Address(), "clear-admin", ""), serverManifest("limited", d.Address(), "limited-admin", ""), serverManifest("fixed", d.Address(), "fixed-admin", ""),
		serverManifest("open", open, "open-admin", ""), serverManifest("forbidden", forbidden, "forbidden-admin", ""),
		serverManifest("untrusted", d.Address(), "untrusted-admin", "ConfigMap/untrusted"), serverManifest("secretless", d.Address(), "nowhere-admin", ""),
		change("[orders_owner]", "[orders_owner, gone_owner]").Replace(serverManifest("ownerless", d.Address(), plain+"-admin", "")),
		credentialManifest("trusted", plain, "trusted_app", ""), credentialManifest("serverless", "nowhere", "serverless_app", ""),
		change("database: orders", "database: nothing").Replace(credentialManifest("nodatabase", plain, "nodatabase_app", "")),
		change("owner: orders_owner", "owner: another").Replace(credentialManifest("otherowner", plain, "otherowner_app", "")),
		change("owner: orders_owner", "owner: gone_owner").Replace(credentialManifest("ownerless", "ownerless", "ownerless_app", "")),
		credentialManifest("othername", plain, "othername", ""), credentialManifest("never", plain, "never_app", ", create: Never"),
		change("name: brisk", "name: nowhere").Replace(credentialManifest("policyless", plain, "policyless_app", "")),
		keyPairAuthorityManifest("expired", "expired-ca"), keyPairAuthorityManifest("ending", "ending-ca"), keyPairAuthorityManifest("unsupported", "unsupported-ca"), keyPairAuthorityManifest("bulky", "bulky-ca"),
		change("secretName:", "formats: [CombinedPEM, PKCS12, JKS], keystore: {passwordSecretRef: {name: bulky-keystore}}, secretName:").Replace(identityManifest("bulky", "bulky", "bulky-mtls")),
		identityManifest("nobody", "nobody", "nobody-mtls"), identityManifest("waiting", "mixed", "waiting-mtls"),
		change("commonName: outside", "commonName: outside, dnsNames: [outside.example.org]").Replace(identityManifest("outside", "own", "outside-mtls")),
		change("commonName: lasting", "commonName: lasting, lifetime: 8000h").Replace(identityManifest("lasting", "own", "lasting-mtls")),
	}, ""))
	for _, want := range [][3]string{
		{"DatabaseServer", "clear", "AuthenticationMethodInsecure"}, {"DatabaseServer", "limited", "ServerNotReady"}, {"DatabaseServer", "fixed", "ServerReadOnly"},
		{"DatabaseServer", "open", "TLSNotOffered"}, {"DatabaseServer", "forbidden", "AddressForbidden"}, {"DatabaseServer", "untrusted", "ServerCertificateInvalid"}, {"DatabaseServer", "secretless", "SecretNotFound"},
		{"DatabaseCredential", "trusted", "AuthenticationNotEnforced"}, {"DatabaseCredential", "serverless", "ServerNotFound"},
		{"DatabaseCredential", "nodatabase", "DatabaseNotFound"}, {"DatabaseCredential", "otherowner", "OwnerForbidden"}, {"DatabaseCredential", "ownerless", "OwnerNotFound"},
		{"DatabaseCredential", "othername", "UsernameForbidden"}, {"DatabaseCredential", "never", "LoginNotFound"}, {"DatabaseCredential", "policyless", "PolicyNotFound"},
		{"CertificateAuthority", "expired", "AuthorityExpired"}, {"CertificateAuthority", "unsupported", "UnsupportedAlgorithm"}, {"CertificateAuthority", "ending", "ExpiresImminently"}, {"ClientIdentity", "nobody", "AuthorityNotFound"}, {"ClientIdentity", "waiting", "AuthorityNotReady"},
		{"ClientIdentity", "bulky", "KeystoreNotWritten"}, {"ClientIdentity", "outside", "ConstraintViolated"}, {"ClientIdentity", "lasting", "LifetimeTooLong"},
	} {
		l.has(want[0], want[1], want[2])
	}
	l.lose()
}
