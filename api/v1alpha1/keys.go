// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Labels, annotations, types and the finalizer. All that begin with Prefix belong to rekey: a user may set the ones
// whose comment says so, and no other.
const (
	// Prefix of every label and annotation of ours.
	Prefix = "rekey.dev/"

	// LabelManagedBy marks every Secret that rekey writes; the manager caches no other. ManagedBy is its value.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "rekey"
	// LabelKind is the kind of the object that a Secret belongs to.
	LabelKind = Prefix + "kind"
	// LabelRetained marks a ledger whose object was deleted with deletionPolicy Retain.
	LabelRetained = Prefix + "retained"
	// LabelAllow with the value "true" lets rekey read a Secret that it did not create (admin login, CA key pair). It is
	// set by whoever owns that Secret.
	LabelAllow = Prefix + "allow"

	// AnnotationOwner is "<Kind>/<name>" of the object that a Secret belongs to.
	AnnotationOwner = Prefix + "owner"
	// AnnotationOwnerUID is the UID of that object when the Secret was written last.
	AnnotationOwnerUID = Prefix + "owner-uid"
	// AnnotationOwnerNamespace and AnnotationOwnerCluster are where that object is: its namespace, and the UID of the
	// namespace kube-system. A copy of the Secret is told from the Secret by them.
	AnnotationOwnerNamespace = Prefix + "owner-namespace"
	AnnotationOwnerCluster   = Prefix + "owner-cluster"
	// AnnotationOwnerVersion is the highest resource version of that object that the Secret was written for.
	AnnotationOwnerVersion = Prefix + "owner-resource-version"
	// AnnotationRevision is the number of the version that a Secret shows.
	AnnotationRevision = Prefix + "revision"
	// AnnotationManagedMetadata lists the labels and annotations of a Secret that rekey set from a template.
	AnnotationManagedMetadata = Prefix + "managed-metadata"

	// AnnotationAdopt is set by a person on a Secret: "<Kind>/<name>" of the object that may take it over.
	AnnotationAdopt = Prefix + "adopt"
	// AnnotationTakeOverFrom is set by a person on an object whose Secrets or logins belonged to an object of this kind in
	// another namespace or cluster: "<cluster>/<namespace>/<name>" of that one, "<cluster>/<namespace>" if it had this
	// name, "<cluster>" if it also was in this namespace.
	AnnotationTakeOverFrom = Prefix + "take-over-from"
	// AnnotationTakeOverHonoured remembers on a Secret from which owner, and when, its credential was taken over last.
	AnnotationTakeOverHonoured = Prefix + "take-over-honoured"
	// AnnotationRotate is set by a person on a credential: any new value rotates it now.
	AnnotationRotate = Prefix + "rotate"
	// AnnotationRetirePrevious is set by a person on a credential: any new value ends the overlap now.
	AnnotationRetirePrevious = Prefix + "retire-previous"
	// AnnotationRotateSeen and AnnotationRotateHonoured remember the value of AnnotationRotate on a Secret without ledger.
	AnnotationRotateSeen     = Prefix + "rotate-seen"
	AnnotationRotateHonoured = Prefix + "rotate-honoured"

	// Finalizer of a DatabaseCredential: the ledger and the logins are withdrawn before the object goes.
	Finalizer = Prefix + "withdraw"

	// SecretTypeLedger is the type of a ledger. SecretTypePostgreSQL is that of a published PostgreSQL login (Service
	// Binding for Kubernetes 1.1, "Well-known Secret Entries").
	SecretTypeLedger     = "rekey.dev/ledger"
	SecretTypePostgreSQL = "servicebinding.io/postgresql"
)
