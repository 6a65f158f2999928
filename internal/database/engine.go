// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"

	"github.com/rekey/rekey/internal/credential"
)

// TLSMode is how a connection to the server is protected. The values are those of the DatabaseServer kind; they mean the
// same as sslmode in libpq (PostgreSQL, "SSL Support").
type TLSMode string

// The modes, from no protection to full verification.
const (
	TLSDisable    TLSMode = "Disable"
	TLSRequire    TLSMode = "Require"
	TLSVerifyCA   TLSMode = "VerifyCA"
	TLSVerifyFull TLSMode = "VerifyFull"
)

// NegativeControl is how often Verify also sends a wrong password. The server must refuse it, or a successful login would
// prove nothing. The values are those of the DatabaseServer kind.
type NegativeControl string

// The values of NegativeControl. The empty string means ControlAlways.
const (
	// ControlAlways sends one with each proof.
	ControlAlways NegativeControl = "Always"
	// ControlAtFirst sends one only before the first version of a credential is published or its lost ledger is rebuilt
	// (credential.First).
	ControlAtFirst NegativeControl = "AtFirst"
)

// Server is the address of a server, and how rekey connects to it and trusts it.
type Server struct {
	// Host is the host without the port; an IPv6 address has no brackets.
	Host string
	// Port is from 1 to 65535.
	Port int
	// TLS is the mode of every connection: the admin's and those that verify.
	TLS TLSMode
	// CA holds the trust anchors in PEM. VerifyCA and VerifyFull require it.
	CA []byte
	// AllowLoopback lets rekey dial loopback addresses (tests and local clusters). Link-local and metadata addresses are
	// never dialed. Addresses are checked after name resolution, and the checked address is the one that is dialed.
	AllowLoopback bool
	// Admin is the login that creates and changes the others.
	Admin Admin
	// MaintenanceDatabase is the database that the admin connects to. If it is empty, the engine uses its default; if that
	// does not admit the admin, the credential's database or one of Databases.
	MaintenanceDatabase string
	// Databases are the databases of the credentials on this server, for Check.
	Databases []string
	// NegativeControl is how often a wrong password is sent.
	NegativeControl NegativeControl
	// AllowedUsernames and AllowedOwners are patterns in which * matches any number of characters.
	AllowedUsernames, AllowedOwners []string
}

// Admin is the credential with which rekey changes the others.
type Admin struct {
	Username string
	Password credential.Sensitive
	// Secret is the namespace and name of the Secret that holds both values, for messages; may be empty.
	Secret string
}

// Target is what one credential uses on a server.
type Target struct {
	Server Server
	// Database is the database that the login must be able to use.
	Database string
	// Username is the base name: the logins are Username_a and Username_b.
	Username string
	// Owner is the role that the logins act as.
	Owner string
	// Create reports whether missing logins are created.
	Create bool
	// PasswordLength and PasswordAlphabet are what a proposed password is made of, as the DatabaseCredential kind names them.
	PasswordLength   int
	PasswordAlphabet string
}

// Report is the result of a preflight.
type Report struct {
	// Version is the server's version as it reports it, such as "15.18".
	Version string
	// Notes are findings that an operator should know although they block nothing: whole sentences, sorted, shown in the
	// condition's message.
	Notes []string
}

// Engine connects to the servers of one database product, such as PostgreSQL.
type Engine interface {
	// Traits returns what sessions of this engine can do.
	Traits() credential.Traits
	// Open returns a session for one credential. It may be lazy: the first call that needs the admin connects.
	Open(ctx context.Context, target Target) (Session, error)
	// Check verifies that the server is reachable, protected as declared and writable, and that the admin has every
	// privilege it needs. If something is missing, it returns an error of package fault that names the statement which fixes
	// it.
	Check(ctx context.Context, server Server) (Report, error)
}

// Session is a Source for one credential on one server, and must be closed.
type Session interface {
	credential.Source
	// Close ends every connection of the session. It does not fail.
	Close()
}
