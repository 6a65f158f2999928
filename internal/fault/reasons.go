// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

// Reason is one CamelCase word that says why. Reasons are API: conditions, Events, metrics and runbooks carry them.
type Reason string

// Reasons about references and Secrets.
const (
	// AuthorityNotFound: the authority that the identity names does not exist, or does not admit this namespace. The
	// two give the same answer, so that nobody can find out what exists.
	AuthorityNotFound Reason = "AuthorityNotFound"
	// AuthorityNotReady: the authority is there, but cannot sign now.
	AuthorityNotReady Reason = "AuthorityNotReady"
	// PolicyNotFound: the RotationPolicy that the spec names does not exist.
	PolicyNotFound Reason = "PolicyNotFound"
	// ServerNotFound: the DatabaseServer that the spec names does not exist.
	ServerNotFound Reason = "ServerNotFound"
	// SecretNotFound: a Secret that must be there is not.
	SecretNotFound Reason = "SecretNotFound"
	// SecretNotAllowed: a source Secret lacks the label that lets rekey use it.
	SecretNotAllowed Reason = "SecretNotAllowed"
	// SecretInvalid: a source Secret or ConfigMap lacks a key or holds something that cannot be parsed.
	SecretInvalid Reason = "SecretInvalid"
	// SecretConflict: the target Secret belongs to another owner.
	SecretConflict Reason = "SecretConflict"
	// HostMismatch: the admin Secret names another server than the DatabaseServer that points to it.
	HostMismatch Reason = "HostMismatch"
	// LedgerInvalid: the ledger cannot be read, or names what the spec does not derive.
	LedgerInvalid Reason = "LedgerInvalid"
)

// Reasons about certificates.
const (
	// ConstraintViolated: the authority's constraints do not allow what was asked for.
	ConstraintViolated Reason = "ConstraintViolated"
	// LifetimeTooLong: the lifetime asked for is longer than the authority allows.
	LifetimeTooLong Reason = "LifetimeTooLong"
	// IdentityInvalid: the names or the lifetime in the spec cannot become a certificate.
	IdentityInvalid Reason = "IdentityInvalid"
	// CertificateInvalid: what was issued does not pass the checks before publication.
	CertificateInvalid Reason = "CertificateInvalid"
	// AuthorityExpired: the authority's own certificate or one above it has expired or is about to.
	AuthorityExpired Reason = "AuthorityExpired"
	// AuthorityLost: the authority's key pair is gone, though certificates of it are in use.
	AuthorityLost Reason = "AuthorityLost"
	// AuthorityInvalid: the authority's key pair cannot sign: wrong key, not a CA, broken chain.
	AuthorityInvalid Reason = "AuthorityInvalid"
	// UnsupportedAlgorithm: a key or a certificate is sound, but of an algorithm or curve that Go's TLS does not support.
	UnsupportedAlgorithm Reason = "UnsupportedAlgorithm"
	// IssueFailed: signing failed for a reason that may pass.
	IssueFailed Reason = "IssueFailed"
)

// Reasons about databases.
const (
	// ServerUnreachable: no connection, a timeout, or a connection that broke.
	ServerUnreachable Reason = "ServerUnreachable"
	// ServerNotReady: the server starts, stops, recovers, or has no free connection.
	ServerNotReady Reason = "ServerNotReady"
	// AddressForbidden: the address resolves to a network that rekey does not dial.
	AddressForbidden Reason = "AddressForbidden"
	// ServerCertificateInvalid: the server's certificate is not trusted, expired, or for another name.
	ServerCertificateInvalid Reason = "ServerCertificateInvalid"
	// TLSNotOffered: the server does not speak TLS though the spec demands it.
	TLSNotOffered Reason = "TLSNotOffered"
	// AdminRejected: the server refused the admin credential.
	AdminRejected Reason = "AdminRejected"
	// AuthenticationMethodInsecure: the server asked for the admin's password by another method than SCRAM-SHA-256.
	AuthenticationMethodInsecure Reason = "AuthenticationMethodInsecure"
	// AuthenticationNotEnforced: the server accepts a wrong password (pg_hba "trust"), so that a login proves nothing.
	AuthenticationNotEnforced Reason = "AuthenticationNotEnforced"
	// PrivilegeMissing: the admin lacks a privilege; the message holds the GRANT that mends it.
	PrivilegeMissing Reason = "PrivilegeMissing"
	// ServerReadOnly: a standby, or a server set to read only.
	ServerReadOnly Reason = "ServerReadOnly"
	// ServerUnsupported: a version or an engine feature that rekey needs is missing.
	ServerUnsupported Reason = "ServerUnsupported"
	// DatabaseNotFound: the database that the spec names does not exist.
	DatabaseNotFound Reason = "DatabaseNotFound"
	// OwnerNotFound: the role that the logins act as does not exist.
	OwnerNotFound Reason = "OwnerNotFound"
	// OwnerForbidden: the owner role is not allowed by the server object, or is too powerful.
	OwnerForbidden Reason = "OwnerForbidden"
	// UsernameForbidden: the login is a system user, or not allowed by the server object.
	UsernameForbidden Reason = "UsernameForbidden"
	// LoginExists: the login was not created by rekey.
	LoginExists Reason = "LoginExists"
	// LoginNotFound: the login does not exist, and the spec says not to create it.
	LoginNotFound Reason = "LoginNotFound"
	// LoginForbidden: the right password, but the server does not let the login in (pg_hba, CONNECT, limits).
	LoginForbidden Reason = "LoginForbidden"
	// Fenced: the mark on the login is newer than ours or names another owner; nothing was changed.
	Fenced Reason = "Fenced"
	// LockTimeout: another transaction holds the login; it is tried again.
	LockTimeout Reason = "LockTimeout"
	// CredentialRejected: the server refuses the credential that is published.
	CredentialRejected Reason = "CredentialRejected"
	// CandidateRejected: the server refuses the new credential before it is published.
	CandidateRejected Reason = "CandidateRejected"
	// StillAccepted: a retired credential goes on being accepted.
	StillAccepted Reason = "StillAccepted"
	// BackendFailed: an answer of the server that has no name of its own.
	BackendFailed Reason = "BackendFailed"
)

// Reasons about the place where rekey itself runs.
const (
	// ClockSkew: our clock and that of the API server disagree, or a recorded time lies in the future.
	ClockSkew Reason = "ClockSkew"
	// Forbidden: the API server's RBAC does not grant rekey a right that it needs.
	Forbidden Reason = "Forbidden"
	// APIServerFailed: a request to the API server failed.
	APIServerFailed Reason = "APIServerFailed"
	// AdmissionDenied: an admission webhook or policy refuses a write of rekey, or undoes it.
	AdmissionDenied Reason = "AdmissionDenied"
	// QuotaExceeded: a ResourceQuota refuses a write of rekey.
	QuotaExceeded Reason = "QuotaExceeded"
)
