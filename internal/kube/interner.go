// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
)

// Interner holds one copy of what thousands of cached objects have in common: names of keys, labels, namespaces, reasons, the
// authority's certificate. Nothing in the cache is modified in place, so all can share it. It is safe for concurrent use.
type Interner struct {
	texts  interned[string]
	bytes  interned[[]byte]
	labels interned[map[string]string]
}

const (
	// maxInterned bounds each pool; a full pool is reset.
	maxInterned = 1024
	// longestText, longestBytes and longestLabels limit what is shared: any user may write large Secrets, all different.
	longestText, longestBytes, longestLabels = 256, 8 << 10, 1024
)

// interned holds one value per key.
type interned[V any] struct {
	mu   sync.Mutex
	held map[string]V
}

// intern returns the value held for the key, or stores this one.
func (p *interned[V]) intern(key string, value V) V {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one, ok := p.held[key]; ok {
		return one
	}
	if p.held == nil || len(p.held) >= maxInterned {
		p.held = map[string]V{}
	}
	p.held[key] = value
	return value
}

// Text returns a string that equal strings share.
func (i *Interner) Text(s string) string {
	if len(s) > longestText {
		return s
	}
	return i.texts.intern(s, s)
}

func (i *Interner) value(b []byte) []byte {
	if len(b) > longestBytes {
		return b
	}
	return i.bytes.intern(string(b), b)
}

// sameLabels returns a map that equal maps share.
func (i *Interner) sameLabels(m map[string]string) map[string]string {
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
	return i.labels.intern(key.String(), m)
}

// meta shares what objects of a kind have in common.
func (i *Interner) meta(meta *metav1.ObjectMeta) {
	meta.Namespace = i.Text(meta.Namespace)
	meta.Labels = i.sameLabels(meta.Labels)
	if len(meta.Annotations) > 0 {
		shared := make(map[string]string, len(meta.Annotations))
		for key, value := range meta.Annotations {
			if key == v1alpha1.AnnotationOwnerNamespace || key == v1alpha1.AnnotationOwnerCluster {
				value = i.Text(value)
			}
			shared[i.Text(key)] = value
		}
		meta.Annotations = shared
	}
	for n := range meta.OwnerReferences {
		ref := &meta.OwnerReferences[n]
		ref.APIVersion, ref.Kind = i.Text(ref.APIVersion), i.Text(ref.Kind)
		if uid := meta.Annotations[v1alpha1.AnnotationOwnerUID]; uid == string(ref.UID) { // equal, but stored twice
			meta.Annotations[v1alpha1.AnnotationOwnerUID] = string(ref.UID)
		}
	}
}

// secret shares what a stripped Secret has in common with other Secrets.
func (i *Interner) secret(secret *corev1.Secret) {
	i.meta(&secret.ObjectMeta)
	secret.Type = corev1.SecretType(i.Text(string(secret.Type)))
	if len(secret.Data) == 0 || secretstore.LeftOut(secret) {
		return
	}
	shared := make(map[string][]byte, len(secret.Data))
	for key, value := range secret.Data {
		if key == credential.KeyAuthority {
			value = i.value(value)
		}
		shared[i.Text(key)] = value
	}
	secret.Data = shared
}

// object shares what an object of rekey's kinds has in common with others.
func (i *Interner) object(kind Kind, object v1alpha1.Object) {
	// This is the object's own metadata, not a copy.
	if meta, ok := object.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta); ok {
		i.meta(meta)
	}
	if header, ok := object.GetObjectKind().(*metav1.TypeMeta); ok {
		header.APIVersion, header.Kind = i.Text(header.APIVersion), i.Text(header.Kind)
	}
	conditions := object.GetConditions()
	for n := range conditions {
		condition := &conditions[n]
		condition.Type, condition.Reason = i.Text(condition.Type), i.Text(condition.Reason)
		condition.Status = metav1.ConditionStatus(i.Text(string(condition.Status)))
	}
	if kind.Intern != nil {
		kind.Intern(i, object)
	}
}
