// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"

	"github.com/rekey/rekey/internal/credential"
)

// TLSMode says how a connection to the server is protected. The words are those of the DatabaseServer kind; they mean
// what sslmode means for libpq (PostgreSQL, "SSL Support").
type TLSMode string

// The modes, from none to full.
const (
	TLSDisable    TLSMode = "Disable"
	TLSRequire    TLSMode = "Require"
	TLSVerifyCA   TLSMode = "VerifyCA"
	TLSVerifyFull TLSMode = "VerifyFull"
)

// NegativeControl says when Verify also tries a wrong password, which must be refused, or a login would prove nothing. The
// words are those of the DatabaseServer kind.
type NegativeControl string

// How often. The empty word means ControlAlways.
const (
	// ControlAlways tries one with each proof.
	ControlAlways NegativeControl = "Always"
	// ControlAtFirst tries one only before the first version of a credential is published or its lost ledger is rebuilt
	// (credential.First).
	ControlAtFirst NegativeControl = "AtFirst"
)

// Server is where a server is and how it is reached and trusted.
type Server struct {
	// Host without the port; an IPv6 address without brackets.
	Host string
	// Port from 1 to 65535.
	Port int
	// TLS mode of every connection: the admin's and those that verify.
	TLS TLSMode
	// CA holds the trust anchors, PEM. Needed for VerifyCA and VerifyFull.
	CA []byte
	// AllowLoopback lets rekey dial loopback addresses (tests and local clusters). Link-local and metadata addresses
	// are never dialed. Both are judged after name resolution, and what was judged is what is dialed.
	AllowLoopback bool
	// Admin is the login that makes and changes the others.
	Admin Admin
	// MaintenanceDatabase is the database that the admin works from; empty for the engine's habit, and where that cannot be
	// entered, the credential's database, or one of Databases.
	MaintenanceDatabase string
	// Databases of the credentials on this server, for Check.
	Databases []string
	// NegativeControl says how often a wrong password is tried.
	NegativeControl NegativeControl
	// AllowedUsernames and AllowedOwners are patterns in which * stands for any run of characters.
	AllowedUsernames, AllowedOwners []string
}

// Admin is the credential with which rekey changes the others.
type Admin struct {
	Username string
	Password credential.Sensitive
	// Secret is the namespace and name of the Secret that both come from, for messages; may be empty.
	Secret string
}

// Target is what one credential speaks of on a server.
type Target struct {
	Server Server
	// Database that the login must be able to use.
	Database string
	// Username is the base: the logins are Username_a and Username_b.
	Username string
	// Owner is the role that the logins act as.
	Owner string
	// Create says whether logins that are absent are made.
	Create bool
}

// Report is what a preflight found.
type Report struct {
	// Version of the server, as it names itself, such as "15.18".
	Version string
	// Notes are findings that stop nothing but that a person should know, whole sentences, sorted; shown in the
	// condition's message.
	Notes []string
}

// Engine connects to the servers of one database product, such as PostgreSQL.
type Engine interface {
	// Traits says what sessions of this engine can do.
	Traits() credential.Traits
	// Open makes a session for one credential. It may be lazy: the first call that needs the admin connects.
	Open(ctx context.Context, target Target) (Session, error)
	// Check tells whether the server is reachable, protected as declared, writable, and lets the admin do all that is
	// needed. Every lack is an error of package fault whose text names the statement that mends it.
	Check(ctx context.Context, server Server) (Report, error)
}

// Session is a Source for one credential on one server, and must be closed.
type Session interface {
	credential.Source
	// Close ends every connection of the session. It does not fail.
	Close()
}

// Preflighter is a Session that can tell, before anything remote is touched, whether the target can be served: owner
// allowed and harmless, both logins absent or ours, database there.
type Preflighter interface {
	// Preflight changes nothing. The error is of class Blocked or Permanent with the unmet condition; transient where
	// it could not be found out.
	Preflight(ctx context.Context, ref credential.Ref) error
}
