// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Duration is a time.Duration that an object stores as text, such as 24h or 1h30m. Everything that the API server stores can be
// decoded: otherwise a single object could stop every list of its kind. A field only adds its own minimum. Rules that compare
// durations skip what does not match the pattern, which is refused here.
// +kubebuilder:validation:Type=string
// +kubebuilder:validation:MaxLength=20
// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}h|[0-9]{1,7}m|[0-9]{1,9}([.][0-9]{1,3})?s|[0-9]{1,9}ms)+$') && duration(self) >= duration('1s') && duration(self) <= duration('876000h')",message="must be a duration from 1s to 876000h in hours, minutes and seconds, such as 24h; days are written in hours (3d is 72h)"
type Duration struct { //nolint:recvcheck // encoding/json marshals values and unmarshals into pointers
	time.Duration `json:"-"`
}

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	return metav1.Duration{Duration: d.Duration}.MarshalJSON()
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var read metav1.Duration
	err := read.UnmarshalJSON(text)
	d.Duration = read.Duration
	return err
}

// DeletionPolicy determines what happens to what rekey created for an object when the object is deleted.
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

const (
	// DeletionRetain keeps it, and its users keep working. An object of the same kind and name adopts it.
	DeletionRetain DeletionPolicy = "Retain"
	// DeletionDelete deletes it with the object.
	DeletionDelete DeletionPolicy = "Delete"
)

// ObjectName is the name of an object in the same namespace.
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be the name of an object: lower case letters, digits, '-' and '.', starting and ending with a letter or digit"
type ObjectName string

// LocalReference names an object in the same namespace.
type LocalReference struct {
	// name of the object, in the same namespace.
	// +required
	Name ObjectName `json:"name,omitempty"`
}

// TemplateLabelValue is the value of a label.
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$')",message="must be a label's value: at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit"
type TemplateLabelValue string

// TemplateAnnotationValue is the value of an annotation.
// +kubebuilder:validation:MaxLength=4096
type TemplateAnnotationValue string

// SecretTemplate is metadata for the Secret that rekey writes. Labels and annotations that others put there are kept.
type SecretTemplate struct {
	// labels to set on the Secret, at most 16. Names that start with rekey.dev/, and app.kubernetes.io/managed-by, are reserved
	// for rekey.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('rekey.dev/') && k != 'app.kubernetes.io/managed-by')",message="labels must not start with rekey.dev/ or be app.kubernetes.io/managed-by: these are reserved for rekey; choose another name"
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && k.indexOf('/') <= 253 && k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="each label must have a valid Kubernetes name: [prefix/]name, the prefix a DNS name of at most 253 characters, the name at most 63 letters, digits, '-', '_' and '.'"
	Labels map[string]TemplateLabelValue `json:"labels,omitempty"`
	// annotations to set on the Secret, at most 16. Names that start with rekey.dev/ are reserved for rekey, and
	// kubectl.kubernetes.io/last-applied-configuration for kubectl.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.startsWith('rekey.dev/'))",message="annotations must not start with rekey.dev/: these are reserved for rekey; choose another name"
	// +kubebuilder:validation:XValidation:rule="self.all(k, k != 'kubectl.kubernetes.io/last-applied-configuration')",message="annotations must not contain kubectl.kubernetes.io/last-applied-configuration: kubectl keeps its copy of the object there; remove it"
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.size() <= 317 && k.indexOf('/') <= 253 && k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="each annotation must have a valid Kubernetes name: [prefix/]name, the prefix a DNS name of at most 253 characters, the name at most 63 letters, digits, '-', '_' and '.'"
	Annotations map[string]TemplateAnnotationValue `json:"annotations,omitempty"`
}

// Binding names the Secret, as Service Binding for Kubernetes requires of a Provisioned Service.
type Binding struct {
	// name of the Secret, in the same namespace.
	// +required
	Name ObjectName `json:"name,omitempty"`
}

// KeyAlgorithm names the algorithm and size of a private key.
// +kubebuilder:validation:Enum=ECDSA-P256;ECDSA-P384;RSA-2048;RSA-3072;RSA-4096;Ed25519
type KeyAlgorithm string

// Usage is the purpose of a certificate (extended key usage, RFC 5280 section 4.2.1.12).
// +kubebuilder:validation:Enum=ClientAuth;ServerAuth
type Usage string

const (
	// UsageClientAuth is for client authentication.
	UsageClientAuth Usage = "ClientAuth"
	// UsageServerAuth is for server authentication.
	UsageServerAuth Usage = "ServerAuth"
)
