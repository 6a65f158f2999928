// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
)

// common holds one copy of what thousands of cached objects have in common: names of keys, labels, namespaces, reasons, the
// authority's certificate. Nothing in the cache is ever changed in place, so all may share it. It is safe for concurrent use.
type common struct {
	texts  pool[string]
	octets pool[[]byte]
	labels pool[map[string]string]
	// expected are the Secrets that identities name.
	expected *expected
}

const (
	// mostCommon is how many different ones of a sort are held; more are not common, and it begins anew.
	mostCommon = 1024
	// longestText, longestOctets and longestLabels are what is shared: anybody may write large Secrets, each once.
	longestText, longestOctets, longestLabels = 256, 8 << 10, 1024
)

func newCommon() *common {
	return &common{expected: newExpected()}
}

// pool holds one value for each key.
type pool[V any] struct {
	mu   sync.Mutex
	held map[string]V
}

// share gives the value that is held for the key, or holds this one.
func (p *pool[V]) share(key string, value V) V {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one, ok := p.held[key]; ok {
		return one
	}
	if p.held == nil || len(p.held) >= mostCommon {
		p.held = map[string]V{}
	}
	p.held[key] = value
	return value
}

func (c *common) text(s string) string {
	if len(s) > longestText {
		return s
	}
	return c.texts.share(s, s)
}

func (c *common) bytes(b []byte) []byte {
	if len(b) > longestOctets {
		return b
	}
	return c.octets.share(string(b), b)
}

// sameLabels gives a map that equal ones share.
func (c *common) sameLabels(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(m)) {
		key.WriteString(name + "\x00" + m[name] + "\x00")
	}
	if key.Len() > longestLabels {
		return m
	}
	return c.labels.share(key.String(), m)
}

// meta shares what objects of a kind have in common.
func (c *common) meta(meta *metav1.ObjectMeta) {
	meta.Namespace = c.text(meta.Namespace)
	meta.Labels = c.sameLabels(meta.Labels)
	if len(meta.Annotations) > 0 {
		shared := make(map[string]string, len(meta.Annotations))
		for key, value := range meta.Annotations {
			if key == v1alpha1.AnnotationOwnerNamespace || key == v1alpha1.AnnotationOwnerCluster {
				value = c.text(value)
			}
			shared[c.text(key)] = value
		}
		meta.Annotations = shared
	}
	for i := range meta.OwnerReferences {
		ref := &meta.OwnerReferences[i]
		ref.APIVersion, ref.Kind = c.text(ref.APIVersion), c.text(ref.Kind)
		if uid := meta.Annotations[v1alpha1.AnnotationOwnerUID]; uid == string(ref.UID) { // equal, but held twice
			meta.Annotations[v1alpha1.AnnotationOwnerUID] = string(ref.UID)
		}
	}
}

// secret is the transform of the Secret cache.
func (c *common) secret(object any) (any, error) {
	out, err := c.expected.strip(object)
	if secret, ok := out.(*corev1.Secret); ok && err == nil {
		c.compact(secret)
	}
	return out, err
}

// compact shares what a stripped Secret has in common with others.
func (c *common) compact(secret *corev1.Secret) {
	c.meta(&secret.ObjectMeta)
	secret.Type = corev1.SecretType(c.text(string(secret.Type)))
	if len(secret.Data) == 0 || secretstore.LeftOut(secret) {
		return
	}
	shared := make(map[string][]byte, len(secret.Data))
	for key, value := range secret.Data {
		if key == credential.KeyAuthority {
			value = c.bytes(value)
		}
		shared[c.text(key)] = value
	}
	secret.Data = shared
}

// object is the transform of every other cache.
func (c *common) object(in any) (any, error) {
	object, ok := in.(client.Object)
	if !ok {
		return in, nil
	}
	object.SetManagedFields(nil)
	switch o := object.(type) {
	case *v1alpha1.ClientIdentity:
		c.expected.note(o)
		c.identity(&o.ObjectMeta, &o.TypeMeta, &o.Spec.IdentitySpec, &o.Status)
	case *v1alpha1.ServerIdentity:
		c.expected.note(o)
		c.identity(&o.ObjectMeta, &o.TypeMeta, &o.Spec.IdentitySpec, &o.Status)
	}
	return object, nil
}

// own takes out of the metadata of our objects what nothing reads: with kubectl apply it holds the whole object once more.
func (c *common) own(meta *metav1.ObjectMeta) {
	meta.Labels = nil
	for key := range meta.Annotations {
		if !strings.HasPrefix(key, v1alpha1.Prefix) {
			delete(meta.Annotations, key)
		}
	}
}

func (c *common) identity(meta *metav1.ObjectMeta, kind *metav1.TypeMeta, spec *v1alpha1.IdentitySpec, status *v1alpha1.IdentityStatus) {
	c.own(meta)
	c.meta(meta)
	kind.APIVersion, kind.Kind = c.text(kind.APIVersion), c.text(kind.Kind)
	spec.AuthorityRef.Kind = v1alpha1.AuthorityKind(c.text(string(spec.AuthorityRef.Kind)))
	spec.AuthorityRef.Name = v1alpha1.ObjectName(c.text(string(spec.AuthorityRef.Name)))
	spec.DeletionPolicy = v1alpha1.DeletionPolicy(c.text(string(spec.DeletionPolicy)))
	if status.Binding != nil && status.Binding.Name == spec.SecretName { // equal, but held twice
		status.Binding.Name = spec.SecretName
	}
	for i := range status.Conditions {
		condition := &status.Conditions[i]
		condition.Type, condition.Reason = c.text(condition.Type), c.text(condition.Reason)
		condition.Status = metav1.ConditionStatus(c.text(string(condition.Status)))
	}
}
