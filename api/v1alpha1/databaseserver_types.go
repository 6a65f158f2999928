// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TLSMode is how connections are protected.
// +kubebuilder:validation:Enum=Disable;Require;VerifyCA;VerifyFull
type TLSMode string

const (
	// TLSModeDisable does not use TLS.
	TLSModeDisable TLSMode = "Disable"
	// TLSModeRequire is TLS; the server's certificate is not checked.
	TLSModeRequire TLSMode = "Require"
	// TLSModeVerifyCA is TLS; the CA must have issued the certificate.
	TLSModeVerifyCA TLSMode = "VerifyCA"
	// TLSModeVerifyFull is TLS; the CA must have issued the certificate for this host.
	TLSModeVerifyFull TLSMode = "VerifyFull"
)

// CASourceKind is the kind of object that holds CA certificates.
// +kubebuilder:validation:Enum=ConfigMap;Secret
type CASourceKind string

const (
	// CASourceConfigMap reads a ConfigMap.
	CASourceConfigMap CASourceKind = "ConfigMap"
	// CASourceSecret reads a Secret, which must have the label rekey.dev/allow: "true".
	CASourceSecret CASourceKind = "Secret"
)

// CAReference names the object with the CA certificates.
type CAReference struct {
	// kind of the object: ConfigMap (default) or Secret. A Secret must have the label rekey.dev/allow: "true".
	// +optional
	// +default="ConfigMap"
	Kind CASourceKind `json:"kind,omitempty"`
	// name of the object, in the same namespace.
	// +required
	Name ObjectName `json:"name,omitempty"`
	// key that holds the certificates, PEM; ca.crt by default.
	// +optional
	// +default="ca.crt"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$')",message="must be a key of a ConfigMap or Secret: letters, digits, '-', '_' and '.'"
	Key string `json:"key,omitempty"`
}

// ServerTLS defines how connections to a server are protected.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!(self.mode in ['VerifyCA', 'VerifyFull']) || has(self.caRef) || (oldSelf.hasValue() && self.mode == oldSelf.value().mode && !has(oldSelf.value().caRef))",optionalOldSelf=true,message="caRef must be set with mode VerifyCA and VerifyFull: it names the ConfigMap or Secret with the CA certificates of the server"
// +kubebuilder:validation:XValidation:rule="self.mode in ['VerifyCA', 'VerifyFull'] || !has(self.caRef) || (oldSelf.hasValue() && self.mode == oldSelf.value().mode && has(oldSelf.value().caRef))",optionalOldSelf=true,message="caRef is only used with mode VerifyCA and VerifyFull: set one of these, or remove caRef"
type ServerTLS struct {
	// mode of every connection: VerifyFull (default), VerifyCA, Require or Disable. They mean the same as verify-full,
	// verify-ca, require and disable of libpq's sslmode.
	// +optional
	// +default="VerifyFull"
	Mode TLSMode `json:"mode,omitempty"`
	// caRef names the CA certificates that verify the server's certificate.
	// +optional
	CARef *CAReference `json:"caRef,omitempty"`
}

// NegativeControl determines when rekey tests that the server refuses a wrong password.
// +kubebuilder:validation:Enum=Always;AtFirst
type NegativeControl string

const (
	// NegativeControlAlways tests a wrong password whenever a login is proven.
	NegativeControlAlways NegativeControl = "Always"
	// NegativeControlAtFirst tests one only before the first version of a credential is published, or its lost ledger is rebuilt.
	NegativeControlAtFirst NegativeControl = "AtFirst"
)

// RolePattern is the name of a role in which * matches any sequence of characters.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9_.*$-]+$')",message="must be the name of a role, in which * matches any sequence of characters: letters, digits, '_', '.', '$', '-' and '*'"
type RolePattern string

// DatabaseServerSpec defines where a server is, and what rekey may do there.
type DatabaseServerSpec struct {
	ServerEngine `json:",inline"`

	// address of the server, host:port, as clients reach it. An IPv6 address is written in brackets.
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=259
	// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?|[[][0-9A-Fa-f:.]+[]]):[0-9]{1,5}$')",message="must be host:port, such as orders-db.data:5432 or [fd00::1]:5432"
	// +kubebuilder:validation:XValidation:rule="!self.startsWith('[') || !self.contains(']') || isIP(self.substring(1, self.indexOf(']')))",message="must contain an IPv6 address between the brackets, such as [fd00::1]:5432"
	// +kubebuilder:validation:XValidation:rule="!self.matches(':[0-9]+$') || self.matches(':([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$')",message="must end in a port from 1 to 65535, such as orders-db.data:5432"
	Address string `json:"address,omitempty"`
	// tls defines how connections are protected. {mode: Disable} is for networks that are protected by other means.
	// +required
	TLS ServerTLS `json:"tls,omitzero"`
	// adminSecretRef names the Secret with the login that creates and changes the others: keys username, password, and host,
	// which must equal address. It must have the label rekey.dev/allow: "true".
	// +required
	AdminSecretRef LocalReference `json:"adminSecretRef,omitzero"`
	// negativeControl determines when rekey tests that the server refuses a wrong password, since a login proves nothing if any
	// password is accepted: Always (default), whenever a login is proven, or AtFirst, only before the first version of a
	// credential is published or its lost ledger is rebuilt. The server logs each test as a failed login.
	// +optional
	// +default="Always"
	NegativeControl NegativeControl `json:"negativeControl,omitempty"`
	// allowedUsernames that credentials may use on this server, with * for any sequence of characters. The two logins of a
	// credential (username_a and username_b) must match too. System users are always refused.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	AllowedUsernames []RolePattern `json:"allowedUsernames,omitempty"`
}

// DatabaseServerStatus is the last observed state. rekey never reads it back.
type DatabaseServerStatus struct {
	// conditions of type Ready, Reconciling, Stalled.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// observedGeneration is the generation of the spec that the conditions are about.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// serverVersion as reported by the server.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ServerVersion string `json:"serverVersion,omitempty"`
	// caSHA256 is the SHA-256 of the CA certificates that caRef named when the server was last checked, hexadecimal; absent
	// without caRef. A change reaches the Secrets of the credentials immediately.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	CASHA256 string `json:"caSHA256,omitempty"`
}

// DatabaseServer is a database server on which rekey rotates logins.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=rekey,shortName=rds
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Version",type=string,priority=1,JSONPath=`.status.serverVersion`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type DatabaseServer struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec is the desired state.
	// +required
	Spec DatabaseServerSpec `json:"spec,omitzero"`
	// status is the last observed state.
	// +optional
	Status DatabaseServerStatus `json:"status,omitzero"`
}

// DatabaseServerList is a list of servers.
//
// +kubebuilder:object:root=true
type DatabaseServerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []DatabaseServer `json:"items"`
}

var _ = register(&DatabaseServer{}, &DatabaseServerList{})
