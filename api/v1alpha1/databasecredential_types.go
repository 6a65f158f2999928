// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ServerKind is the kind of a database server.
// +kubebuilder:validation:Enum=DatabaseServer
type ServerKind string

// ServerKindNamespaced is a DatabaseServer in the same namespace.
const ServerKindNamespaced ServerKind = "DatabaseServer"

// ServerReference names a database server.
type ServerReference struct {
	// group of the server object: rekey.dev, which is the default.
	// +optional
	// +default="rekey.dev"
	// +kubebuilder:validation:Enum="rekey.dev"
	Group string `json:"group,omitempty"`
	// kind of the server object: DatabaseServer, which is the default.
	// +optional
	// +default="DatabaseServer"
	Kind ServerKind `json:"kind,omitempty"`
	// name of the server object, in the same namespace.
	// +required
	Name ObjectName `json:"name,omitempty"`
}

// CreatePolicy determines whether rekey creates logins.
// +kubebuilder:validation:Enum=Missing;Never
type CreatePolicy string

const (
	// CreateMissing creates missing logins.
	CreateMissing CreatePolicy = "Missing"
	// CreateNever creates none: rekey created both logins before, and they must still exist.
	CreateNever CreatePolicy = "Never"
)

// Alphabet of a password.
// +kubebuilder:validation:Enum=Alphanumeric;WithSymbols
type Alphabet string

const (
	// AlphabetAlphanumeric is A-Z, a-z and 0-9: safe in every URI, file and shell.
	AlphabetAlphanumeric Alphabet = "Alphanumeric"
	// AlphabetWithSymbols adds symbols; a password has at least one of each class.
	AlphabetWithSymbols Alphabet = "WithSymbols"
)

// PasswordSpec defines what passwords look like. A change rotates the password.
// +kubebuilder:validation:MinProperties=1
type PasswordSpec struct {
	// length in characters, from 16 to 128; 32 by default.
	// +optional
	// +default=32
	// +kubebuilder:validation:Minimum=16
	// +kubebuilder:validation:Maximum=128
	Length int32 `json:"length,omitempty"`
	// alphabet is Alphanumeric (default) or WithSymbols.
	// +optional
	// +default="Alphanumeric"
	Alphabet Alphabet `json:"alphabet,omitempty"`
}

// DatabaseCredentialSpec is a login that rotates.
type DatabaseCredentialSpec struct {
	// deletionPolicy determines what happens to the logins, the Secret and the ledger when this object is deleted: Retain
	// (default) keeps them all; Delete drops the logins that rekey created, and only those, and deletes the Secrets.
	// +optional
	// +default="Retain"
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
	// suspend stops rotations while true. Warnings continue.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// serverRef names the server. It is immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="serverRef is immutable: create a new object"
	ServerRef ServerReference `json:"serverRef,omitzero"`

	CredentialEngine `json:",inline"`

	// username is the base name of the logins username_a and username_b. At most 61 characters. It is immutable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=61
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z_][A-Za-z0-9_.$-]*$')",message="must be the name of a role: letters, digits, '_', '.', '$' and '-', starting with a letter or '_'"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('pg_') && self != 'postgres'",message="system users are never rotated: postgres and names that start with pg_ are refused; choose another username"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="username is immutable: create a new object"
	Username string `json:"username,omitempty"`
	// strategy is AlternatingUsers. It is immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="strategy is immutable: create a new object"
	Strategy Strategy `json:"strategy,omitempty"`
	// create determines whether missing logins are created: Missing (default) or Never.
	// +optional
	// +default="Missing"
	Create CreatePolicy `json:"create,omitempty"`
	// password defines what passwords look like.
	// +optional
	// +default={"length": 32, "alphabet": "Alphanumeric"}
	Password PasswordSpec `json:"password,omitzero"`
	// rotationPolicyRef names a RotationPolicy in the same namespace. Without it, the password rotates only on request, and the
	// previous login is retired after an hour.
	// +optional
	RotationPolicyRef *LocalReference `json:"rotationPolicyRef,omitempty"`
	// secretName of the Secret to write, of type servicebinding.io/postgresql with the keys type, provider, host, port,
	// database, username, password, sslmode, certificates and uri. It is immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="secretName is immutable: create a new object"
	SecretName ObjectName `json:"secretName,omitempty"`
	// secretTemplate is metadata for the Secret.
	// +optional
	SecretTemplate *SecretTemplate `json:"secretTemplate,omitempty"`
}

// PreviousLogin is the login that was published before.
type PreviousLogin struct {
	// username of the login.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Username string `json:"username,omitempty"`
	// retireAfter is when it may be retired.
	// +optional
	RetireAfter *metav1.Time `json:"retireAfter,omitempty"`
	// sessions that were still open with it when it was last checked.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Sessions *int32 `json:"sessions,omitempty"`
}

// LoginProof is when and where a login last proved the published credential. The status is updated at most once a day while
// nothing else changes.
type LoginProof struct {
	// endpoint of the login, host:port.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=259
	Endpoint string `json:"endpoint,omitempty"`
	// login that was used.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Login string `json:"login,omitempty"`
	// time of the proof.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
}

// DatabaseCredentialStatus is the last observed state. rekey never reads it back.
type DatabaseCredentialStatus struct {
	// conditions of type Ready, Reconciling, Stalled, ExpiringSoon, RotationOverdue, Rotating, Suspended, Verified, PreviousInUse.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// observedGeneration is the generation of the spec that the conditions are about.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// revision of the credential in the Secret, counted from 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Revision int64 `json:"revision,omitempty"`
	// activeUsername is the login in the Secret.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	ActiveUsername string `json:"activeUsername,omitempty"`
	// lastRotationTime is when the credential in the Secret became the current one.
	// +optional
	LastRotationTime *metav1.Time `json:"lastRotationTime,omitempty"`
	// nextRotationTime is when the next rotation is due.
	// +optional
	NextRotationTime *metav1.Time `json:"nextRotationTime,omitempty"`
	// nextAttemptTime is when rekey retries what failed; absent if nothing failed, and during the first minutes of a failure,
	// when rekey retries within two minutes.
	// +optional
	NextAttemptTime *metav1.Time `json:"nextAttemptTime,omitempty"`
	// binding names the Secret (Service Binding for Kubernetes).
	// +optional
	Binding *Binding `json:"binding,omitempty"`
	// previous login, while it is still accepted.
	// +optional
	Previous *PreviousLogin `json:"previous,omitempty"`
	// proof that the published credential logs in.
	// +optional
	Proof *LoginProof `json:"proof,omitempty"`
}

// DatabaseCredential is a database login with a password that rotates: every new password is proven by logging in before it is
// published, and the old one is retired only after the overlap.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=rekey,shortName=rdc
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Next rotation",type=string,JSONPath=`.status.nextRotationTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Secret",type=string,priority=1,JSONPath=`.spec.secretName`
// +kubebuilder:printcolumn:name="Revision",type=integer,priority=1,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Login",type=string,priority=1,JSONPath=`.status.activeUsername`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type DatabaseCredential struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec is the desired state.
	// +required
	Spec DatabaseCredentialSpec `json:"spec,omitzero"`
	// status is the last observed state.
	// +optional
	Status DatabaseCredentialStatus `json:"status,omitzero"`
}

// DatabaseCredentialList is a list of credentials.
//
// +kubebuilder:object:root=true
type DatabaseCredentialList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []DatabaseCredential `json:"items"`
}

var _ = register(&DatabaseCredential{}, &DatabaseCredentialList{})
