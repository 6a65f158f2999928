// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// This file holds everything about single engines: the enum, the strategies, and the block of each engine in a server and in a
// credential. To add an engine, add its name, its two blocks, its case in each rule and accessor, and its strategy if that is new.

// Engine is the database engine of a server.
// +kubebuilder:validation:Enum=PostgreSQL
type Engine string

// EnginePostgreSQL is PostgreSQL, version 15 or later.
const EnginePostgreSQL Engine = "PostgreSQL"

// Strategy is how a new password takes effect while the old one keeps working.
// +kubebuilder:validation:Enum=AlternatingUsers
type Strategy string

// StrategyAlternatingUsers keeps two logins, username_a and username_b, that act as one owner and take turns: a rotation
// never alters the one that is published.
const StrategyAlternatingUsers Strategy = "AlternatingUsers"

// ServerEngine is the engine of a server, with its settings.
// +kubebuilder:validation:XValidation:rule="(self.engine == 'PostgreSQL') == has(self.postgresql) || (oldSelf.hasValue() && self.engine == oldSelf.value().engine && has(self.postgresql) == has(oldSelf.value().postgresql))",optionalOldSelf=true,message="postgresql must be set with engine PostgreSQL: add postgresql with allowedOwners"
type ServerEngine struct {
	// engine of the server: PostgreSQL.
	// +required
	Engine Engine `json:"engine,omitempty"`
	// postgresql has the settings of a PostgreSQL server. It is required with engine PostgreSQL.
	// +optional
	PostgreSQL *PostgreSQLServer `json:"postgresql,omitempty"`
}

// EngineSettings returns the block of the engine; nil if it is missing.
func (e *ServerEngine) EngineSettings() any {
	if e.Engine == EnginePostgreSQL && e.PostgreSQL != nil {
		return e.PostgreSQL
	}
	return nil
}

// CredentialEngine is the engine of a credential, known from the block that is set.
// +kubebuilder:validation:ExactlyOneOf=postgresql
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.postgresql) || has(self.postgresql)",message="postgresql is immutable: create a new object"
type CredentialEngine struct {
	// postgresql has the settings of a login on a PostgreSQL server. Exactly one engine's block must be set, that of the
	// server's engine. It is immutable.
	// +optional
	PostgreSQL *PostgreSQLCredential `json:"postgresql,omitempty"`
}

// Engine returns the engine whose block is set. Without a block it is PostgreSQL: objects that were stored before the blocks
// existed have none.
func (e *CredentialEngine) Engine() Engine { return EnginePostgreSQL }

// EngineSettings returns the block that is set; nil if there is none.
func (e *CredentialEngine) EngineSettings() any {
	if e.PostgreSQL != nil {
		return e.PostgreSQL
	}
	return nil
}

// PostgreSQLServer has the settings of a PostgreSQL server.
type PostgreSQLServer struct {
	// allowedOwners that the logins of credentials may act as, with * for any sequence of characters. Roles that are superuser,
	// CREATEROLE, REPLICATION or BYPASSRLS, predefined roles (pg_*), and members of any of these are always refused.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	AllowedOwners []RolePattern `json:"allowedOwners,omitempty"`
	// maintenanceDatabase is the database that the admin login connects to. By default that is postgres if the admin can
	// connect to it, otherwise the database of the credential.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_.$-]+$')",message="must be the name of a database: letters, digits, '_', '.', '$' and '-'"
	MaintenanceDatabase string `json:"maintenanceDatabase,omitempty"`
}

// PostgreSQLCredential has the settings of a login on a PostgreSQL server.
type PostgreSQLCredential struct {
	// database that the login is for. It is immutable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_.$-]+$')",message="must be the name of a database: letters, digits, '_', '.', '$' and '-'"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="database is immutable: create a new object"
	Database string `json:"database,omitempty"`
	// owner is the role that both logins act as, so that what one of them creates belongs to both. It must exist. It is
	// immutable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_.$-]*$')",message="must be the name of a role: letters, digits, '_', '.', '$' and '-', starting with a letter or '_'"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('pg_') && self != 'postgres'",message="a system role cannot be the owner: postgres and names that start with pg_ are refused; create a role for the application"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="owner is immutable: create a new object"
	Owner string `json:"owner,omitempty"`
}
