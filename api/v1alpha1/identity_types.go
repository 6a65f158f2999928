// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AuthorityKind is the kind of an authority.
// +kubebuilder:validation:Enum=CertificateAuthority;ClusterCertificateAuthority
type AuthorityKind string

const (
	// AuthorityKindNamespaced is an authority in the same namespace.
	AuthorityKindNamespaced AuthorityKind = "CertificateAuthority"
	// AuthorityKindCluster is an authority for all namespaces that it selects.
	AuthorityKindCluster AuthorityKind = "ClusterCertificateAuthority"
)

// AuthorityReference names the authority that signs.
type AuthorityReference struct {
	// group of the authority: rekey.dev, which is the default.
	// +optional
	// +default="rekey.dev"
	// +kubebuilder:validation:Enum="rekey.dev"
	Group string `json:"group,omitempty"`
	// kind of the authority: CertificateAuthority (default), in the same namespace, or ClusterCertificateAuthority.
	// +optional
	// +default="CertificateAuthority"
	Kind AuthorityKind `json:"kind,omitempty"`
	// name of the authority.
	// +required
	Name ObjectName `json:"name,omitempty"`
}

// DNSName is a DNS name; its first label may be *.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^([*][.])?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')",message="must be a DNS name in lower case, such as app.example.internal; only the first label may be *"
type DNSName string

// URI is an absolute URI.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z][a-z0-9+.-]*:[!-~]+$') && isURL(self)",message="must be an absolute URI with a scheme, in ASCII, such as spiffe://example.internal/ns/web/sa/app"
// +kubebuilder:validation:XValidation:rule="!self.startsWith('spiffe:') || self.matches('^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)*$') && !self.matches('/[.]{1,2}(/|$)')",message="must be a SPIFFE ID: spiffe://trust-domain/path, the trust domain in lower case, the path of letters, digits, '.', '_' and '-', without a segment that is empty, '.' or '..', and without a slash at the end"
type URI string

// IPAddress is an IPv4 or IPv6 address.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=45
// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IP address, such as 10.0.0.1 or fd00::1, without a port or a network mask"
type IPAddress string

// EmailAddress is an email address (RFC 5321), without a display name.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=254
// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9.!#$%&*+/=?^_`{|}~-]+@[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be an address such as ops@example.com, its domain in lower case"
type EmailAddress string

// Organization is the O of a subject.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:XValidation:rule="!self.matches('[[:cntrl:]]')",message="must not contain control characters"
type Organization string

// Format is a form in which the Secret holds the key and certificate in addition to the standard keys.
// +kubebuilder:validation:Enum=CombinedPEM;PKCS12;JKS;DER
type Format string

const (
	// FormatCombinedPEM adds the key tls-combined.pem: private key, certificate and chain in one file, so that a reader never
	// sees halves of two versions.
	FormatCombinedPEM Format = "CombinedPEM"
	// FormatPKCS12 adds the keys keystore.p12 and truststore.p12.
	FormatPKCS12 Format = "PKCS12"
	// FormatJKS adds the keys keystore.jks and truststore.jks.
	FormatJKS Format = "JKS"
	// FormatDER adds the keys key.der and tls.der.
	FormatDER Format = "DER"
)

// KeystoreProfile is the set of algorithms that protect a PKCS#12 file.
// +kubebuilder:validation:Enum=Modern2026;Modern2023;LegacyDES
type KeystoreProfile string

const (
	// KeystoreModern2026 is for readers that verify PBMAC1 (RFC 9579).
	KeystoreModern2026 KeystoreProfile = "Modern2026"
	// KeystoreModern2023 is for every reader that is still maintained.
	KeystoreModern2023 KeystoreProfile = "Modern2023"
	// KeystoreLegacyDES is for old readers. It protects little.
	KeystoreLegacyDES KeystoreProfile = "LegacyDES"
)

// SecretKeyReference names a value in a Secret in the same namespace.
type SecretKeyReference struct {
	// name of the Secret, in the same namespace. It must have the label rekey.dev/allow: "true".
	// +required
	Name ObjectName `json:"name,omitempty"`
	// key that holds the value; password by default.
	// +optional
	// +default="password"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-._a-zA-Z0-9]+$')",message="must be a key of a Secret: letters, digits, '-', '_' and '.'"
	Key string `json:"key,omitempty"`
}

// Keystore defines the files of the formats PKCS12 and JKS.
type Keystore struct {
	// passwordSecretRef names the password of the files and of the private key in them: 6 to 128 printable ASCII characters,
	// without a line break. A new password rewrites the files, without a new certificate.
	// +required
	PasswordSecretRef SecretKeyReference `json:"passwordSecretRef,omitzero"`
	// alias of the entry with the private key in keystore.jks; certificate by default. Java ignores its case. The entry in
	// keystore.p12, which is the only one there, has no alias; Java calls it 1.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$')",message="must be letters, digits, '-', '_' and '.', starting and ending with a letter or digit"
	Alias string `json:"alias,omitempty"`
	// profile of the algorithms in PKCS#12 files: Modern2023 (default), Modern2026 for the newest readers only, or LegacyDES for
	// the oldest. JKS has no choice.
	// +optional
	Profile KeystoreProfile `json:"profile,omitempty"`
}

// IdentitySpec holds what client and server identities have in common.
// +kubebuilder:validation:XValidation:rule="!has(self.renewBefore) || !self.renewBefore.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || !self.lifetime.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || (duration(self.lifetime) - duration(self.renewBefore) >= duration('1m') && (duration(self.lifetime) - duration(self.renewBefore)).getSeconds() * 10 >= duration(self.lifetime).getSeconds()) || (oldSelf.hasValue() && self.lifetime == oldSelf.value().lifetime && has(oldSelf.value().renewBefore) && self.renewBefore == oldSelf.value().renewBefore)",optionalOldSelf=true,message="renewBefore must leave at least a tenth of lifetime (24h by default), and at least 1m, between issuance and renewal: set a shorter renewBefore, or omit it for a third of lifetime"
// +kubebuilder:validation:XValidation:rule="(has(self.keystore) || !has(self.formats) || !self.formats.exists(f, f == 'PKCS12' || f == 'JKS')) || (oldSelf.hasValue() && has(self.formats) == has(oldSelf.value().formats) && (!has(self.formats) || self.formats == oldSelf.value().formats) && has(self.keystore) == has(oldSelf.value().keystore) && (!has(self.keystore) || self.keystore == oldSelf.value().keystore))",optionalOldSelf=true,message="keystore must be set with the formats PKCS12 and JKS: set keystore.passwordSecretRef to the Secret with their password"
// +kubebuilder:validation:XValidation:rule="(!has(self.keystore) || (has(self.formats) && self.formats.exists(f, f == 'PKCS12' || f == 'JKS'))) || (oldSelf.hasValue() && has(self.formats) == has(oldSelf.value().formats) && (!has(self.formats) || self.formats == oldSelf.value().formats) && has(self.keystore) == has(oldSelf.value().keystore) && (!has(self.keystore) || self.keystore == oldSelf.value().keystore))",optionalOldSelf=true,message="keystore is only used with the formats PKCS12 and JKS: add one of these to formats, or remove keystore"
// +kubebuilder:validation:XValidation:rule="(!has(self.keystore) || !has(self.keystore.alias) || (has(self.formats) && self.formats.exists(f, f == 'JKS'))) || (oldSelf.hasValue() && has(self.formats) == has(oldSelf.value().formats) && (!has(self.formats) || self.formats == oldSelf.value().formats) && has(self.keystore) == has(oldSelf.value().keystore) && (!has(self.keystore) || self.keystore == oldSelf.value().keystore))",optionalOldSelf=true,message="keystore.alias is only used with the format JKS: remove keystore.alias, or add JKS to formats"
// +kubebuilder:validation:XValidation:rule="(!has(self.keystore) || !has(self.keystore.profile) || (has(self.formats) && self.formats.exists(f, f == 'PKCS12'))) || (oldSelf.hasValue() && has(self.formats) == has(oldSelf.value().formats) && (!has(self.formats) || self.formats == oldSelf.value().formats) && has(self.keystore) == has(oldSelf.value().keystore) && (!has(self.keystore) || self.keystore == oldSelf.value().keystore))",optionalOldSelf=true,message="keystore.profile is only used with the format PKCS12: remove keystore.profile, or add PKCS12 to formats"
type IdentitySpec struct {
	// deletionPolicy determines what happens to the Secret when this object is deleted: Retain (default) or Delete.
	// +optional
	// +default="Retain"
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
	// suspend stops renewals while true. Warnings about expiry continue.
	// +optional
	Suspend bool `json:"suspend,omitempty"`
	// authorityRef names the authority that signs.
	// +required
	AuthorityRef AuthorityReference `json:"authorityRef,omitzero"`
	// commonName of the subject, at most 64 characters.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="!self.matches('[[:cntrl:]]')",message="must not contain control characters"
	CommonName string `json:"commonName,omitempty"`
	// organizations of the subject, at most 16. Servers may authorize based on them.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	Organizations []Organization `json:"organizations,omitempty"`
	// dnsNames among the subject alternative names, at most 64.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	DNSNames []DNSName `json:"dnsNames,omitempty"`
	// uris among the subject alternative names, at most 16. Those of scheme spiffe must be SPIFFE IDs.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	URIs []URI `json:"uris,omitempty"`
	// ipAddresses among the subject alternative names, at most 32.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	IPAddresses []IPAddress `json:"ipAddresses,omitempty"`
	// emailAddresses among the subject alternative names, at most 16.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	EmailAddresses []EmailAddress `json:"emailAddresses,omitempty"`
	// keyAlgorithm of the private key: ECDSA-P256 (default), ECDSA-P384, RSA-2048, RSA-3072, RSA-4096 or Ed25519. Every
	// renewal creates a new key, encoded as PKCS#8.
	// +optional
	// +default="ECDSA-P256"
	KeyAlgorithm KeyAlgorithm `json:"keyAlgorithm,omitempty"`
	// lifetime of a certificate, at least 90s; 24h by default. It is shortened if the authority expires earlier.
	// +optional
	// +default="24h"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self) >= duration('90s')",message="must be at least 90s: set a longer duration"
	Lifetime Duration `json:"lifetime,omitzero"`
	// renewBefore is how long before its expiry a certificate is renewed; a third of lifetime by default. At least 1s; it must
	// leave a tenth of lifetime, and at least 1m, between issuance and renewal.
	// +optional
	RenewBefore *Duration `json:"renewBefore,omitempty"`
	// rotationPolicyRef names a RotationPolicy in the same namespace. A certificate is then due at the earlier of its own
	// renewal time and the policy's interval.
	// +optional
	RotationPolicyRef *LocalReference `json:"rotationPolicyRef,omitempty"`
	// secretName of the Secret to write, of type kubernetes.io/tls with the keys tls.crt, tls.key and ca.crt. It is
	// immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="secretName is immutable: create a new object"
	SecretName ObjectName `json:"secretName,omitempty"`
	// secretTemplate is metadata for the Secret.
	// +optional
	SecretTemplate *SecretTemplate `json:"secretTemplate,omitempty"`
	// formats that the Secret holds in addition: CombinedPEM (key tls-combined.pem), PKCS12 (keystore.p12, truststore.p12), JKS
	// (keystore.jks, truststore.jks), DER (key.der, tls.der). A change causes no new certificate.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=4
	Formats []Format `json:"formats,omitempty"`
	// keystore defines the files of the formats PKCS12 and JKS, and is required with them.
	// +optional
	Keystore *Keystore `json:"keystore,omitempty"`
}

// ClientIdentitySpec is the desired identity of a client.
// +kubebuilder:validation:XValidation:rule="has(self.commonName) || (has(self.dnsNames) && size(self.dnsNames) > 0) || (has(self.uris) && size(self.uris) > 0) || (has(self.ipAddresses) && size(self.ipAddresses) > 0) || (has(self.emailAddresses) && size(self.emailAddresses) > 0) || (oldSelf.hasValue() && (!has(oldSelf.value().commonName) || size(oldSelf.value().commonName) == 0) && (!has(oldSelf.value().dnsNames) || size(oldSelf.value().dnsNames) == 0) && (!has(oldSelf.value().uris) || size(oldSelf.value().uris) == 0) && (!has(oldSelf.value().ipAddresses) || size(oldSelf.value().ipAddresses) == 0) && (!has(oldSelf.value().emailAddresses) || size(oldSelf.value().emailAddresses) == 0))",optionalOldSelf=true,message="a client needs a name: set commonName, uris, dnsNames, ipAddresses or emailAddresses"
type ClientIdentitySpec struct {
	IdentitySpec `json:",inline"`
}

// ServerIdentitySpec is the desired identity of a server.
// +kubebuilder:validation:XValidation:rule="(has(self.dnsNames) && size(self.dnsNames) > 0) || (has(self.uris) && size(self.uris) > 0) || (has(self.ipAddresses) && size(self.ipAddresses) > 0) || (oldSelf.hasValue() && (!has(oldSelf.value().dnsNames) || size(oldSelf.value().dnsNames) == 0) && (!has(oldSelf.value().uris) || size(oldSelf.value().uris) == 0) && (!has(oldSelf.value().ipAddresses) || size(oldSelf.value().ipAddresses) == 0))",optionalOldSelf=true,message="a server needs a name that clients check: set dnsNames, ipAddresses or uris; commonName alone is not enough"
type ServerIdentitySpec struct {
	IdentitySpec `json:",inline"`
	// usages of the certificate: [ServerAuth] by default. Peers that are both, such as members of an etcd or Kafka
	// cluster, add ClientAuth.
	// +optional
	// +listType=set
	// +default=["ServerAuth"]
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:XValidation:rule="'ServerAuth' in self",message="usages must contain ServerAuth: for an identity that is only a client, create a ClientIdentity"
	Usages []Usage `json:"usages,omitempty"`
}

// IdentityStatus is the last observed state. rekey never reads it back.
type IdentityStatus struct {
	// conditions of type Ready, Reconciling, Stalled, ExpiringSoon, RotationOverdue, Rotating, Suspended.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// observedGeneration is the generation of the spec that the conditions are about.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// revision of the certificate in the Secret, counted from 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Revision int64 `json:"revision,omitempty"`
	// serialNumber of the certificate, hexadecimal.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	SerialNumber string `json:"serialNumber,omitempty"`
	// sha256 fingerprint of the certificate, hexadecimal.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	SHA256 string `json:"sha256,omitempty"`
	// notBefore is when the certificate becomes valid.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	// notAfter is when the certificate expires.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
	// renewalTime is when the certificate is due to be renewed.
	// +optional
	RenewalTime *metav1.Time `json:"renewalTime,omitempty"`
	// nextAttemptTime is when rekey retries what failed; absent if nothing failed, and during the first minutes of a failure,
	// when rekey retries within two minutes.
	// +optional
	NextAttemptTime *metav1.Time `json:"nextAttemptTime,omitempty"`
	// binding names the Secret (Service Binding for Kubernetes).
	// +optional
	Binding *Binding `json:"binding,omitempty"`
}

// ClientIdentity is how a client proves its identity to servers: a certificate for client authentication, kept valid in a Secret.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=rekey,shortName=rci
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.notAfter`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Secret",type=string,priority=1,JSONPath=`.spec.secretName`
// +kubebuilder:printcolumn:name="Revision",type=integer,priority=1,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type ClientIdentity struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec is the desired state.
	// +required
	Spec ClientIdentitySpec `json:"spec,omitzero"`
	// status is the last observed state.
	// +optional
	Status IdentityStatus `json:"status,omitzero"`
}

// ClientIdentityList is a list of identities.
//
// +kubebuilder:object:root=true
type ClientIdentityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClientIdentity `json:"items"`
}

var _ = register(&ClientIdentity{}, &ClientIdentityList{})

// ServerIdentity is how a server proves its identity to clients: a certificate for server authentication, kept valid in a Secret.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=rekey,shortName=rsi
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.notAfter`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Secret",type=string,priority=1,JSONPath=`.spec.secretName`
// +kubebuilder:printcolumn:name="Revision",type=integer,priority=1,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type ServerIdentity struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec is the desired state.
	// +required
	Spec ServerIdentitySpec `json:"spec,omitzero"`
	// status is the last observed state.
	// +optional
	Status IdentityStatus `json:"status,omitzero"`
}

// ServerIdentityList is a list of identities.
//
// +kubebuilder:object:root=true
type ServerIdentityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ServerIdentity `json:"items"`
}

var _ = register(&ServerIdentity{}, &ServerIdentityList{})
