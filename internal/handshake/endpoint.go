// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/pki"
)

// Protocol is what an endpoint speaks.
type Protocol string

// The protocols. Each has a first exchange after the handshake, which shows whether the server accepted the client.
const (
	// TLS is TLS with an unknown protocol inside. After the handshake, rekey sends nothing and waits a moment: if the server sends
	// data or stays silent, it has accepted the client.
	TLS Protocol = "TLS"
	// HTTPS is HTTP/1.1 over TLS: GET /.
	HTTPS Protocol = "HTTPS"
	// PostgreSQL is PostgreSQL's protocol, which starts in plain text. rekey starts a session as the common name of the client's
	// certificate, and ends it at the first answer.
	PostgreSQL Protocol = "PostgreSQL"
	// MySQL is the protocol of MySQL and MariaDB, which starts in plain text. rekey logs in with a made-up name and without a
	// password: a handshake without a login counts toward max_connect_errors.
	MySQL Protocol = "MySQL"
)

// Protocols returns all protocols.
func Protocols() []Protocol { return []Protocol{TLS, HTTPS, PostgreSQL, MySQL} }

// Identity is a client certificate with its key. It cannot be printed.
type Identity struct {
	// Chain is the certificate and its intermediates, leaf first. Anchors are the trust anchors above it, as its user has them.
	Chain, Anchors []*x509.Certificate

	key crypto.Signer
}

// NewIdentity reads tls.crt, tls.key and ca.crt. Only damage is an error, and a key of another certificate: an identity that no server
// accepts can be dialed with. The error shows nothing of the key.
func NewIdentity(material credential.Material) (*Identity, error) {
	chain, err := pki.ParseCertificates(material[credential.KeyCertificate].Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s %w", credential.KeyCertificate, err)
	}
	key, err := pki.ParseKey(material[credential.KeyPrivateKey].Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", credential.KeyPrivateKey, err)
	}
	if public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%s is not the key of %s in %s: no server can accept them together", credential.KeyPrivateKey, pki.Describe(chain[0]), credential.KeyCertificate)
	}
	out := &Identity{Chain: chain, key: key}
	if anchors := material[credential.KeyAuthority]; !anchors.IsEmpty() {
		bundle, err := pki.ParseBundle(anchors.Reveal())
		if err != nil {
			return nil, fmt.Errorf("%s %w", credential.KeyAuthority, err)
		}
		out.Anchors = bundle.Certificates
	}
	return out, nil
}

// Format implements fmt.Formatter, so that no verb shows the key.
func (i Identity) Format(f fmt.State, _ rune) {
	if len(i.Chain) == 0 {
		_, _ = io.WriteString(f, "no identity")
		return
	}
	_, _ = io.WriteString(f, pki.Describe(i.Chain[0]))
}

// pair returns the identity as crypto/tls wants it.
func (i Identity) pair() *tls.Certificate {
	out := &tls.Certificate{PrivateKey: i.key, Leaf: i.Chain[0]}
	for _, certificate := range i.Chain {
		out.Certificate = append(out.Certificate, certificate.Raw)
	}
	return out
}

// Endpoint is what to dial, and as which client.
type Endpoint struct {
	// Address is host:port. The host is a name or an IP address.
	Address string
	// ServerName is the name that the server's certificate must have; empty means the host of Address.
	ServerName string
	Protocol   Protocol
	// Roots are the trust anchors for the server's certificate.
	Roots []*x509.Certificate
	// Identity is the client's certificate; nil for none.
	Identity *Identity
	// MaxVersion is the newest version of TLS to offer, tls.VersionTLS12 or tls.VersionTLS13; 0 means the newest. TLS 1.2 is always
	// offered.
	MaxVersion uint16
	// Time is the time at which certificates are judged: now, by a clock that the caller trusts.
	Time time.Time
}

// Validate returns an error that names the field and the fix if the endpoint cannot be dialed.
func (e Endpoint) Validate() error {
	host, port, err := net.SplitHostPort(e.Address)
	if number, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || number == 0 || host == "" {
		return fmt.Errorf("address %q: write host:port, with a port from 1 to 65535", e.Address)
	}
	for _, named := range [][2]string{{"address", host}, {"serverName", e.ServerName}} {
		field, name := named[0], named[1]
		if name == "" {
			continue
		}
		if _, err := netip.ParseAddr(name); err != nil && (strings.HasPrefix(name, "*") || pki.CheckDNSName(strings.TrimSuffix(name, ".")) != nil) {
			return fmt.Errorf("%s %q: write a DNS name or an IP address", field, name)
		}
	}
	switch e.Protocol {
	case TLS, HTTPS, PostgreSQL, MySQL:
	default:
		return fmt.Errorf("protocol %q: write one of %v", e.Protocol, Protocols())
	}
	switch {
	case len(e.Roots) == 0:
		return errors.New("the trust anchors for the server are missing: name a CA certificate")
	case e.Identity != nil && (len(e.Identity.Chain) == 0 || e.Identity.key == nil):
		return errors.New("the identity is empty: create it with NewIdentity")
	case e.MaxVersion != 0 && e.MaxVersion != tls.VersionTLS12 && e.MaxVersion != tls.VersionTLS13:
		return fmt.Errorf("maxVersion %#x: use TLS 1.2 or TLS 1.3", e.MaxVersion)
	case e.Time.IsZero():
		return errors.New("time: it is missing")
	}
	return nil
}

// serverName returns the name that the server's certificate must have.
func (e Endpoint) serverName() string {
	if e.ServerName != "" {
		return strings.TrimSuffix(e.ServerName, ".")
	}
	host, _, err := net.SplitHostPort(e.Address)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(host, ".")
}
