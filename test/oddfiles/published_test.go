// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/test/size"
)

// authorities are the key pairs below which identities are published: managed ones of each algorithm, and those of a user.
func authorities(t *testing.T, ring *Keyring) map[string]Case {
	t.Helper()
	out := map[string]Case{}
	for _, algorithm := range []issuer.KeyAlgorithm{issuer.ECDSAP256, issuer.ECDSAP384, issuer.RSA2048, issuer.RSA3072, issuer.Ed25519} {
		crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: "Example internal CA", KeyAlgorithm: algorithm, Lifetime: 8760 * time.Hour}, At)
		if err != nil {
			t.Fatal(err)
		}
		out["managed, "+string(algorithm)] = Case{Certificate: crt, Key: key.Reveal()}
	}
	for _, algorithm := range []Algorithm{P521, RSA, RSAPSSSign, Ed25519} {
		p := base(plain)
		p.signerKey, p.aboveKey = algorithm, P384
		out["of a user, an intermediate of "+string(algorithm)] = build(t, ring, p)
	}
	for _, t2 := range topologies() {
		if strings.Contains(t2.name, "expired cross certificate, and trusted itself") || t2.name == "five intermediates" {
			out["brought, "+t2.name] = build(t, ring, base(t2))
		}
	}
	return out
}

// identity is the content of the Secret of a client and server.
type identity struct{ chain, key, anchors []byte }

// identityOf publishes an identity of one key algorithm for both usages, without a SPIFFE ID.
func identityOf(t *testing.T, c Case, algorithm pki.KeyAlgorithm) identity {
	t.Helper()
	web, err := url.Parse("https://example.internal/app")
	if err != nil {
		t.Fatal(err)
	}
	names := pki.Names{CommonName: LeafCommonName, DNSNames: []string{LeafDNSName}, IPAddresses: []net.IP{net.ParseIP(LeafIP)}, URIs: []*url.URL{web}}
	usages := []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth}
	authority, err := ca.KeyPair{}.Open(t.Context(), issuer.Config{Settings: []byte(`{"secretName":"ca"}`), Secret: secretOf(c), Now: At, Constraints: issuer.Constraints{
		MaxLifetime: time.Hour, CommonNames: []string{"*"}, DNSNames: []string{"*.example.internal"}, IPRanges: []string{"10.0.0.0/8"},
		URIs: []string{"https://example.internal/*"}, Usages: usages,
	}})
	if err != nil {
		t.Fatal(err)
	}
	key := issuertest.Key(t, algorithm)
	csr, err := pki.NewRequest(key, names)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := authority.Issue(t.Context(), issuer.Request{ID: "identity/1", CSR: csr, Names: issuer.Names(names), Usages: usages, Lifetime: time.Hour, Now: At})
	if err != nil {
		t.Fatal(err)
	}
	candidate := pki.Candidate{
		Material: credential.Material{
			credential.KeyPrivateKey: key, credential.KeyCertificate: credential.NewSensitive(chain.Certificates),
			credential.KeyAuthority: credential.NewSensitive(chain.Authorities),
		},
		Identity: pki.Identity{Names: names, Usages: []pki.Usage{pki.ClientAuth, pki.ServerAuth}, KeyAlgorithm: algorithm, Lifetime: time.Hour, Habits: pki.Habits{Backdate: pki.Backdate}},
		Now:      At,
	}
	if err := pki.Lint(t.Context(), candidate); err != nil {
		t.Fatal(err)
	}
	return identity{chain: chain.Certificates, key: key.Reveal(), anchors: chain.Authorities}
}

func versionName(version uint16) string {
	return map[uint16]string{tls.VersionTLS12: "TLSv1.2", tls.VersionTLS13: "TLSv1.3"}[version]
}

// algorithmsFor returns the algorithms of an authority's identities: all of them in full size, otherwise two. The authorities take
// turns, so that a run has each algorithm.
func algorithmsFor(turn int) []pki.KeyAlgorithm {
	all := pki.KeyAlgorithms()
	if size.Full() {
		return all
	}
	return []pki.KeyAlgorithm{all[turn%len(all)], all[(turn+len(all)/2)%len(all)]}
}

// Real clients and servers use what is published for every key algorithm below every form of authority: Java with Java, and
// a client of OpenSSL with a server of Go, both authenticated, with TLS 1.2 and 1.3.
func TestJavaOpenSSLAndGoAcceptPublishedIdentities(t *testing.T) {
	ring, java := NewKeyring(t), StartJava(t)
	shaken := 0
	all := authorities(t, ring)
	turn := size.RandomFrom(t, 1).IntN(len(pki.KeyAlgorithms()))
	for i, name := range slices.Sorted(maps.Keys(all)) {
		c := all[name]
		for _, algorithm := range algorithmsFor(turn + i) {
			t.Run(name+"; "+string(algorithm), func(t *testing.T) {
				own := identityOf(t, c, algorithm)
				for _, usage := range []Usage{Server, Client} {
					q := Question{Leaf: own.chain, Untrusted: own.chain, Trusted: own.anchors, Usage: usage, At: At, Strict: true}
					for judge, ask := range map[string]Judge{"Go": Go, "OpenSSL": OpenSSL, "Java": java.Path} {
						if err := ask(t, q); err != nil {
							t.Errorf("%s refuses it as %s: %v", judge, usage, err)
						}
					}
				}
				for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
					if err := java.Talk(t, At, versionName(version), own.chain, own.key, own.anchors, LeafDNSName); err != nil {
						t.Errorf("Java with Java, %s: %v", versionName(version), err)
					}
					shaken++
				}
				version := []uint16{tls.VersionTLS12, tls.VersionTLS13}[shaken/2%2]
				if err := opensslClient(t, own, version, LeafDNSName); err != nil {
					t.Errorf("a client of OpenSSL with a server of Go, %s: %v", versionName(version), err)
				}
			})
		}
	}
	t.Logf("%d identities, %d handshakes of Java with Java, as many of OpenSSL with Go as identities", shaken/2, shaken)
}

// opensslClient makes openssl s_client read a line from a server of Go; both authenticate.
func opensslClient(t *testing.T, own identity, version uint16, host string) error {
	t.Helper()
	folder := t.TempDir()
	for name, data := range map[string][]byte{"chain": own.chain, "key": own.key, "ca": own.anchors} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := tls.X509KeyPair(own.chain, own.key)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(own.anchors)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		MinVersion: version, MaxVersion: version, Time: func() time.Time { return At },
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		_, err = io.WriteString(conn, "welcome\n")
		served <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, "openssl", "s_client", "-connect", listener.Addr().String(), "-servername", host, "-verify_hostname", host,
		"-CAfile", "ca", "-no-CApath", "-no-CAstore", "-cert", "chain", "-cert_chain", "chain", "-key", "key", "-verify_return_error", "-x509_strict",
		"-attime", fmt.Sprint(At.Unix()), "-quiet")
	command.Dir = folder
	output, err := command.CombinedOutput()
	if err := <-served; err != nil {
		return fmt.Errorf("the server: %w; the client: %s", err, output)
	}
	if !strings.Contains(string(output), "welcome") {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}

// A control: the real clients refuse what is not meant for them.
func TestRealClientsRefuseInvalidCertificates(t *testing.T) {
	ring, java := NewKeyring(t), StartJava(t)
	own := identityOf(t, build(t, ring, base(plain)), pki.ECDSAP256)
	foreign := base(plain)
	foreign.aboveKey = P384
	other := identityOf(t, build(t, ring, foreign), pki.ECDSAP384)
	for name, tc := range map[string]struct {
		own  identity
		host string
		want bool
	}{
		"as it is":     {own, LeafDNSName, true},
		"another name": {own, "db.example.internal", false},
		"other roots":  {identity{own.chain, own.key, other.anchors}, LeafDNSName, false},
		"another key":  {identity{own.chain, other.key, own.anchors}, LeafDNSName, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if err := java.Talk(t, At, versionName(version), tc.own.chain, tc.own.key, tc.own.anchors, tc.host); (err == nil) != tc.want {
				t.Errorf("%s: Java answers %v", name, err)
			}
			if err := opensslClient(t, tc.own, version, tc.host); (err == nil) != tc.want {
				t.Errorf("%s: OpenSSL answers %v", name, err)
			}
		}
	}
	if err := java.Talk(t, At.AddDate(5, 0, 0), "TLSv1.3", own.chain, own.key, own.anchors, LeafDNSName); err == nil {
		t.Error("Java accepts an expired certificate")
	}
}
