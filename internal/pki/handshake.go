// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/rekey/rekey/internal/cache"
	"github.com/rekey/rekey/internal/credential"
)

const (
	// handshakeTimeout limits one handshake in memory, which takes milliseconds.
	handshakeTimeout = 10 * time.Second
	// peerName is the name of rekey's own side of the handshake, which exists only in memory.
	peerName = "peer.rekey.invalid"
)

// lintHandshakes uses the candidate in every role that its usages name. It returns the chains that the peers verified, or
// none if a peer verified none.
func lintHandshakes(ctx context.Context, secret *TLSSecret, c Candidate) (chains [][]*x509.Certificate, err error) {
	other, err := peer()
	if err != nil {
		return nil, fmt.Errorf("creating the other side of the handshake: %w", err)
	}
	var found findings
	versions := []uint16{tls.VersionTLS13, tls.VersionTLS12}
	pair, shape := secret.pair(), shapeOf(secret, c)
	if _, ok := shapes.Get(shape); ok {
		versions = versions[:1]
	} else if pair, err = tls.X509KeyPair(c.Material[credential.KeyCertificate].Reveal(), c.Material[credential.KeyPrivateKey].Reveal()); err != nil {
		// The cause is left out: it comes from a decoder that has seen the key.
		return nil, findings{badCertificate("crypto/tls does not accept the certificate with its key")}
	}
	for _, version := range versions {
		h := handshake{secret: secret, pair: pair, peer: other, now: c.Now, version: version, verified: &chains}
		for _, usage := range c.Identity.Usages {
			err := h.inRole(ctx, usage)
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				return nil, fmt.Errorf("handshake in memory: %w", err) // not a finding about the certificate
			}
			if err != nil {
				found = append(found, badCertificate("the handshake as %s with %s fails: %w", usage, tls.VersionName(version), err))
			}
		}
	}
	if len(found) > 0 {
		return nil, found
	}
	shapes.Put(shape, struct{}{})
	return chains, nil
}

// pair returns what tls.X509KeyPair makes of tls.crt and tls.key, built from the parts that are already parsed.
func (s *TLSSecret) pair() tls.Certificate {
	out := tls.Certificate{PrivateKey: s.key, Leaf: s.Leaf}
	for _, certificate := range append([]*x509.Certificate{s.Leaf}, s.Intermediates...) {
		out.Certificate = append(out.Certificate, certificate.Raw)
	}
	return out
}

// shapes caches the shapes for which TLS 1.2 has succeeded in this process.
var shapes = cache.New[struct{}](256)

// shapeOf identifies what TLS 1.2 checks and TLS 1.3 does not: algorithms and usages. TLS 1.3 proves for every certificate
// that its key and chain can be used; TLS 1.2 is tested only with the first certificate of each shape.
func shapeOf(secret *TLSSecret, c Candidate) cache.Key {
	out := fmt.Appendf(nil, "%s %d %v %v %x", AlgorithmOf(secret.Leaf.PublicKey), secret.Leaf.KeyUsage, c.Identity.Usages,
		secret.Leaf.ExtKeyUsage, secret.Leaf.AuthorityKeyId)
	for _, certificate := range append([]*x509.Certificate{secret.Leaf}, secret.Intermediates...) {
		out = fmt.Appendf(out, " %s", certificate.SignatureAlgorithm)
	}
	return sha256.Sum256(out)
}

func (h handshake) inRole(ctx context.Context, usage Usage) error {
	switch usage {
	case ClientAuth:
		return h.asClient(ctx)
	case ServerAuth:
		return h.asServer(ctx)
	}
	return fmt.Errorf("the usage %q has no handshake", usage)
}

// handshake is one attempt to use a certificate, in memory, at a given time.
type handshake struct {
	secret  *TLSSecret
	pair    tls.Certificate
	peer    tls.Certificate
	now     time.Time
	version uint16
	// verified receives the chains with which the peer verified the certificate; nil if they are not needed.
	verified *[][]*x509.Certificate
}

// judged records the chains with which the peer verified the certificate.
func (h handshake) judged(state tls.ConnectionState) error {
	h.note(state.VerifiedChains)
	return nil
}

func (h handshake) note(chains [][]*x509.Certificate) {
	if h.verified != nil {
		*h.verified = append(*h.verified, chains...)
	}
}

func (h handshake) config() *tls.Config {
	return &tls.Config{
		MinVersion:             h.version,
		MaxVersion:             h.version,
		Time:                   func() time.Time { return h.now },
		SessionTicketsDisabled: true,
		// The key exchange is not under test, and this curve is fast.
		CurvePreferences: []tls.CurveID{tls.CurveP256},
	}
}

// asClient presents the certificate to a server that requires and verifies one. The server's result counts: the client sees
// an alert at most.
func (h handshake) asClient(ctx context.Context) error {
	client, server := h.config(), h.config()
	client.Certificates = []tls.Certificate{h.pair}
	client.RootCAs = x509.NewCertPool()
	client.RootCAs.AddCert(h.peer.Leaf)
	client.ServerName = peerName
	server.Certificates = []tls.Certificate{h.peer}
	server.ClientAuth = tls.RequireAndVerifyClientCert
	server.ClientCAs = h.secret.roots()
	server.VerifyConnection = h.judged
	atClient, atServer := shake(ctx, client, server)
	return errors.Join(atServer, onlyIf(atServer == nil, atClient))
}

// asServer serves the certificate to a client that verifies it, with each kind of name that clients look for.
func (h handshake) asServer(ctx context.Context) error {
	for _, name := range serverNames(h.secret.Leaf) {
		client, server := h.config(), h.config()
		client.RootCAs = h.secret.roots()
		client.ServerName = name
		client.VerifyConnection = h.judged
		if name == "" {
			h.verifyWithoutHost(client)
		}
		server.Certificates = []tls.Certificate{h.pair}
		atClient, atServer := shake(ctx, client, server)
		if err := errors.Join(atClient, onlyIf(atClient == nil, atServer)); err != nil {
			return err
		}
	}
	return nil
}

// verifyWithoutHost makes the client verify chain, usage and time, but no host name. Clients that identify a server by its
// URI, as in SPIFFE, do the same, because crypto/tls checks only host names.
func (h handshake) verifyWithoutHost(client *tls.Config) {
	client.InsecureSkipVerify = true // VerifyConnection verifies everything but the host name
	client.VerifyConnection = func(state tls.ConnectionState) error {
		intermediates := x509.NewCertPool()
		for _, certificate := range state.PeerCertificates[1:] {
			intermediates.AddCert(certificate)
		}
		chains, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots:         client.RootCAs,
			Intermediates: intermediates,
			CurrentTime:   h.now,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		h.note(chains)
		return err
	}
}

// serverNames returns one name of each kind that a client can ask for, or one empty name if there is none.
func serverNames(leaf *x509.Certificate) []string {
	var out []string
	if len(leaf.DNSNames) > 0 {
		out = append(out, strings.Replace(leaf.DNSNames[0], "*", "any", 1))
	}
	if len(leaf.IPAddresses) > 0 {
		out = append(out, leaf.IPAddresses[0].String())
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

func onlyIf(condition bool, err error) error {
	if condition {
		return err
	}
	return nil
}

// shake connects a client and a server in memory. Both sides must complete the handshake and then exchange a byte: in TLS
// 1.3 a client's handshake succeeds before the server has verified its certificate.
func shake(ctx context.Context, client, server *tls.Config) (atClient, atServer error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	near, far := memoryPipe()
	stop := context.AfterFunc(ctx, func() { _ = near.Close() })
	defer stop()

	done := make(chan error, 1)
	go func() {
		defer func() { _ = far.Close() }()
		done <- serve(ctx, tls.Server(far, server))
	}()
	atClient = call(ctx, tls.Client(near, client))
	_ = near.Close()
	atServer = <-done
	if err := ctx.Err(); err != nil {
		return err, err
	}
	return atClient, atServer
}

func serve(ctx context.Context, conn *tls.Conn) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{1}); err != nil {
		return fmt.Errorf("writing after the handshake: %w", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("reading after the handshake: %w", err)
	}
	return nil
}

func call(ctx context.Context, conn *tls.Conn) error {
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("reading after the handshake: %w", err)
	}
	if _, err := conn.Write([]byte{1}); err != nil {
		return fmt.Errorf("writing after the handshake: %w", err)
	}
	return nil
}

// peer creates the certificate of the other side of every handshake, once per process. Its key never leaves memory, only our
// own client in the same process trusts it, and it is valid at every time that a test or a forecast may choose.
var peer = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := generateKey(ECDSAP256)
	if err != nil {
		return tls.Certificate{}, err
	}
	return selfSigned(key)
})

func selfSigned(key crypto.Signer) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: peerName},
		DNSNames:     []string{peerName},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
