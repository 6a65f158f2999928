// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/fault"
)

// This file is the only one that knows SQLSTATEs (PostgreSQL, "Error Codes") and the errors of TLS and net. What the
// server or the driver said is never passed on: a statement that fails may be quoted in its error. What is passed on is
// the SQLSTATE, the place, and what to do.

// kind says how a call failed.
type kind int

const (
	failedNetwork     kind = iota // no connection, or it broke
	failedTimeout                 // no answer in time
	failedSilent                  // no answer in time just before, and somebody else is trying again
	failedServer                  // the server said no; code says why
	failedName                    // the host name does not resolve
	failedAddress                 // the address must not be dialed; text says why
	failedTLS                     // the server does not offer TLS
	failedCertificate             // the server's certificate is not trusted; text says why
	failedMethod                  // the server asks for the password in an unsafe way
	failedTrust                   // the server does not ask for a password
	failedImpostor                // the server does not know the password's verifier
	failedLocally                 // this process could not even try
)

// failure is an error of the driver, told apart. It holds no text of the driver or the server.
type failure struct {
	kind kind
	code string // SQLSTATE, for failedServer
	text string // for failedAddress and failedCertificate
}

// Error implements error.
func (f *failure) Error() string {
	switch f.kind {
	case failedTimeout:
		return "no answer in time"
	case failedSilent:
		return "there was no answer in time just before"
	case failedServer:
		return "the server answered with SQLSTATE " + f.code
	case failedName:
		return "the host name cannot be resolved"
	case failedAddress, failedCertificate:
		return f.text
	case failedTLS:
		return "the server does not offer TLS"
	case failedMethod:
		return "the server does not authenticate with SCRAM-SHA-256 bound to the TLS channel"
	case failedTrust:
		return "the server did not ask for a password"
	case failedImpostor:
		return "the server could not prove that it knows the login's verifier"
	case failedLocally:
		return "the connection could not be configured"
	case failedNetwork:
	}
	return "there is no connection"
}

// refused tells that the server judged the password and said no.
func (f *failure) refused() bool { return f.kind == failedServer && f.code == "28P01" }

// barred tells that the server lets nobody in under that name, whatever the password.
func (f *failure) barred() bool { return f.kind == failedServer && f.code == "28000" }

// diagnose tells apart what the driver reports. watch is nil where the login was over before.
func diagnose(err error, watch *authWatch) *failure {
	if own, ok := errors.AsType[*failure](err); ok {
		return own
	}
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return &failure{kind: failedServer, code: sqlstate(answer.Code)}
	}
	if f := diagnoseTransport(err); f != nil {
		return f
	}
	if watch != nil {
		switch {
		case watch.withoutPassword():
			return &failure{kind: failedTrust}
		case watch.insecure():
			return &failure{kind: failedMethod}
		case watch.saw(authSASLFinal):
			return &failure{kind: failedImpostor}
		}
	}
	return &failure{kind: failedNetwork}
}

// diagnoseTransport tells what happened below PostgreSQL's protocol; nil where nothing did that has a name.
func diagnoseTransport(err error) *failure {
	if forbidden, ok := errors.AsType[*forbiddenError](err); ok {
		return &failure{kind: failedAddress, text: forbidden.text}
	}
	if errors.Is(err, errTLSNotOffered) {
		return &failure{kind: failedTLS}
	}
	if errors.Is(err, errNotReady) {
		return &failure{kind: failedServer, code: "57P03"}
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || pgconn.Timeout(err) || errors.As(err, &timeout) && timeout.Timeout() {
		return &failure{kind: failedTimeout}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return &failure{kind: failedName}
	}
	if handshake, ok := errors.AsType[*handshakeError](err); ok {
		if text := certificateProblem(handshake.err); text != "" {
			return &failure{kind: failedCertificate, text: text}
		}
		return &failure{kind: failedNetwork}
	}
	return nil
}

// certificateProblem says what is wrong with a server's certificate, empty where that is not what failed. The texts of
// crypto/x509 hold names and times of the certificate, which is public.
func certificateProblem(err error) string {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &hostname):
		return hostname.Error()
	case errors.As(err, &invalid):
		return invalid.Error()
	case errors.As(err, &authority):
		return "it is not signed by the CA that the spec names"
	case errors.As(err, &verification):
		return "it cannot be verified"
	}
	return ""
}

// sqlstate keeps five capital letters and digits, and nothing else that a server may send.
func sqlstate(code string) string {
	if len(code) != 5 {
		return "?????"
	}
	for _, c := range code {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return "?????"
		}
	}
	return code
}

type classed func(fault.Reason, error) error

// meaning is what an SQLSTATE comes down to.
type meaning struct {
	class  classed
	reason fault.Reason
	text   string
}

// meanings of a five-letter SQLSTATE, or of its first two letters. They hold wherever the caller knows nothing better.
var meanings = map[string]meaning{
	"08":    {fault.Transient, fault.ServerUnreachable, "the connection broke"},
	"08P01": {fault.Permanent, fault.ServerUnsupported, "the server does not understand the request: a pooler in between does not pass session settings on: point address at the server itself"},
	"0A":    {fault.Permanent, fault.ServerUnsupported, "the server lacks a feature: PostgreSQL 15 or later is needed"},
	"22":    {fault.Permanent, fault.ServerUnsupported, "the server refuses a value: a module that checks passwords may refuse verifiers: allow SCRAM-SHA-256 verifiers there"},
	"25006": {fault.Blocked, fault.ServerReadOnly, "the server is read only: point address at the primary"},
	"25P03": {fault.Transient, fault.ServerUnreachable, "the server ended the transaction, because nothing came from us in time"},
	"25P04": {fault.Transient, fault.LockTimeout, "the transaction took longer than the server allows"},
	"28":    {fault.Blocked, fault.LoginForbidden, "the server lets the login not in: look for it in pg_hba.conf and for NOLOGIN"},
	"28P01": {fault.Transient, fault.CandidateRejected, "the server refused the password"},
	"2BP01": {fault.Permanent, fault.BackendFailed, "other objects depend on the login"},
	"3D":    {fault.Blocked, fault.DatabaseNotFound, "the database is not there: create it"},
	"40":    {fault.Transient, fault.LockTimeout, "another transaction was in the way"},
	"42":    {fault.Permanent, fault.ServerUnsupported, "the server does not know a statement or a catalog: PostgreSQL 15 or later is needed"},
	"42501": {fault.Permanent, fault.PrivilegeMissing, "the admin lacks a privilege"},
	"42704": {fault.Transient, fault.BackendFailed, "a role vanished meanwhile"},
	"42710": {fault.Transient, fault.BackendFailed, "a role of that name was made meanwhile"},
	"53":    {fault.Transient, fault.ServerNotReady, "the server has no memory or no space on disk left"},
	"53300": {fault.Transient, fault.ServerNotReady, "the server has no connection left: raise max_connections, or the connection limit of the login or the database"},
	"55":    {fault.Transient, fault.BackendFailed, "the object is in use, or not in a state to be changed"},
	"55000": {fault.Blocked, fault.LoginForbidden, "the database does not accept connections: ALTER DATABASE ... ALLOW_CONNECTIONS true"},
	"55P03": {fault.Transient, fault.LockTimeout, "another transaction holds the login: look for it in pg_locks"},
	"57":    {fault.Transient, fault.ServerNotReady, "the server is starting, stopping or recovering"},
	"57014": {fault.Transient, fault.LockTimeout, "the statement took too long: another transaction may hold the login: look for it in pg_locks"},
	"57P04": {fault.Blocked, fault.DatabaseNotFound, "the database was dropped"},
	"57P05": {fault.Transient, fault.ServerUnreachable, "the server ended the connection, because nothing came from us in time"},
	"58":    {fault.Transient, fault.ServerNotReady, "the server cannot read or write its files"},
	"XX":    {fault.Transient, fault.BackendFailed, "the server failed inside, or another transaction changed the login at the same moment"},
}

// byCode finds what an SQLSTATE means.
func byCode(code string) meaning {
	if m, ok := meanings[code]; ok {
		return m
	}
	if m, ok := meanings[code[:2]]; ok {
		return m
	}
	return meaning{fault.Transient, fault.BackendFailed, "the server answered with an error that has no name here: look into its log"}
}

// meaning of a failure, whoever it happened to.
func (f *failure) meaning() meaning {
	switch f.kind {
	case failedServer:
		m := byCode(f.code)
		m.text += " (SQLSTATE " + f.code + ")"
		return m
	case failedTimeout:
		return meaning{fault.Transient, fault.ServerUnreachable, "no answer in time: check address, network policies and firewalls"}
	case failedSilent:
		return meaning{fault.Transient, fault.ServerUnreachable, "no answer in time just before, and somebody else is trying again: check address, network policies and firewalls"}
	case failedName:
		return meaning{fault.Transient, fault.ServerUnreachable, f.Error() + ": check address and DNS"}
	case failedAddress:
		return meaning{fault.Permanent, fault.AddressForbidden, f.text + ": it is not dialed: use another address"}
	case failedTLS:
		return meaning{fault.Permanent, fault.TLSNotOffered, "the server does not offer TLS: set ssl = on there, or tls.mode to Disable here"}
	case failedCertificate:
		return meaning{fault.Permanent, fault.ServerCertificateInvalid, "the server's certificate is not valid: " + f.text}
	case failedMethod:
		return meaning{fault.Permanent, fault.AuthenticationMethodInsecure,
			f.Error() + "; nothing was sent: use the method scram-sha-256 in pg_hba.conf, and a password that is stored as SCRAM-SHA-256"}
	case failedTrust:
		return meaning{fault.Permanent, fault.AuthenticationNotEnforced, f.Error() + ", so that a login proves nothing: replace trust in pg_hba.conf by scram-sha-256"}
	case failedImpostor:
		return meaning{fault.Permanent, fault.AuthenticationMethodInsecure, f.Error() + ": something else answers at this address: check where it leads"}
	case failedLocally:
		return meaning{fault.Transient, fault.BackendFailed, f.Error() + ": check the PG* variables in the environment of the operator"}
	case failedNetwork:
	}
	return meaning{fault.Transient, fault.ServerUnreachable, "no connection, or it broke: check that the server runs, and address and network policies"}
}

// wrap makes the fault of a failure while doing something.
func (f *failure) wrap(doing string) error {
	m := f.meaning()
	return m.class(m.reason, fmt.Errorf("%s: %s", doing, m.text))
}

// adminFault explains why the admin could not log in.
func (e *endpoint) adminFault(err error, database string) error {
	f := diagnose(err, nil)
	admin := e.server.Admin.Username
	doing := fmt.Sprintf("connecting to %s as admin %q", e.address(), admin)
	if f.kind != failedServer {
		return f.wrap(doing)
	}
	switch f.code {
	case "28P01":
		return fault.Blocked(fault.AdminRejected, fmt.Errorf("%s: the server refused username or password (SQLSTATE 28P01): correct the Secret that adminSecretRef names", doing))
	case "28000":
		return fault.Blocked(fault.AdminRejected, fmt.Errorf("%s: the server lets the login not in (SQLSTATE 28000): add a line for it to pg_hba.conf (hostssl or host, as tls.mode says), or ALTER ROLE %s LOGIN",
			doing, ident(admin)))
	case "42501":
		return fault.Permanent(fault.PrivilegeMissing, fmt.Errorf("%s: it may not enter database %q (SQLSTATE 42501): GRANT CONNECT ON DATABASE %s TO %s", doing, database, ident(database), ident(admin)))
	}
	return f.wrap(fmt.Sprintf("%s to database %q", doing, database))
}

// clientFault explains why a login of the credential could not log in, other than by a wrong password.
func (s *session) clientFault(f *failure, login string) error {
	doing := fmt.Sprintf("logging in to %s as %q to database %q", s.endpoint.address(), login, s.target.Database)
	if f.kind == failedServer && f.code == "42501" {
		return fault.Blocked(fault.LoginForbidden,
			fmt.Errorf("%s: it may not enter (SQLSTATE 42501): GRANT CONNECT ON DATABASE %s TO %s", doing, ident(s.target.Database), ident(s.target.Owner)))
	}
	return f.wrap(doing)
}

// statementFault explains why a statement failed. An error that has a class already keeps it.
func (e *endpoint) statementFault(err error, doing string) error {
	if err == nil || fault.ReasonOf(err, "") != "" || fault.Classify(err) == fault.ClassPending {
		return err
	}
	return diagnose(err, nil).wrap(fmt.Sprintf("%s on %s", doing, e.address()))
}
