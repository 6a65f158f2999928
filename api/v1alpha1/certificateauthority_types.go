// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NamePattern is a name in which * matches any sequence of characters.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="!self.matches('[[:cntrl:]]')",message="must not contain control characters"
type NamePattern string

// DNSPattern is a DNS name in which * matches exactly one label.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^([*]|[a-z0-9]([-a-z0-9]*[a-z0-9])?)([.]([*]|[a-z0-9]([-a-z0-9]*[a-z0-9])?))*$')",message="must be a DNS name in lower case in which a whole label may be *, such as *.example.internal"
type DNSPattern string

// URIPattern is a URI that may end in /*, which matches the rest of the path.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=512
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z][a-z0-9+.-]*:[!-)+-~]+[*]?$') && (!self.endsWith('*') || self.endsWith('/*'))",message="must be a URI with a scheme, in ASCII; * is only allowed at the end, for the rest of the path, as in spiffe://example.internal/ns/web/*"
type URIPattern string

// IPRange is a network in CIDR notation.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=49
// +kubebuilder:validation:XValidation:rule="isCIDR(self)",message="must be a network in CIDR notation, such as 10.0.0.0/8 or fd00::/8"
type IPRange string

// EmailDomain is the part of an email address after the @.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the domain of an address in lower case, such as example.com"
type EmailDomain string

// Constraints limit what an authority may sign. A type of name that is not listed is denied.
type Constraints struct {
	// maxLifetime of a certificate, at least 1m; 720h by default.
	// +optional
	// +default="720h"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self) >= duration('1m')",message="must be at least 1m: set a longer duration"
	MaxLifetime Duration `json:"maxLifetime,omitzero"`
	// commonNames that are allowed; * matches any sequence of characters.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	CommonNames []NamePattern `json:"commonNames,omitempty"`
	// organizations that are allowed; * matches any sequence of characters. Servers authorize based on the organization, so
	// list only what is needed.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Organizations []NamePattern `json:"organizations,omitempty"`
	// dnsNames that are allowed; * matches exactly one label.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	DNSNames []DNSPattern `json:"dnsNames,omitempty"`
	// uris that are allowed; * only at the end, where it matches the rest of the path.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	URIs []URIPattern `json:"uris,omitempty"`
	// ipRanges that contain the allowed addresses, in CIDR notation.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	IPRanges []IPRange `json:"ipRanges,omitempty"`
	// emailDomains of the allowed email addresses.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	EmailDomains []EmailDomain `json:"emailDomains,omitempty"`
	// usages that are allowed: ClientAuth and ServerAuth by default.
	// +optional
	// +listType=set
	// +default=["ClientAuth","ServerAuth"]
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Usages []Usage `json:"usages,omitempty"`
}

// ClusterAuthoritySpec is an AuthoritySpec for all selected namespaces.
type ClusterAuthoritySpec struct {
	AuthoritySpec `json:",inline"`
	// namespaceSelector selects, by label, the namespaces that may use the authority. Absent means none; {} means all.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'])",message="each operator must be In, NotIn, Exists or DoesNotExist"
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, (e.operator in ['In', 'NotIn']) == (has(e.values) && size(e.values) > 0))",message="each expression with In or NotIn needs values, and none with Exists or DoesNotExist may have any"
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
}

// AuthorityStatus is the last observed state. rekey never reads it back.
type AuthorityStatus struct {
	// conditions of type Ready, Reconciling, Stalled, ExpiringSoon.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// observedGeneration is the generation of the spec that the conditions are about.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// sha256 fingerprint of the authority's certificate, hexadecimal.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	SHA256 string `json:"sha256,omitempty"`
	// subject of the authority's certificate.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Subject string `json:"subject,omitempty"`
	// notBefore is when the authority's certificate becomes valid.
	// +optional
	NotBefore *metav1.Time `json:"notBefore,omitempty"`
	// notAfter is when the first certificate of the authority's chain expires.
	// +optional
	NotAfter *metav1.Time `json:"notAfter,omitempty"`
	// renewalTime is when notAfter starts to shorten certificates with the longest lifetime allowed: replace the authority
	// before then. It is notBefore if maxLifetime is longer than the authority's lifetime.
	// +optional
	RenewalTime *metav1.Time `json:"renewalTime,omitempty"`
}

// CertificateAuthority signs the certificates of identities in its namespace. Anyone who can read Secrets in the
// namespace can also sign with this CA; a ClusterCertificateAuthority keeps its key in the operator's namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=rekey,shortName=rca
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.notAfter`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Secret",type=string,priority=1,JSONPath=`.spec['managed','keyPair'].secretName`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type CertificateAuthority struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec is the desired state.
	// +required
	Spec AuthoritySpec `json:"spec,omitzero"`
	// status is the last observed state.
	// +optional
	Status AuthorityStatus `json:"status,omitzero"`
}

// CertificateAuthorityList is a list of authorities.
//
// +kubebuilder:object:root=true
type CertificateAuthorityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []CertificateAuthority `json:"items"`
}

var _ = register(&CertificateAuthority{}, &CertificateAuthorityList{})

// ClusterCertificateAuthority signs the certificates of identities in the namespaces that it selects. Its key is in the
// operator's namespace.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=rekey,shortName=rcca
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.status.notAfter`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Secret",type=string,priority=1,JSONPath=`.spec['managed','keyPair'].secretName`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type ClusterCertificateAuthority struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitzero"`
	// spec is the desired state.
	// +required
	Spec ClusterAuthoritySpec `json:"spec,omitzero"`
	// status is the last observed state.
	// +optional
	Status AuthorityStatus `json:"status,omitzero"`
}

// ClusterCertificateAuthorityList is a list of authorities.
//
// +kubebuilder:object:root=true
type ClusterCertificateAuthorityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitzero"`
	Items           []ClusterCertificateAuthority `json:"items"`
}

var _ = register(&ClusterCertificateAuthority{}, &ClusterCertificateAuthorityList{})
