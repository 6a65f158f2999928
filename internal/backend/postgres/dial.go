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
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rekey/rekey/internal/backend"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// maxMessage bounds what a server can make us hold in memory, in bytes.
const maxMessage = 1 << 20

// endpoint is one server: how it is reached, judged and trusted.
type endpoint struct {
	server  backend.Server
	tls     *tls.Config // nil where TLS is disabled
	resolve func(context.Context, string) ([]string, error)
	timeout time.Duration
	tracer  pgx.QueryTracer // nil for none
	gates   *gates          // of the backend
}

func newEndpoint(server backend.Server, options Options, gates *gates) (*endpoint, error) {
	e := &endpoint{server: server, resolve: options.Lookup, timeout: options.ConnectTimeout, tracer: options.Tracer, gates: gates}
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

// tlsConfig maps the mode to what libpq's sslmode of that name means (PostgreSQL, "SSL Support"). There is no way back
// from TLS to a plain connection.
func tlsConfig(server backend.Server) (*tls.Config, error) {
	if server.TLS == backend.TLSDisable {
		return nil, nil //nolint:nilnil // nil is "no TLS", as in the standard library
	}
	roots, err := anchors(server.CA)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server.Host, RootCAs: roots}
	switch {
	case server.TLS == backend.TLSVerifyFull && roots != nil:
	case server.TLS == backend.TLSVerifyCA && roots != nil, server.TLS == backend.TLSRequire && roots != nil:
		// The chain is verified, the name is not; libpq does the same for "require" when it has a root.
		config.InsecureSkipVerify = true // VerifyConnection verifies the chain
		config.VerifyConnection = func(state tls.ConnectionState) error { return verifyChain(state, roots) }
	case server.TLS == backend.TLSRequire:
		config.InsecureSkipVerify = true // the mode that the spec asks for; channel binding and SCRAM remain
	case server.TLS == backend.TLSVerifyFull, server.TLS == backend.TLSVerifyCA:
		return nil, fault.Blocked(fault.SecretInvalid, fmt.Errorf("preparing TLS mode %s: there are no CA certificates: name them in tls.caRef", server.TLS))
	default:
		return nil, fault.Permanent(fault.ServerUnsupported, fmt.Errorf("preparing TLS: the mode %q is not known", server.TLS))
	}
	return config, nil
}

// anchors parses the CA certificates; nil where there are none.
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
		return nil, fault.Blocked(fault.SecretInvalid, errors.New("reading the CA certificates: there is no PEM certificate: tls.caRef must hold some"))
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

// Errors of dial that have no type elsewhere.
var (
	errTLSNotOffered = errors.New("the server does not offer TLS")
	errNotReady      = errors.New("the server answered the request for TLS with an error")
)

// handshakeError marks that a TLS handshake failed.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// dial makes a connection on which TLS is already established, where the spec asks for it. It reads exactly one byte
// before TLS, so that nothing that was sent in clear is taken as part of it.
func (e *endpoint) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := e.dialIP(ctx, network, address)
	if err != nil || e.tls == nil {
		return conn, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	secured, err := e.startTLS(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, conn.SetDeadline(time.Time{})
}

func (e *endpoint) startTLS(ctx context.Context, conn net.Conn) (net.Conn, error) {
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
	secured := tls.Client(conn, e.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, &handshakeError{err}
	}
	return secured, nil
}

// attempt is one login.
type attempt struct {
	username, database, application string
	password                        credential.Sensitive
	// parameters are set at the start of the session.
	parameters map[string]string
	// anyMethod gives the password to whatever method the server asks for: only for made-up ones.
	anyMethod bool
}

// neutral states every setting that the driver would otherwise take from the environment and could choke on.
const neutral = "host=localhost port=5432 user=nobody database=nobody password=none passfile=/dev/null connect_timeout=5 sslmode=disable sslcertmode=disable sslrootcert='' " +
	"sslnegotiation=postgres target_session_attrs=any min_protocol_version=3.0 max_protocol_version=3.0 channel_binding=disable require_auth=scram-sha-256"

// connect logs in, unless somebody else finds out just now whether a silent server answers again. The error is a *failure
// and holds nothing that the server or the driver said.
func (e *endpoint) connect(ctx context.Context, a attempt) (*pgx.Conn, error) {
	may, alone := e.gates.enter(e.address())
	if !may {
		return nil, &failure{kind: failedSilent}
	}
	answered := false
	defer func() { e.gates.leave(e.address(), alone, answered) }()
	conn, err := e.logIn(ctx, a)
	answered = err == nil || diagnose(err, nil).kind != failedTimeout
	return conn, err
}

func (e *endpoint) logIn(ctx context.Context, a attempt) (*pgx.Conn, error) {
	// The environment of this process must not have a say: everything that it could set is overwritten here.
	config, err := pgx.ParseConfig(neutral)
	if err != nil {
		return nil, &failure{kind: failedLocally}
	}
	watch := &authWatch{}
	config.Host, config.Port = e.server.Host, uint16(e.server.Port) //nolint:gosec // newEndpoint checked the range
	config.User, config.Database, config.Password = a.username, a.database, string(a.password.Reveal())
	config.TLSConfig, config.Fallbacks = nil, nil // dial does TLS
	config.DialFunc, config.LookupFunc = e.dial, e.lookup
	config.ConnectTimeout = e.timeout
	config.RuntimeParams = map[string]string{"application_name": a.application}
	maps.Copy(config.RuntimeParams, a.parameters)
	config.BuildFrontend, config.Tracer = watch.frontend, e.tracer
	config.ValidateConnect, config.AfterConnect, config.OAuthTokenProvider = nil, nil, nil
	config.KerberosSrvName, config.KerberosSpn = "", ""
	config.SSLNegotiation, config.SSLCertMode = "postgres", "disable"
	config.MinProtocolVersion, config.MaxProtocolVersion = "3.0", "3.0"
	config.MaxProtocolMessageBodyLen = maxMessage
	config.OnPgError = func(_ *pgconn.PgConn, err *pgconn.PgError) bool { return err.SeverityUnlocalized != "FATAL" }
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.RequireAuth, config.ChannelBinding = "scram-sha-256", "disable"
	if e.tls != nil {
		config.ChannelBinding = "require"
		watch.binding = true
	}
	if a.anyMethod {
		config.RequireAuth, config.ChannelBinding = "", "prefer"
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, diagnose(err, watch)
	}
	return conn, nil
}

// hangUp ends a connection politely, but not at any price.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // nothing depends on it
}

// connectAdmin logs in as the admin, with a session in which nothing waits for ever and no name is looked up outside the
// catalog.
func (e *endpoint) connectAdmin(ctx context.Context, database, application string) (*pgx.Conn, error) {
	conn, err := e.connect(ctx, attempt{
		username: e.server.Admin.Username, password: e.server.Admin.Password, database: database, application: application,
		parameters: map[string]string{
			"search_path": "pg_catalog", "client_encoding": "UTF8", "standard_conforming_strings": "on",
			"lock_timeout": milliseconds(lockTimeout), "statement_timeout": milliseconds(statementTimeout),
			"idle_in_transaction_session_timeout": milliseconds(idleTimeout), "idle_session_timeout": milliseconds(sessionTimeout),
		},
	})
	if err != nil {
		return nil, e.adminFault(err, database)
	}
	return conn, nil
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
