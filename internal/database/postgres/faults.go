// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rekey/rekey/internal/fault"
)

// This file maps a failure to a class, a reason, and a sentence with the next step.

type classed func(fault.Reason, error) error

// meaning is what an SQLSTATE means for rekey.
type meaning struct {
	class  classed
	reason fault.Reason
	text   string
}

// meanings is keyed by a five-letter SQLSTATE, or by its first two letters. It applies unless the caller knows more.
var meanings = map[string]meaning{
	"08":    {fault.Transient, fault.ServerUnreachable, "the connection broke"},
	"08P01": {fault.Permanent, fault.ServerUnsupported, "the server does not understand the request: a pooler in between does not pass on session settings: point address at the server itself"},
	"0A":    {fault.Permanent, fault.ServerUnsupported, "the server lacks a feature: PostgreSQL 15 or later is needed"},
	"22":    {fault.Permanent, fault.ServerUnsupported, "the server refuses a value: a module that checks passwords may refuse verifiers: allow SCRAM-SHA-256 verifiers there"},
	"25006": {fault.Blocked, fault.ServerReadOnly, "the server is read only: point address at the primary"},
	"25P03": {fault.Transient, fault.ServerUnreachable, "the server ended the transaction because rekey sent nothing for too long"},
	"25P04": {fault.Transient, fault.LockTimeout, "the transaction took longer than the server allows"},
	"28":    {fault.Blocked, fault.LoginForbidden, "the server does not let this login in: check pg_hba.conf and whether the role has NOLOGIN"},
	"28P01": {fault.Transient, fault.CandidateRejected, "the server refused the password"},
	"2BP01": {fault.Permanent, fault.RemoteFailed, "other objects depend on the login"},
	"3D":    {fault.Blocked, fault.DatabaseNotFound, "the database does not exist: create it"},
	"F0":    {fault.Transient, fault.ServerNotReady, "the server's configuration has an error: clientcert in pg_hba.conf needs ssl_ca_file"},
	"40":    {fault.Transient, fault.LockTimeout, "another transaction interfered"},
	"42":    {fault.Permanent, fault.ServerUnsupported, "the server does not know a statement or a catalog: PostgreSQL 15 or later is needed"},
	"42501": {fault.Permanent, fault.PrivilegeMissing, "the admin lacks a privilege"},
	"42704": {fault.Transient, fault.RemoteFailed, "a role was dropped in the meantime"},
	"42710": {fault.Transient, fault.RemoteFailed, "a role of that name was created in the meantime"},
	"53":    {fault.Transient, fault.ServerNotReady, "the server is out of memory or disk space"},
	"53300": {fault.Transient, fault.ServerNotReady, "the server has no free connection: raise max_connections, or the connection limit of the login or the database"},
	"55":    {fault.Transient, fault.RemoteFailed, "the object is in use, or cannot be changed in its current state"},
	"55000": {fault.Blocked, fault.LoginForbidden, "the database does not accept connections: ALTER DATABASE ... ALLOW_CONNECTIONS true"},
	"55P03": {fault.Transient, fault.LockTimeout, "another transaction holds the login: look for it in pg_locks"},
	"57":    {fault.Transient, fault.ServerNotReady, "the server is starting, stopping or recovering"},
	"57014": {fault.Transient, fault.LockTimeout, "the statement took too long: another transaction may hold the login: look for it in pg_locks"},
	"57P04": {fault.Blocked, fault.DatabaseNotFound, "the database was dropped"},
	"57P05": {fault.Transient, fault.ServerUnreachable, "the server ended the connection because rekey sent nothing for too long"},
	"58":    {fault.Transient, fault.ServerNotReady, "the server cannot read or write its files"},
	"XX":    {fault.Transient, fault.RemoteFailed, "the server had an internal error, or another transaction changed the login at the same time"},
}

// byCode returns the meaning of an SQLSTATE.
func byCode(code string) meaning {
	if m, ok := meanings[code]; ok {
		return m
	}
	if m, ok := meanings[code[:2]]; ok {
		return m
	}
	return meaning{fault.Transient, fault.RemoteFailed, "the server returned an error for which rekey has no specific reason: check its log"}
}

// meaning returns what a failure means, for the admin and for a login.
func (f *failure) meaning() meaning {
	switch f.kind {
	case failedServer:
		m := byCode(f.code)
		m.text += " (SQLSTATE " + f.code + ")"
		return m
	case failedTimeout:
		return meaning{fault.Transient, fault.ServerUnreachable, "no answer in time: check address, network policies and firewalls" + f.hint}
	case failedSilent:
		return meaning{fault.Transient, fault.ServerUnreachable, "the previous attempt got no answer in time, and another one is in progress: check address, network policies and firewalls" + f.hint}
	case failedRefusal:
		return meaning{fault.Transient, fault.ServerUnreachable, f.Error() + ": the server may delay refusals (auth_delay.milliseconds), or hang"}
	case failedName:
		return meaning{fault.Transient, fault.ServerUnreachable, f.Error() + ": check address and DNS" + f.hint}
	case failedAddress:
		return meaning{fault.Permanent, fault.AddressForbidden, f.text + ": rekey does not dial such addresses: use another address"}
	case failedTLS:
		return meaning{fault.Permanent, fault.TLSNotOffered, "the server does not offer TLS: set ssl = on there, or tls.mode to Disable here"}
	case failedTrust:
		return meaning{fault.Permanent, fault.AuthenticationNotEnforced, f.Error() + ", so a login proves nothing: replace trust in pg_hba.conf with scram-sha-256"}
	case failedLocally:
		return meaning{fault.Transient, fault.RemoteFailed, f.Error() + ": check the PG* variables in the environment of the operator"}
	case failedDriver:
		return meaning{fault.Transient, fault.RemoteFailed, f.Error() + ": check that PostgreSQL itself answers at this address, and not something in front of it"}
	case failedCertificate, failedBinding, failedHandshake, failedMethod, failedUnbound, failedImpostor:
		return f.insecure()
	case failedNetwork:
	}
	return meaning{fault.Transient, fault.ServerUnreachable, "no connection, or it broke: check that the server runs, and check address and network policies" + f.hint}
}

// insecure returns the meaning of a failure to agree on TLS or on an authentication method.
func (f *failure) insecure() meaning {
	switch f.kind {
	case failedBinding:
		return meaning{fault.Permanent, fault.ServerCertificateInvalid,
			"the server's certificate is signed with " + f.text + ", for which SCRAM channel binding is not defined; nothing was sent: have it signed by a CA with an RSA or ECDSA key"}
	case failedHandshake:
		return meaning{fault.Transient, fault.ServerUnreachable,
			"the TLS handshake failed: the server must offer TLS 1.2 or later with a common cipher suite, and must not require a client certificate, which rekey does not have"}
	case failedMethod:
		return meaning{fault.Permanent, fault.AuthenticationMethodInsecure,
			f.Error() + "; nothing was sent: use the method scram-sha-256 in pg_hba.conf, and a password that is stored as SCRAM-SHA-256"}
	case failedUnbound:
		return meaning{fault.Permanent, fault.AuthenticationMethodInsecure,
			f.Error() + ": TLS terminates before the server, at a load balancer or proxy: have it pass TLS through, or point address at the server itself"}
	case failedImpostor:
		return meaning{fault.Permanent, fault.AuthenticationMethodInsecure, f.Error() + ": something else answers at this address: check where it leads"}
	default:
		return meaning{fault.Permanent, fault.ServerCertificateInvalid, "the server's certificate is not valid: " + f.text}
	}
}

// wrap returns the fault for a failure while doing something.
func (f *failure) wrap(doing string) error {
	m := f.meaning()
	return m.class(m.reason, fmt.Errorf("%s: %s", doing, m.text))
}

// adminFault explains why the admin could not log in.
func (e *endpoint) adminFault(f *failure, database string) error {
	admin := e.server.Admin.Username
	doing := fmt.Sprintf("connecting to %s as admin %q", e.address(), admin)
	if f.kind != failedServer {
		return f.wrap(doing)
	}
	switch f.code {
	case "28P01":
		return fault.Blocked(fault.AdminRejected, fmt.Errorf("%s: the server refused the username or password (SQLSTATE 28P01): correct %s%s", doing, e.adminSecret(), e.whitespace()))
	case "28000":
		return fault.Blocked(fault.AdminRejected, fmt.Errorf("%s: the server does not let it in (SQLSTATE 28000): %s", doing, f.entrance(admin)))
	case "42501":
		return fault.Permanent(fault.PrivilegeMissing, fmt.Errorf("%s: it cannot connect to database %q (SQLSTATE 42501): GRANT CONNECT ON DATABASE %s TO %s%s",
			doing, database, ident(database), ident(admin), e.elsewhere()))
	case "3D000":
		return fault.Blocked(fault.DatabaseNotFound, fmt.Errorf("%s: database %q does not exist (SQLSTATE 3D000): create it%s", doing, database, e.elsewhere()))
	case "53300":
		return fault.Transient(fault.ServerNotReady, fmt.Errorf("%s to database %q: %s", doing, database, f.crowded(admin, database)))
	}
	if f.raised() {
		return fault.Blocked(fault.AdminRejected, fmt.Errorf("%s to database %q: %s", doing, database, f.trigger()))
	}
	return f.wrap(fmt.Sprintf("%s to database %q", doing, database))
}

// raised reports whether code of the database's own refused a login: from PostgreSQL 17 on, event triggers can fire at
// login.
func (f *failure) raised() bool { return f.kind == failedServer && strings.HasPrefix(f.code, "P0") }

func (f *failure) trigger() string {
	return "an event trigger ON login raised an exception (SQLSTATE " + f.code + "): look in pg_event_trigger of that database"
}

// adminSecret returns a phrase that names the source of the admin's login.
func (e *endpoint) adminSecret() string {
	if e.server.Admin.Secret == "" {
		return "the Secret that adminSecretRef names"
	}
	return "Secret " + e.server.Admin.Secret
}

// whitespace names the admin's values that start or end with white space, which is invisible in an editor. It shows no
// value.
func (e *endpoint) whitespace() string {
	var keys []string
	for key, value := range map[string]string{"username": e.server.Admin.Username, "password": string(e.server.Admin.Password.Reveal())} {
		if strings.TrimSpace(value) != value {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return ""
	}
	slices.Sort(keys)
	return fmt.Sprintf(" (its %s starts or ends with white space or a line break)", strings.Join(keys, " and its "))
}

// elsewhere returns the alternative if the admin cannot connect to its database.
func (e *endpoint) elsewhere() string {
	return ", or set spec.postgresql.maintenanceDatabase of the DatabaseServer to a database that the admin can connect to"
}

// entrance returns how to admit a login that was refused as a whole, depending on how far it had come.
func (f *failure) entrance(login string) string {
	open := "ALTER ROLE " + ident(login) + " LOGIN"
	switch {
	case f.stage == stageAdmitted:
		return open
	case f.stage == stageGreeted && f.wantedCertificate:
		return "add a line for it to pg_hba.conf (hostssl or host, to match tls.mode) with the method scram-sha-256, and without clientcert: rekey does not support client certificates, which the server requests"
	case f.stage == stageGreeted:
		return "add a line for it to pg_hba.conf (hostssl or host, to match tls.mode), with the method scram-sha-256 and without clientcert"
	}
	return "check pg_hba.conf, or " + open
}

// crowded returns which connection limit is reached: from the PostgreSQL routine that refused, or else from how far the
// login had come.
func (f *failure) crowded(login, database string) string {
	text := "the server has no free connection (SQLSTATE 53300): "
	ofLogin, ofDatabase := fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT -1", ident(login)), fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT -1", ident(database))
	switch {
	case f.routine == "InitPostgres":
		return "the only connections left are those that superuser_reserved_connections and reserved_connections reserve (SQLSTATE 53300): end idle sessions, or raise max_connections"
	case f.routine == "InitializeSessionUserId":
		return fmt.Sprintf("all connections that login %q may have are in use (SQLSTATE 53300): ", login) + ofLogin
	case f.routine == "CheckMyDatabase":
		return fmt.Sprintf("all connections that database %q admits are in use (SQLSTATE 53300): ", database) + ofDatabase
	case f.stage == stageGreeted:
		return text + "raise max_connections, or end idle sessions"
	}
	return text + "check max_connections and the limits: " + ofLogin + ", " + ofDatabase
}

// clientFault explains why a credential's login could not log in, except for a wrong password.
func (s *session) clientFault(f *failure, login string) error {
	doing := s.loggingIn(login)
	switch {
	case f.kind != failedServer:
	case f.code == "42501":
		return fault.Blocked(fault.LoginForbidden,
			fmt.Errorf("%s: it cannot connect (SQLSTATE 42501): GRANT CONNECT ON DATABASE %s TO %s", doing, ident(s.target.Database), ident(s.target.Owner)))
	case f.code == "28000":
		return fault.Blocked(fault.LoginForbidden, fmt.Errorf("%s: the server does not let it in (SQLSTATE 28000): %s", doing, f.entrance(login)))
	case f.code == "53300":
		return fault.Transient(fault.ServerNotReady, fmt.Errorf("%s: %s", doing, f.crowded(login, s.target.Database)))
	}
	if f.raised() {
		return fault.Blocked(fault.LoginForbidden, fmt.Errorf("%s: %s", doing, f.trigger()))
	}
	return f.wrap(doing)
}

func (s *session) loggingIn(login string) string {
	return fmt.Sprintf("logging in to %s as %q to database %q", s.endpoint.address(), login, s.target.Database)
}

// statementFault explains why a statement failed. An error that already has a class keeps it.
func (e *endpoint) statementFault(err error, doing string) error {
	if err == nil || fault.ReasonOf(err, "") != "" || fault.Classify(err) == fault.ClassPending {
		return err
	}
	return diagnose(err, nil).wrap(fmt.Sprintf("%s on %s", doing, e.address()))
}
