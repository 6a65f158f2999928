// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

// Reason is a CamelCase word for the cause. Reasons are API: conditions, Events, metrics and runbooks carry them.
type Reason string

// Reasons about references and Secrets.
const (
	// AuthorityNotFound: the authority that the identity references does not exist, or does not admit this namespace. Both
	// cases look the same, so that an outsider cannot find out what exists.
	AuthorityNotFound Reason = "AuthorityNotFound"
	// AuthorityNotReady: the authority exists, but cannot sign now.
	AuthorityNotReady Reason = "AuthorityNotReady"
	// PolicyNotFound: the RotationPolicy that the spec references does not exist.
	PolicyNotFound Reason = "PolicyNotFound"
	// ServerNotFound: the DatabaseServer that the spec references does not exist.
	ServerNotFound Reason = "ServerNotFound"
	// EngineMismatch: the block in the spec does not fit the engine of the DatabaseServer, or is missing.
	EngineMismatch Reason = "EngineMismatch"
	// SecretNotFound: a Secret that rekey needs does not exist.
	SecretNotFound Reason = "SecretNotFound"
	// SecretNotAllowed: a source Secret lacks the label that lets rekey use it.
	SecretNotAllowed Reason = "SecretNotAllowed"
	// SecretInvalid: a source Secret or ConfigMap lacks a key or holds something that cannot be parsed.
	SecretInvalid Reason = "SecretInvalid"
	// SecretConflict: the target Secret belongs to another owner.
	SecretConflict Reason = "SecretConflict"
	// HostMismatch: the admin Secret names a different server than the DatabaseServer that references it.
	HostMismatch Reason = "HostMismatch"
	// LedgerInvalid: the ledger cannot be read, or contains names that are not derived from the spec.
	LedgerInvalid Reason = "LedgerInvalid"
)

// Reasons about certificates.
const (
	// ConstraintViolated: the authority's constraints do not allow the request.
	ConstraintViolated Reason = "ConstraintViolated"
	// LifetimeTooLong: the requested lifetime is longer than the authority allows.
	LifetimeTooLong Reason = "LifetimeTooLong"
	// IdentityInvalid: no certificate can be issued with the names or the lifetime in the spec.
	IdentityInvalid Reason = "IdentityInvalid"
	// CertificateInvalid: the issued certificate does not pass the checks before publication.
	CertificateInvalid Reason = "CertificateInvalid"
	// AuthorityExpired: the authority's own certificate, or one above it in the chain, has expired or is about to.
	AuthorityExpired Reason = "AuthorityExpired"
	// AuthorityLost: the authority's key pair is missing, although certificates that it signed are in use.
	AuthorityLost Reason = "AuthorityLost"
	// AuthorityInvalid: the authority's key pair cannot sign: wrong key, not a CA, broken chain.
	AuthorityInvalid Reason = "AuthorityInvalid"
	// UnsupportedAlgorithm: a key or certificate is valid, but uses an algorithm or curve that Go's TLS does not support.
	UnsupportedAlgorithm Reason = "UnsupportedAlgorithm"
	// KeystoreNotWritten: the keystores of the certificate cannot be created; the rest of the Secret is up to date.
	KeystoreNotWritten Reason = "KeystoreNotWritten"
	// IssuanceFailed: signing failed for a reason that may be temporary.
	IssuanceFailed Reason = "IssuanceFailed"
)

// Reasons about databases.
const (
	// ServerUnreachable: the connection failed, timed out or broke.
	ServerUnreachable Reason = "ServerUnreachable"
	// ServerNotReady: the server is starting, stopping or recovering, or has no free connection.
	ServerNotReady Reason = "ServerNotReady"
	// AddressForbidden: the address resolves to a network that rekey does not dial.
	AddressForbidden Reason = "AddressForbidden"
	// ServerCertificateInvalid: the server's certificate is not trusted, has expired, or is for another name.
	ServerCertificateInvalid Reason = "ServerCertificateInvalid"
	// TLSNotOffered: the server does not offer TLS although the spec requires it.
	TLSNotOffered Reason = "TLSNotOffered"
	// AdminRejected: the server refused the admin credential.
	AdminRejected Reason = "AdminRejected"
	// AuthenticationMethodInsecure: the server asked for the admin's password by a method other than SCRAM-SHA-256.
	AuthenticationMethodInsecure Reason = "AuthenticationMethodInsecure"
	// AuthenticationNotEnforced: the server accepts a wrong password (pg_hba "trust"), so a login proves nothing.
	AuthenticationNotEnforced Reason = "AuthenticationNotEnforced"
	// PrivilegeMissing: the admin lacks a privilege; the message contains the GRANT that fixes it.
	PrivilegeMissing Reason = "PrivilegeMissing"
	// ServerReadOnly: the server is a standby or is set to read only.
	ServerReadOnly Reason = "ServerReadOnly"
	// ServerUnsupported: the server is too old, or lacks a feature that rekey needs.
	ServerUnsupported Reason = "ServerUnsupported"
	// DatabaseNotFound: the database in the spec does not exist.
	DatabaseNotFound Reason = "DatabaseNotFound"
	// OwnerNotFound: the role that the logins act as does not exist.
	OwnerNotFound Reason = "OwnerNotFound"
	// OwnerForbidden: the DatabaseServer does not allow the owner role, or the role is too powerful.
	OwnerForbidden Reason = "OwnerForbidden"
	// UsernameForbidden: the login is a system user, or the DatabaseServer does not allow it.
	UsernameForbidden Reason = "UsernameForbidden"
	// LoginExists: the login exists and was not created by rekey.
	LoginExists Reason = "LoginExists"
	// LoginNotFound: the login does not exist, and the spec says not to create it.
	LoginNotFound Reason = "LoginNotFound"
	// LoginForbidden: the password is right, but the server does not let the login in (pg_hba, CONNECT, limits).
	LoginForbidden Reason = "LoginForbidden"
	// Fenced: the marker on the login is newer than ours or names another owner; nothing was changed.
	Fenced Reason = "Fenced"
	// LockTimeout: another transaction holds a lock on the login; rekey retries.
	LockTimeout Reason = "LockTimeout"
	// CredentialRejected: the server rejects the published credential.
	CredentialRejected Reason = "CredentialRejected"
	// CandidateRejected: the server rejects the new credential before it is published.
	CandidateRejected Reason = "CandidateRejected"
	// StillAccepted: a retired credential is still accepted.
	StillAccepted Reason = "StillAccepted"
	// RemoteFailed: the remote system returned an error that has no reason of its own.
	RemoteFailed Reason = "RemoteFailed"
)

// Reasons about rekey's own environment.
const (
	// ClockSkew: rekey's clock and the API server's disagree, or a recorded time is in the future.
	ClockSkew Reason = "ClockSkew"
	// Forbidden: RBAC does not grant rekey a permission that it needs.
	Forbidden Reason = "Forbidden"
	// APIServerFailed: a request to the API server failed.
	APIServerFailed Reason = "APIServerFailed"
	// AdmissionDenied: an admission webhook or policy rejects or changes one of rekey's writes.
	AdmissionDenied Reason = "AdmissionDenied"
	// QuotaExceeded: a ResourceQuota rejects one of rekey's writes.
	QuotaExceeded Reason = "QuotaExceeded"
)
