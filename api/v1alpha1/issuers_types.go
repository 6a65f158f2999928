// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// ManagedAuthority is an authority with a key that rekey creates.
type ManagedAuthority struct {
	// commonName of the authority's certificate.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="!self.matches('[[:cntrl:]]')",message="must not contain control characters"
	CommonName string `json:"commonName,omitempty"`
	// keyAlgorithm of the authority's key. ECDSA-P256 by default.
	// +optional
	// +default="ECDSA-P256"
	KeyAlgorithm KeyAlgorithm `json:"keyAlgorithm,omitempty"`
	// lifetime of the authority's certificate, at least 1h; 43800h (five years) by default. The certificate is not renewed: the
	// authority warns long before it expires.
	// +optional
	// +default="43800h"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self) >= duration('1h')",message="must be at least 1h: set a longer duration"
	Lifetime Duration `json:"lifetime,omitzero"`
	// secretName of the Secret that rekey creates with the key pair. A cluster authority's is in the operator's namespace. It is
	// immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="secretName is immutable: create an authority with another name"
	SecretName ObjectName `json:"secretName,omitempty"`
}

// KeyPairAuthority is an authority with a key that you provide: the Secret holds tls.crt (the authority's certificate, then its
// chain) and tls.key, and has the label rekey.dev/allow: "true". rekey never writes to it.
type KeyPairAuthority struct {
	// secretName of the Secret with your key pair. It is immutable.
	// +required
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="secretName is immutable: create an authority with another name"
	SecretName ObjectName `json:"secretName,omitempty"`
}

// AuthoritySpec defines where an authority's key comes from and what it may sign.
// +kubebuilder:validation:ExactlyOneOf=managed;keyPair
// +kubebuilder:validation:XValidation:rule="!has(self.keyPair) || !has(self.deletionPolicy) || self.deletionPolicy == 'Retain' || (oldSelf.hasValue() && has(oldSelf.value().keyPair) && has(oldSelf.value().deletionPolicy) && self.deletionPolicy == oldSelf.value().deletionPolicy)",optionalOldSelf=true,message="deletionPolicy must be Retain with keyPair: rekey never deletes a key that you provided"
// +kubebuilder:validation:XValidation:rule="has(self.managed) == has(oldSelf.managed)",message="managed cannot be replaced with keyPair, or keyPair with managed: create an authority with another name"
type AuthoritySpec struct {
	// deletionPolicy determines what happens to a managed authority's Secret when this object is deleted: Retain (default) or
	// Delete. With Delete every certificate of this authority stops being renewable.
	// +optional
	// +default="Retain"
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
	// managed lets rekey create the key, once. It is immutable.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.commonName == oldSelf.commonName && self.keyAlgorithm == oldSelf.keyAlgorithm && (!self.lifetime.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') || duration(self.lifetime) == duration(oldSelf.lifetime))",message="managed is immutable, because the key is created only once: create an authority with another name and secretName"
	Managed *ManagedAuthority `json:"managed,omitempty"`
	// keyPair uses a key that you provide in the Secret: tls.crt (chain allowed) and tls.key. rekey never writes to that Secret.
	// +optional
	KeyPair *KeyPairAuthority `json:"keyPair,omitempty"`
	// constraints on what the authority may sign. A type of name that is not listed is denied; {} denies them all.
	// +required
	Constraints Constraints `json:"constraints"`
}

// AuthorityType names a member of the union in AuthoritySpec: who signs.
type AuthorityType string

// The members of the union.
const (
	AuthorityTypeManaged AuthorityType = "managed"
	AuthorityTypeKeyPair AuthorityType = "keyPair"
)

// AuthorityMember is the member of the union that is set.
// +kubebuilder:object:generate=false
type AuthorityMember struct {
	// Type of the member; empty if none is set.
	Type AuthorityType
	// SecretName is that of the Secret that the member names; empty if it names none.
	SecretName ObjectName
	// Settings is the member itself.
	Settings any
}

// Member returns the member of the union that is set.
func (s *AuthoritySpec) Member() AuthorityMember {
	switch {
	case s.Managed != nil:
		return AuthorityMember{Type: AuthorityTypeManaged, SecretName: s.Managed.SecretName, Settings: s.Managed}
	case s.KeyPair != nil:
		return AuthorityMember{Type: AuthorityTypeKeyPair, SecretName: s.KeyPair.SecretName, Settings: s.KeyPair}
	}
	return AuthorityMember{}
}

// SecretName returns the name of the Secret that the member of the union names; empty if it names none.
func (s *AuthoritySpec) SecretName() ObjectName { return s.Member().SecretName }
