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
	// NegativeControl is how often a wrong password is sent.
	NegativeControl NegativeControl
	// AllowedUsernames are patterns in which * matches any number of characters.
	AllowedUsernames []string
	// Settings is the engine's block in the server's spec, JSON; empty if the spec has none.
	Settings []byte
	// Credentials are the engine's blocks in the specs of the credentials on this server, JSON, for Check; there may be none.
	Credentials [][]byte
}

// Admin is the credential with which rekey changes the others.
type Admin struct {
	Username string
	Password credential.Sensitive
	// Secret is the namespace and name of the Secret that holds both values, for messages; may be empty.
	Secret string
}

// Target is what one credential requests from a server. All of it comes from the credential's spec, so it is known even if the
// server object is missing.
type Target struct {
	// Settings is the engine's block in the credential's spec, JSON.
	Settings []byte
	// Username is the base name: the strategy derives the logins from it.
	Username string
	// Strategy is how a new password takes effect while the old one keeps working.
	Strategy Strategy
	// Create reports whether missing logins are created.
	Create bool
	// PasswordLength and PasswordAlphabet define proposed passwords, with the values of the DatabaseCredential kind.
	PasswordLength   int
	PasswordAlphabet string
}

// Info describes an engine.
type Info struct {
	// Name is the product's name in messages, such as "PostgreSQL".
	Name string
	// MaxLogin is the maximum length of a login's name, in bytes.
	MaxLogin int
}

// Shape is what an engine derives from a target without any server.
type Shape struct {
	// Traits are those of the sessions for the target.
	Traits credential.Traits
	// Logins holds the name of the login in each slot; the slot is empty if there is only one.
	Logins map[string]string
	// SecretType is the type of the user's Secret, and DataKeys are the keys that Bind may return.
	SecretType string
	DataKeys   []string
	// Complete returns the full material of a version, given the username and password in a user's Secret. It fails if rekey
	// cannot have created that password.
	Complete func(credential.Material) (credential.Material, error)
	// Bind returns the data of the user's Secret: the login, and how to reach the server.
	Bind func(server Server, login credential.Material) map[string][]byte
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
	// Info describes the engine. It never changes.
	Info() Info
	// Shape returns what follows from the target alone. It contacts nothing, and needs no server. If no server of this product can
	// serve the target, it returns an error of package fault, class Permanent: unknown settings, a strategy that the product
	// lacks, or a username that it does not allow.
	Shape(target Target) (Shape, error)
	// Check verifies that the server is reachable, protected as declared and writable, and that the admin has every
	// privilege it needs. If something is missing, it returns an error of package fault that names the statement which fixes
	// it.
	Check(ctx context.Context, server Server) (Report, error)
	// Open returns a session for one credential. It may be lazy: the first call that needs the admin connects.
	Open(ctx context.Context, server Server, target Target) (Session, error)
}

// Session is a Source for one credential on one server, and must be closed.
type Session interface {
	credential.Source
	// Close ends every connection of the session. It does not fail.
	Close()
}
