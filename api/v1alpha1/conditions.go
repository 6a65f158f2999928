// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Types of conditions. Those marked "Only while True" are absent otherwise.
const (
	// ConditionReady: the published credential (or the authority, server or policy) can be used. True with Published,
	// Serving or Accepted; False with Expired, any other Warning reason below, or Suspended if nothing has been issued yet; Unknown
	// with Progressing.
	ConditionReady = "Ready"
	// ConditionReconciling: the first version, a spec change or a recovery is in progress. Only while True (kstatus).
	ConditionReconciling = "Reconciling"
	// ConditionStalled: external action is needed; the message names it. Only while True (kstatus).
	ConditionStalled = "Stalled"
	// ConditionExpiringSoon: the deadline is near and the credential has not been rotated. Only while True. Reasons: ExpiresSoon,
	// ExpiresImminently, Expired.
	ConditionExpiringSoon = "ExpiringSoon"
	// ConditionRotationOverdue: a rotation was due and has not happened. Only while True. Reason: RotationOverdue.
	ConditionRotationOverdue = "RotationOverdue"
	// ConditionRotating: a rotation is in progress while the published credential keeps working. Only while True. Reasons:
	// Scheduled, SpecChanged, Requested, Overlapping.
	ConditionRotating = "Rotating"
	// ConditionSuspended: the spec or the policy has suspended rotation. Only while True. Reason: Suspended.
	ConditionSuspended = "Suspended"
	// ConditionVerified: the published credential has been proven at the server, at the time and place in the message. True with
	// LoggedIn; False with CredentialRejected; Unknown with NotProven.
	ConditionVerified = "Verified"
	// ConditionPreviousInUse: sessions of the previous login are still open. Only while True. Reason: SessionsOpen.
	ConditionPreviousInUse = "PreviousInUse"
)

// Reasons that are not warnings.
const (
	// ReasonPublished: the Secret shows the current version.
	ReasonPublished = "Published"
	// ReasonServing: the authority can sign, or the server can be used.
	ReasonServing = "Serving"
	// ReasonAccepted: the policy can be used.
	ReasonAccepted = "Accepted"
	// ReasonProgressing: work is in progress.
	ReasonProgressing = "Progressing"
	// ReasonScheduled: the rotation was due.
	ReasonScheduled = "Scheduled"
	// ReasonSpecChanged: the spec requires a version other than the current one.
	ReasonSpecChanged = "SpecChanged"
	// ReasonRequested: a user requested the rotation.
	ReasonRequested = "Requested"
	// ReasonOverlapping: the new version is published and the previous one is still accepted.
	ReasonOverlapping = "Overlapping"
	// ReasonSuspended: the spec or the policy has suspended rotation.
	ReasonSuspended = "Suspended"
	// ReasonLoggedIn: the published credential logged in.
	ReasonLoggedIn = "LoggedIn"
	// ReasonNotProven: the published credential has not been proven since rekey started, or the server did not answer.
	ReasonNotProven = "NotProven"
	// ReasonSessionsOpen: sessions of the previous login are still open.
	ReasonSessionsOpen = "SessionsOpen"
	// ReasonIssued: a certificate was published (Event).
	ReasonIssued = "Issued"
	// ReasonRotated: a new version was published (Event).
	ReasonRotated = "Rotated"
	// ReasonRetired: the previous version is now refused (Event).
	ReasonRetired = "Retired"
	// ReasonAdopted: an existing Secret was adopted, as its rekey.dev/adopt annotation allows (Event).
	ReasonAdopted = "Adopted"
	// ReasonKeystoreWritten: keystores were written for a certificate that was published before (Event).
	ReasonKeystoreWritten = "KeystoreWritten"
	// ReasonResumed: rotation has resumed (Event).
	ReasonResumed = "Resumed"
	// ReasonRecovered: an earlier problem is resolved (Event).
	ReasonRecovered = "Recovered"
)

// Warning reasons about time.
const (
	// ReasonExpiresSoon: the deadline is near and the credential has not been rotated.
	ReasonExpiresSoon = "ExpiresSoon"
	// ReasonExpiresImminently: the deadline is very near.
	ReasonExpiresImminently = "ExpiresImminently"
	// ReasonExpired: the certificate has expired, or the password is older than maxAge.
	ReasonExpired = "Expired"
	// ReasonRotationOverdue: a rotation was due and has not happened.
	ReasonRotationOverdue = "RotationOverdue"
	// ReasonCleanupIncomplete: a deleted object was released although not everything that belonged to it could be removed (Event).
	ReasonCleanupIncomplete = "CleanupIncomplete"
)

// Warning reasons about references and Secrets. They are the same as those in internal/fault.
const (
	// ReasonAuthorityNotFound: the authority that the identity references does not exist, or does not admit this namespace. Both
	// cases look the same, so that an outsider cannot find out what exists.
	ReasonAuthorityNotFound = "AuthorityNotFound"
	// ReasonAuthorityNotReady: the authority exists, but cannot sign now.
	ReasonAuthorityNotReady = "AuthorityNotReady"
	// ReasonPolicyNotFound: the RotationPolicy that the spec references does not exist.
	ReasonPolicyNotFound = "PolicyNotFound"
	// ReasonServerNotFound: the DatabaseServer that the spec references does not exist.
	ReasonServerNotFound = "ServerNotFound"
	// ReasonEngineMismatch: the block in the spec does not fit the engine of the DatabaseServer, or is missing.
	ReasonEngineMismatch = "EngineMismatch"
	// ReasonSecretNotFound: a Secret that rekey needs does not exist.
	ReasonSecretNotFound = "SecretNotFound"
	// ReasonSecretNotAllowed: a source Secret lacks the label that lets rekey use it.
	ReasonSecretNotAllowed = "SecretNotAllowed"
	// ReasonSecretInvalid: a source Secret or ConfigMap lacks a key or holds something that cannot be parsed.
	ReasonSecretInvalid = "SecretInvalid"
	// ReasonSecretConflict: the target Secret belongs to another owner.
	ReasonSecretConflict = "SecretConflict"
	// ReasonHostMismatch: the admin Secret names a different server than the DatabaseServer that references it.
	ReasonHostMismatch = "HostMismatch"
	// ReasonLedgerInvalid: the ledger cannot be read, or contains names that are not derived from the spec.
	ReasonLedgerInvalid = "LedgerInvalid"
)

// Warning reasons about certificates. They are the same as those in internal/fault.
const (
	// ReasonConstraintViolated: the authority's constraints do not allow the request.
	ReasonConstraintViolated = "ConstraintViolated"
	// ReasonLifetimeTooLong: the requested lifetime is longer than the authority allows.
	ReasonLifetimeTooLong = "LifetimeTooLong"
	// ReasonIdentityInvalid: no certificate can be issued with the names or the lifetime in the spec.
	ReasonIdentityInvalid = "IdentityInvalid"
	// ReasonCertificateInvalid: the issued certificate does not pass the checks before publication.
	ReasonCertificateInvalid = "CertificateInvalid"
	// ReasonAuthorityExpired: the authority's own certificate, or one above it in the chain, has expired or is about to.
	ReasonAuthorityExpired = "AuthorityExpired"
	// ReasonAuthorityLost: the authority's key pair is missing, although certificates that it signed are in use.
	ReasonAuthorityLost = "AuthorityLost"
	// ReasonAuthorityInvalid: the authority's key pair cannot sign: wrong key, not a CA, broken chain.
	ReasonAuthorityInvalid = "AuthorityInvalid"
	// ReasonUnsupportedAlgorithm: a key or certificate is valid, but uses an algorithm or curve that Go's TLS does not support.
	ReasonUnsupportedAlgorithm = "UnsupportedAlgorithm"
	// ReasonKeystoreNotWritten: the keystores of the certificate cannot be created; the rest of the Secret is up to date.
	ReasonKeystoreNotWritten = "KeystoreNotWritten"
	// ReasonIssuanceFailed: signing failed for a reason that may be temporary.
	ReasonIssuanceFailed = "IssuanceFailed"
)

// Warning reasons about databases. They are the same as those in internal/fault.
const (
	// ReasonServerUnreachable: the connection failed, timed out or broke.
	ReasonServerUnreachable = "ServerUnreachable"
	// ReasonServerNotReady: the server is starting, stopping or recovering, or has no free connection.
	ReasonServerNotReady = "ServerNotReady"
	// ReasonAddressForbidden: the address resolves to a network that rekey does not dial.
	ReasonAddressForbidden = "AddressForbidden"
	// ReasonServerCertificateInvalid: the server's certificate is not trusted, has expired, or is for another name.
	ReasonServerCertificateInvalid = "ServerCertificateInvalid"
	// ReasonTLSNotOffered: the server does not offer TLS although the spec requires it.
	ReasonTLSNotOffered = "TLSNotOffered"
	// ReasonAdminRejected: the server refused the admin credential.
	ReasonAdminRejected = "AdminRejected"
	// ReasonAuthenticationMethodInsecure: the server asked for the admin's password by a method other than SCRAM-SHA-256.
	ReasonAuthenticationMethodInsecure = "AuthenticationMethodInsecure"
	// ReasonAuthenticationNotEnforced: the server accepts a wrong password (pg_hba "trust"), so a login proves nothing.
	ReasonAuthenticationNotEnforced = "AuthenticationNotEnforced"
	// ReasonPrivilegeMissing: the admin lacks a privilege; the message contains the GRANT that fixes it.
	ReasonPrivilegeMissing = "PrivilegeMissing"
	// ReasonServerReadOnly: the server is a standby or is set to read only.
	ReasonServerReadOnly = "ServerReadOnly"
	// ReasonServerUnsupported: the server is too old, or lacks a feature that rekey needs.
	ReasonServerUnsupported = "ServerUnsupported"
	// ReasonDatabaseNotFound: the database in the spec does not exist.
	ReasonDatabaseNotFound = "DatabaseNotFound"
	// ReasonOwnerNotFound: the role that the logins act as does not exist.
	ReasonOwnerNotFound = "OwnerNotFound"
	// ReasonOwnerForbidden: the DatabaseServer does not allow the owner role, or the role is too powerful.
	ReasonOwnerForbidden = "OwnerForbidden"
	// ReasonUsernameForbidden: the login is a system user, or the DatabaseServer does not allow it.
	ReasonUsernameForbidden = "UsernameForbidden"
	// ReasonLoginExists: the login exists and was not created by rekey.
	ReasonLoginExists = "LoginExists"
	// ReasonLoginNotFound: the login does not exist, and the spec says not to create it.
	ReasonLoginNotFound = "LoginNotFound"
	// ReasonLoginForbidden: the password is right, but the server does not let the login in (pg_hba, CONNECT, limits).
	ReasonLoginForbidden = "LoginForbidden"
	// ReasonFenced: the marker on the login is newer than ours or names another owner; nothing was changed.
	ReasonFenced = "Fenced"
	// ReasonLockTimeout: another transaction holds a lock on the login; rekey retries.
	ReasonLockTimeout = "LockTimeout"
	// ReasonCredentialRejected: the server rejects the published credential.
	ReasonCredentialRejected = "CredentialRejected"
	// ReasonCandidateRejected: the server rejects the new credential before it is published.
	ReasonCandidateRejected = "CandidateRejected"
	// ReasonStillAccepted: a retired credential is still accepted.
	ReasonStillAccepted = "StillAccepted"
	// ReasonRemoteFailed: the remote system returned an error that has no reason of its own.
	ReasonRemoteFailed = "RemoteFailed"
)

// Warning reasons about rekey's own environment. They are the same as those in internal/fault.
const (
	// ReasonClockSkew: rekey's clock and the API server's disagree, or a recorded time is in the future.
	ReasonClockSkew = "ClockSkew"
	// ReasonForbidden: RBAC does not grant rekey a permission that it needs.
	ReasonForbidden = "Forbidden"
	// ReasonAPIServerFailed: a request to the API server failed.
	ReasonAPIServerFailed = "APIServerFailed"
	// ReasonAdmissionDenied: an admission webhook or policy rejects or changes one of rekey's writes.
	ReasonAdmissionDenied = "AdmissionDenied"
	// ReasonQuotaExceeded: a ResourceQuota rejects one of rekey's writes.
	ReasonQuotaExceeded = "QuotaExceeded"
)
