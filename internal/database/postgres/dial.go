// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/netguard"
)

// maxMessage limits how much memory a server's message can make us allocate, in bytes.
const maxMessage = 1 << 20

// endpoint is one server: its address, how it is trusted, and how long it may take.
type endpoint struct {
	server  server
	tls     *tls.Config // nil if TLS is disabled
	network *netguard.Dialer
	timeout time.Duration
	tracer  pgx.QueryTracer // nil for none
}

func newEndpoint(server server, options Options) (*endpoint, error) {
	e := &endpoint{server: server, network: options.Dialer, timeout: options.ConnectTimeout, tracer: options.Tracer}
	if server.Host == "" || strings.ContainsAny(server.Host, "/\\, \x00@") || server.Port < 1 || server.Port > 65535 {
		return nil, fault.Permanent(fault.AddressForbidden, fmt.Errorf("reading address %q: it must be a host name or an IP address, and a port from 1 to 65535", e.address()))
	}
	var err error
	e.tls, err = tlsConfig(server)
	if err != nil {
		return nil, err
	}
	return e, nil
}

func (e *endpoint) address() string {
	return net.JoinHostPort(e.server.Host, strconv.Itoa(e.server.Port))
}

// rules returns the rules for the addresses that this server may have.
func (e *endpoint) rules() netguard.Rules {
	return netguard.Rules{AllowLoopback: e.server.AllowLoopback}
}

// tlsConfig maps the mode to what libpq's sslmode of that name means (PostgreSQL, "SSL Support"). It never falls back from
// TLS to a plain connection.
func tlsConfig(server server) (*tls.Config, error) {
	if server.TLS == database.TLSDisable {
		return nil, nil //nolint:nilnil // nil is "no TLS", as in the standard library
	}
	roots, err := anchors(server.CA)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server.Host, RootCAs: roots}
	switch {
	case server.TLS == database.TLSVerifyFull && roots != nil:
	case server.TLS == database.TLSVerifyCA && roots != nil, server.TLS == database.TLSRequire && roots != nil:
		// The chain is verified, the name is not; libpq does the same for "require" if it has a root.
		config.InsecureSkipVerify = true // VerifyConnection verifies the chain
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	case server.TLS == database.TLSRequire:
		config.InsecureSkipVerify = true // the mode that the spec requests; channel binding and SCRAM remain
	case server.TLS == database.TLSVerifyFull, server.TLS == database.TLSVerifyCA:
		return nil, fault.Blocked(fault.SecretInvalid, fmt.Errorf("preparing TLS mode %s: there are no CA certificates: name them in tls.caRef", server.TLS))
	default:
		return nil, fault.Permanent(fault.ServerUnsupported, fmt.Errorf("preparing TLS: unknown mode %q", server.TLS))
	}
	return config, nil
}

// anchors parses the CA certificates; nil if there are none.
func anchors(text []byte) (*x509.CertPool, error) {
	if len(text) == 0 {
		return nil, nil //nolint:nilnil // nil is "none"
	}
	pool := x509.NewCertPool()
	count := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			return nil, fault.Blocked(fault.SecretInvalid, errors.New("reading the CA certificates: one of them cannot be parsed: tls.caRef must hold PEM certificates only"))
		}
		pool.AddCert(cert)
		count++
	}
	if count == 0 {
		return nil, fault.Blocked(fault.SecretInvalid, errors.New("reading the CA certificates: no PEM certificate found: tls.caRef must hold at least one"))
	}
	return pool, nil
}

func verifyChain(state tls.ConnectionState, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server showed no certificate")
	}
	intermediates := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		intermediates.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates})
	return err
}

// Errors of dial that no other package defines a type for.
var (
	errTLSNotOffered = errors.New("the server does not offer TLS")
	errNotReady      = errors.New("the server answered the request for TLS with an error")
)

// handshakeError wraps the error of a failed TLS handshake.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// bindingError reports that channel binding is not defined for the signature algorithm of the server's certificate.
type bindingError struct{ algorithm string }

func (e *bindingError) Error() string { return "channel binding is not defined for " + e.algorithm }

// dialer returns a dial function for the watched login. If the spec requests TLS, the connections have it established
// already. Before TLS it reads exactly one byte, so that nothing sent in clear text is taken as part of the TLS stream.
//
// Until the server has sent its challenge, everything together may take the endpoint's timeout. Then the deadline moves,
// because a server may take its time to refuse a password.
func (e *endpoint) dialer(watch *authWatch) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		first, cancel := context.WithTimeout(ctx, e.timeout)
		defer cancel()
		conn, err := e.network.DialContext(first, e.rules(), network, address)
		if err != nil {
			return nil, err
		}
		deadline, _ := first.Deadline()
		if err := conn.SetDeadline(deadline); err != nil {
			_ = conn.Close()
			return nil, err
		}
		watch.challenged = func() {
			_ = conn.SetDeadline(deadline.Add(watch.patience)) // a closed connection fails on its own
			if ctx.Err() != nil {
				_ = conn.SetDeadline(deadline.Add(-e.timeout)) // the driver has closed it in the meantime
			}
		}
		if e.tls == nil {
			return conn, nil
		}
		secured, err := e.startTLS(first, conn, watch)
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
		return secured, nil
	}
}

func (e *endpoint) startTLS(ctx context.Context, conn net.Conn, watch *authWatch) (net.Conn, error) {
	request, err := (&pgproto3.SSLRequest{}).Encode(nil)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, err
	}
	switch answer[0] {
	case 'S':
	case 'N':
		return nil, errTLSNotOffered
	default:
		return nil, errNotReady
	}
	config := e.tls.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		watch.wantedCertificate.Store(true)
		return &tls.Certificate{}, nil // none, as without this function
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, &handshakeError{err}
	}
	if watch.binding {
		if err := bindable(secured.ConnectionState()); err != nil {
			return nil, err
		}
	}
	return secured, nil
}

// bindable refuses a certificate with a signature algorithm that names no hash, because tls-server-end-point is that hash of
// the certificate (RFC 5929, section 4.1). The server refuses such a login too, with an error of its own.
func bindable(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return &bindingError{"an unknown algorithm"}
	}
	switch algorithm := state.PeerCertificates[0].SignatureAlgorithm; algorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
		return nil
	case x509.UnknownSignatureAlgorithm:
		return &bindingError{"an unknown algorithm, such as Ed448"}
	default:
		return &bindingError{algorithm.String()}
	}
}
