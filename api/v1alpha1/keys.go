// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Labels, annotations, types and the finalizer. All names that start with Prefix are reserved for rekey; users may set only
// those documented as set by a user.
const (
	// Prefix of every label and annotation of rekey.
	Prefix = "rekey.dev/"

	// LabelManagedBy is on every Secret that rekey writes; the manager caches no others. ManagedBy is its value.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "rekey"
	// LabelKind is the kind of the object that a Secret belongs to.
	LabelKind = Prefix + "kind"
	// LabelRetained is on a ledger whose object was deleted with deletionPolicy Retain.
	LabelRetained = Prefix + "retained"
	// LabelAllow with the value "true" allows rekey to read a Secret that it did not create (admin login, CA key pair). It is set
	// by the user who owns that Secret.
	LabelAllow = Prefix + "allow"

	// AnnotationOwner is "<Kind>/<name>" of the object that a Secret belongs to.
	AnnotationOwner = Prefix + "owner"
	// AnnotationOwnerUID is the UID of that object when the Secret was last written.
	AnnotationOwnerUID = Prefix + "owner-uid"
	// AnnotationOwnerNamespace and AnnotationOwnerCluster are where that object is: its namespace, and the UID of the
	// namespace kube-system. They distinguish a copy of the Secret from the original.
	AnnotationOwnerNamespace = Prefix + "owner-namespace"
	AnnotationOwnerCluster   = Prefix + "owner-cluster"
	// AnnotationOwnerVersion is the highest resource version of that object that the Secret was written for.
	AnnotationOwnerVersion = Prefix + "owner-resource-version"
	// AnnotationRevision is the number of the version that a Secret shows.
	AnnotationRevision = Prefix + "revision"
	// AnnotationIssuedAt is when a certificate was issued (RFC 3339), where the certificate itself does not show it.
	AnnotationIssuedAt = Prefix + "issued-at"
	// AnnotationKeystores records which version the keystores in a Secret were written for, when that expires, and a keyed hash
	// of what went into them.
	AnnotationKeystores = Prefix + "keystores"
	// AnnotationManagedMetadata lists the labels and annotations of a Secret that rekey set from a template.
	AnnotationManagedMetadata = Prefix + "managed-metadata"

	// AnnotationAdopt is set by a user on a Secret: "<Kind>/<name>" of the object that may adopt it.
	AnnotationAdopt = Prefix + "adopt"
	// AnnotationTakeOverFrom is set by a user on an object whose Secrets or logins belonged to an object of the same kind in
	// another namespace or cluster: "<cluster>/<namespace>/<name>" of the former owner, "<cluster>/<namespace>" if it had the
	// same name, "<cluster>" if it was also in the same namespace.
	AnnotationTakeOverFrom = Prefix + "take-over-from"
	// AnnotationTakeOverHonored records on a Secret the last takeover of its credential: the former owner and the time.
	AnnotationTakeOverHonored = Prefix + "take-over-honoured"
	// AnnotationRotate is set by a user on a credential: any new value rotates it now.
	AnnotationRotate = Prefix + "rotate"
	// AnnotationRetirePrevious is set by a user on a credential: any new value ends the overlap now.
	AnnotationRetirePrevious = Prefix + "retire-previous"
	// AnnotationRotateSeen and AnnotationRotateHonored record the value of AnnotationRotate on a Secret without a ledger.
	AnnotationRotateSeen    = Prefix + "rotate-seen"
	AnnotationRotateHonored = Prefix + "rotate-honoured"

	// Finalizer of a DatabaseCredential: the ledger and the logins are withdrawn before the object is removed.
	Finalizer = Prefix + "withdraw"

	// SecretTypeLedger is the type of a ledger. SecretTypePostgreSQL is that of a published PostgreSQL login (Service
	// Binding for Kubernetes 1.1, "Well-known Secret Entries").
	SecretTypeLedger     = "rekey.dev/ledger"
	SecretTypePostgreSQL = "servicebinding.io/postgresql"
)
