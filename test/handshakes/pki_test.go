// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshakes

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/handshake"
)

const day = 24 * time.Hour

// authority is a self-signed CA.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// leaf is a certificate with its key, both in PEM.
type leaf struct {
	certificate *x509.Certificate
	crt, key    []byte
	above       *authority
}

// pki holds the certificates of all peers. Their times are relative to the real time: peers have no other clock.
type pki struct {
	now time.Time

	// trusted is the authority of servers and clients. expiredTwin is it again, with the same key, as it was before it was renewed.
	// foreign is unknown to the servers. expired is an authority that servers trust for clients and that has expired.
	trusted, expiredTwin, foreign, expired *authority

	// server is what servers present. The others must not be accepted by a client: clientOnly for its usage, serverPast for its
	// time, serverOther for its name.
	server, clientOnly, serverPast, serverOther leaf
	// What clients present. ending and beginning are a day away from their end and their start.
	client, past, future, ending, beginning, underExpired, underForeign, serverOnly, revoked leaf
	// revocations is the revocation list of the trusted authority, in PEM.
	revocations []byte
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{now: time.Now().Truncate(time.Second)}
	key := newKey(t)
	p.trusted = p.authority(t, "rekey test CA", key, -500*day, 500*day)
	p.expiredTwin = p.authority(t, "rekey test CA", key, -500*day, -day)
	p.foreign = p.authority(t, "foreign CA", newKey(t), -500*day, 500*day)
	p.expired = p.authority(t, "expired CA", newKey(t), -500*day, -day)

	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	p.server = p.leaf(t, "server", p.trusted, -100*day, 100*day, server)
	p.clientOnly = p.leaf(t, "server", p.trusted, -100*day, 100*day, client)
	p.serverPast = p.leaf(t, "server", p.trusted, -30*day, -day, server)
	p.serverOther = p.leaf(t, "server", p.trusted, -100*day, 100*day, server, "other.example.internal")
	p.client = p.leaf(t, "app", p.trusted, -10*day, 100*day, client)
	p.past = p.leaf(t, "app", p.trusted, -30*day, -day, client)
	p.future = p.leaf(t, "app", p.trusted, 30*day, 60*day, client)
	p.ending = p.leaf(t, "app", p.trusted, -10*day, day, client)
	p.beginning = p.leaf(t, "app", p.trusted, day, 60*day, client)
	p.underExpired = p.leaf(t, "app", p.expired, -10*day, 100*day, client)
	p.underForeign = p.leaf(t, "app", p.foreign, -10*day, 100*day, client)
	p.serverOnly = p.leaf(t, "app", p.trusted, -10*day, 100*day, server)
	p.revoked = p.leaf(t, "app", p.trusted, -10*day, 100*day, client)
	p.revocations = p.revocationList(t, p.trusted, p.revoked)
	return p
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (p *pki) authority(t *testing.T, name string, key crypto.Signer, from, to time.Duration) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, NotBefore: p.now.Add(from), NotAfter: p.now.Add(to),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	return &authority{sign(t, template, template, key.Public(), key), key}
}

func (p *pki) leaf(t *testing.T, name string, above *authority, from, to time.Duration, usage x509.ExtKeyUsage, names ...string) leaf {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, NotBefore: p.now.Add(from), NotAfter: p.now.Add(to),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if len(names) > 0 {
		template.DNSNames, template.IPAddresses = names, nil
	}
	certificate := sign(t, template, above.certificate, key.Public(), above.key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return leaf{certificate, encode(certificate), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), above}
}

func (p *pki) revocationList(t *testing.T, by *authority, revoked leaf) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: serial(t), ThisUpdate: p.now.Add(-day), NextUpdate: p.now.Add(10 * day),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: revoked.certificate.SerialNumber, RevocationTime: p.now.Add(-day)}},
	}, by.certificate, by.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func sign(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// encode returns certificates in PEM.
func encode(certificates ...*x509.Certificate) []byte {
	var out []byte
	for _, certificate := range certificates {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return out
}

// clientAuthorities is the file with which servers verify clients.
func (p *pki) clientAuthorities() []byte { return encode(p.trusted.certificate, p.expired.certificate) }

// identity returns a leaf as rekey's client presents it.
func (l leaf) identity(t *testing.T) *handshake.Identity {
	t.Helper()
	out, err := handshake.NewIdentity(credential.Material{
		credential.KeyCertificate: credential.NewSensitive(l.crt),
		credential.KeyPrivateKey:  credential.NewSensitive(l.key),
		credential.KeyAuthority:   credential.NewSensitive(encode(l.above.certificate)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// write creates a file that the peers' account owns.
func write(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	own(t, path)
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
