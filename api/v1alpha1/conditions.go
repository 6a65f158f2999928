// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Types of conditions. Those marked "only while True" are absent otherwise.
const (
	// ConditionReady: the published credential (or the authority, server or policy) can be used. True with Published,
	// Serving or Accepted; False with Expired, any other Warning reason below, or Suspended where nothing was issued yet; Unknown
	// with Progressing.
	ConditionReady = "Ready"
	// ConditionReconciling: first issue, a change of the spec, or recovery is under way. Only while True (kstatus).
	ConditionReconciling = "Reconciling"
	// ConditionStalled: nothing more will happen until a person acts; the reason says what. Only while True (kstatus).
	ConditionStalled = "Stalled"
	// ConditionExpiringSoon: the deadline is near and no rotation has happened. Only while True. Reasons: ExpiresSoon,
	// ExpiresImminently, Expired.
	ConditionExpiringSoon = "ExpiringSoon"
	// ConditionRotationOverdue: a rotation was due and has not happened. Only while True. Reason: RotationOverdue.
	ConditionRotationOverdue = "RotationOverdue"
	// ConditionRotating: a rotation is under way while the published credential goes on working. Only while True. Reasons:
	// Scheduled, SpecChanged, Requested, Overlapping.
	ConditionRotating = "Rotating"
	// ConditionSuspended: rotations are stopped by the spec or the policy. Only while True. Reason: Suspended.
	ConditionSuspended = "Suspended"
	// ConditionVerified: the published credential was proven at the server, when and where. True with LoggedIn; False
	// with CredentialRejected; Unknown with NotProven.
	ConditionVerified = "Verified"
	// ConditionPreviousInUse: sessions of the previous login are still open. Only while True. Reason: SessionsOpen.
	ConditionPreviousInUse = "PreviousInUse"
)

// Reasons that are no warnings.
const (
	// ReasonPublished: the Secret shows the current version.
	ReasonPublished = "Published"
	// ReasonServing: the authority can sign, or the server can be used.
	ReasonServing = "Serving"
	// ReasonAccepted: the policy can be used.
	ReasonAccepted = "Accepted"
	// ReasonProgressing: work is under way.
	ReasonProgressing = "Progressing"
	// ReasonScheduled: the rotation was due.
	ReasonScheduled = "Scheduled"
	// ReasonSpecChanged: the spec wants another version than the current one.
	ReasonSpecChanged = "SpecChanged"
	// ReasonRequested: a person asked for a rotation.
	ReasonRequested = "Requested"
	// ReasonOverlapping: the new version is published, the previous one is still accepted.
	ReasonOverlapping = "Overlapping"
	// ReasonSuspended: rotations are stopped by the spec or the policy.
	ReasonSuspended = "Suspended"
	// ReasonLoggedIn: the published credential logged in.
	ReasonLoggedIn = "LoggedIn"
	// ReasonNotProven: the published credential was not tried since rekey started, or nobody answered.
	ReasonNotProven = "NotProven"
	// ReasonSessionsOpen: sessions of the previous login are still open.
	ReasonSessionsOpen = "SessionsOpen"
	// ReasonIssued: a certificate was published (Event).
	ReasonIssued = "Issued"
	// ReasonRotated: a new version was published (Event).
	ReasonRotated = "Rotated"
	// ReasonRetired: the previous version is refused now (Event).
	ReasonRetired = "Retired"
	// ReasonTookOver: a Secret changed hands, as its rekey.dev/adopt annotation says (Event).
	ReasonTookOver = "TookOver"
	// ReasonResumed: rotations go on (Event).
	ReasonResumed = "Resumed"
	// ReasonRecovered: what was wrong is right again (Event).
	ReasonRecovered = "Recovered"
)

// Warning reasons about time.
const (
	// ReasonExpiresSoon: the deadline is near and no rotation has happened.
	ReasonExpiresSoon = "ExpiresSoon"
	// ReasonExpiresImminently: the deadline is very near.
	ReasonExpiresImminently = "ExpiresImminently"
	// ReasonExpired: the certificate has expired, or the password is older than maxAge.
	ReasonExpired = "Expired"
	// ReasonRotationOverdue: a rotation was due and has not happened.
	ReasonRotationOverdue = "RotationOverdue"
	// ReasonLeftBehind: a deleted object was released although not everything of it could be removed (Event).
	ReasonLeftBehind = "LeftBehind"
)

// Warning reasons about references and Secrets. They are those of internal/fault.
const (
	// ReasonAuthorityNotFound: the authority that the identity names does not exist, or does not admit this namespace. The
	// two give the same answer, so that nobody can find out what exists.
	ReasonAuthorityNotFound = "AuthorityNotFound"
	// ReasonAuthorityNotReady: the authority is there, but cannot sign now.
	ReasonAuthorityNotReady = "AuthorityNotReady"
	// ReasonPolicyNotFound: the RotationPolicy that the spec names does not exist.
	ReasonPolicyNotFound = "PolicyNotFound"
	// ReasonServerNotFound: the DatabaseServer that the spec names does not exist.
	ReasonServerNotFound = "ServerNotFound"
	// ReasonSecretNotFound: a Secret that must be there is not.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretNotAllowed: a source Secret lacks the label that lets rekey use it.
	ReasonSecretNotAllowed = "SecretNotAllowed"
	// ReasonSecretInvalid: a source Secret or ConfigMap lacks a key or holds something that cannot be parsed.
	ReasonSecretInvalid = "SecretInvalid"
	// ReasonSecretConflict: the target Secret belongs to another owner.
	ReasonSecretConflict = "SecretConflict"
	// ReasonHostMismatch: the admin Secret names another server than the DatabaseServer that points to it.
	ReasonHostMismatch = "HostMismatch"
	// ReasonLedgerInvalid: the ledger cannot be read, or names what the spec does not derive.
	ReasonLedgerInvalid = "LedgerInvalid"
)

// Warning reasons about certificates. They are those of internal/fault.
const (
	// ReasonConstraintViolated: the authority's constraints do not allow what was asked for.
	ReasonConstraintViolated = "ConstraintViolated"
	// ReasonLifetimeTooLong: the lifetime asked for is longer than the authority allows.
	ReasonLifetimeTooLong = "LifetimeTooLong"
	// ReasonIdentityInvalid: the names or the lifetime in the spec cannot become a certificate.
	ReasonIdentityInvalid = "IdentityInvalid"
	// ReasonCertificateInvalid: what was issued does not pass the checks before publication.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonAuthorityExpired: the authority's own certificate or one above it has expired or is about to.
	ReasonAuthorityExpired = "AuthorityExpired"
	// ReasonAuthorityLost: the authority's key pair is gone, though certificates of it are in use.
	ReasonAuthorityLost = "AuthorityLost"
	// ReasonAuthorityInvalid: the authority's key pair cannot sign: wrong key, not a CA, broken chain.
	ReasonAuthorityInvalid = "AuthorityInvalid"
	// ReasonUnsupportedAlgorithm: a key or a certificate is sound, but of an algorithm or curve that Go's TLS does not support.
	ReasonUnsupportedAlgorithm = "UnsupportedAlgorithm"
	// ReasonIssueFailed: signing failed for a reason that may pass.
	ReasonIssueFailed = "IssueFailed"
)

// Warning reasons about databases. They are those of internal/fault.
const (
	// ReasonServerUnreachable: no connection, a timeout, or a connection that broke.
	ReasonServerUnreachable = "ServerUnreachable"
	// ReasonServerNotReady: the server starts, stops, recovers, or has no free connection.
	ReasonServerNotReady = "ServerNotReady"
	// ReasonAddressForbidden: the address resolves to a network that rekey does not dial.
	ReasonAddressForbidden = "AddressForbidden"
	// ReasonServerCertificateInvalid: the server's certificate is not trusted, expired, or for another name.
	ReasonServerCertificateInvalid = "ServerCertificateInvalid"
	// ReasonTLSNotOffered: the server does not speak TLS though the spec demands it.
	ReasonTLSNotOffered = "TLSNotOffered"
	// ReasonAdminRejected: the server refused the admin credential.
	ReasonAdminRejected = "AdminRejected"
	// ReasonAuthenticationMethodInsecure: the server asked for the admin's password by another method than SCRAM-SHA-256.
	ReasonAuthenticationMethodInsecure = "AuthenticationMethodInsecure"
	// ReasonAuthenticationNotEnforced: the server accepts a wrong password (pg_hba "trust"), so that a login proves nothing.
	ReasonAuthenticationNotEnforced = "AuthenticationNotEnforced"
	// ReasonPrivilegeMissing: the admin lacks a privilege; the message holds the GRANT that mends it.
	ReasonPrivilegeMissing = "PrivilegeMissing"
	// ReasonServerReadOnly: a standby, or a server set to read only.
	ReasonServerReadOnly = "ServerReadOnly"
	// ReasonServerUnsupported: a version or an engine feature that rekey needs is missing.
	ReasonServerUnsupported = "ServerUnsupported"
	// ReasonDatabaseNotFound: the database that the spec names does not exist.
	ReasonDatabaseNotFound = "DatabaseNotFound"
	// ReasonOwnerNotFound: the role that the logins act as does not exist.
	ReasonOwnerNotFound = "OwnerNotFound"
	// ReasonOwnerForbidden: the owner role is not allowed by the server object, or is too powerful.
	ReasonOwnerForbidden = "OwnerForbidden"
	// ReasonUsernameForbidden: the login is a system user, or not allowed by the server object.
	ReasonUsernameForbidden = "UsernameForbidden"
	// ReasonLoginExists: the login was not created by rekey.
	ReasonLoginExists = "LoginExists"
	// ReasonLoginNotFound: the login does not exist, and the spec says not to create it.
	ReasonLoginNotFound = "LoginNotFound"
	// ReasonLoginForbidden: the right password, but the server does not let the login in (pg_hba, CONNECT, limits).
	ReasonLoginForbidden = "LoginForbidden"
	// ReasonFenced: the mark on the login is newer than ours or names another owner; nothing was changed.
	ReasonFenced = "Fenced"
	// ReasonLockTimeout: another transaction holds the login; it is tried again.
	ReasonLockTimeout = "LockTimeout"
	// ReasonCredentialRejected: the server refuses the credential that is published.
	ReasonCredentialRejected = "CredentialRejected"
	// ReasonCandidateRejected: the server refuses the new credential before it is published.
	ReasonCandidateRejected = "CandidateRejected"
	// ReasonStillAccepted: a retired credential goes on being accepted.
	ReasonStillAccepted = "StillAccepted"
	// ReasonBackendFailed: an answer of the server that has no name of its own.
	ReasonBackendFailed = "BackendFailed"
)

// Warning reasons about the place where rekey itself runs. They are those of internal/fault.
const (
	// ReasonClockSkew: our clock and that of the API server disagree, or a recorded time lies in the future.
	ReasonClockSkew = "ClockSkew"
	// ReasonForbidden: the API server's RBAC does not grant rekey a right that it needs.
	ReasonForbidden = "Forbidden"
	// ReasonAPIServerFailed: a request to the API server failed.
	ReasonAPIServerFailed = "APIServerFailed"
	// ReasonAdmissionDenied: an admission webhook or policy refuses a write of rekey, or undoes it.
	ReasonAdmissionDenied = "AdmissionDenied"
	// ReasonQuotaExceeded: a ResourceQuota refuses a write of rekey.
	ReasonQuotaExceeded = "QuotaExceeded"
)
