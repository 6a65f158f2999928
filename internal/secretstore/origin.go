// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
)

// A Secret can be copied to another namespace or cluster together with the object that it belongs to. It then names an owner
// of the right kind and name that is not the one in its namespace. Secrets that an earlier release wrote do not record their
// origin; they are assumed to be where they were written.

// origin is where the owner of a Secret lives, according to the Secret; a part that the Secret does not record is empty.
type origin struct{ cluster, namespace string }

func originOf(secret *corev1.Secret) origin {
	return origin{cluster: secret.Annotations[v1alpha1.AnnotationOwnerCluster], namespace: secret.Annotations[v1alpha1.AnnotationOwnerNamespace]}
}

// withRecords returns have, with the annotations that an earlier release did not write copied from want. Metadata that records
// the whole origin is returned unchanged: this release wrote it.
func withRecords(have, want metav1.ObjectMeta) metav1.ObjectMeta {
	if have.Annotations[v1alpha1.AnnotationOwnerNamespace] != "" && have.Annotations[v1alpha1.AnnotationOwnerCluster] != "" {
		return have
	}
	have.Annotations = maps.Clone(have.Annotations)
	for _, key := range []string{v1alpha1.AnnotationOwnerNamespace, v1alpha1.AnnotationOwnerCluster, v1alpha1.AnnotationRotateHonored} {
		if value, ok := want.Annotations[key]; ok && have.Annotations[key] == "" {
			have.Annotations[key] = value
		}
	}
	return have
}

// names reports whether the Secret belongs to an object of our kind and name, wherever that is.
func (o Owner) names(secret *corev1.Secret) bool {
	return secret.Annotations[v1alpha1.AnnotationOwner] == o.String()
}

// isCopy reports whether the Secret was written for an object of our kind and name in another namespace or cluster. A cluster
// or namespace of the owner that is unknown is not compared.
func (o Owner) isCopy(secret *corev1.Secret) bool {
	from := originOf(secret)
	elsewhere := func(theirs, ours string) bool { return theirs != "" && ours != "" && theirs != ours }
	return o.names(secret) && (elsewhere(from.cluster, o.Cluster) || elsewhere(from.namespace, o.Namespace))
}

// former returns the owner that a copy names, in the form of the markers at a remote system: cluster/namespace/name.
func (o Owner) former(secret *corev1.Secret) string {
	from := originOf(secret)
	if from.cluster == "" {
		from.cluster = o.Cluster
	}
	if from.namespace == "" {
		from.namespace = o.Namespace
	}
	return strings.Join([]string{from.cluster, from.namespace, o.Name}, "/")
}

// CopyOf returns the owner of the Secret's original, as cluster/namespace/name; empty if the Secret is not a copy or a user has
// handed it over.
func (o Owner) CopyOf(secret *corev1.Secret) string {
	if !o.isCopy(secret) || o.inherits(secret) {
		return ""
	}
	return o.former(secret)
}

// inherits reports whether a user handed the copy over to the owner.
func (o Owner) inherits(secret *corev1.Secret) bool {
	return o.isCopy(secret) && o.Former != "" && o.Former == o.former(secret)
}

// FormerOwner completes the value of rekey.dev/take-over-from, for an object in namespace of this name: the value may omit the
// name, or namespace and name, if they are the same. Anything else is returned unchanged.
func FormerOwner(value, namespace, name string) string {
	switch strings.Count(value, "/") {
	case 0:
		if value == "" {
			return ""
		}
		return value + "/" + namespace + "/" + name
	case 1:
		return value + "/" + name
	}
	return value
}

// Elsewhere describes an owner, given as cluster/namespace/name, for messages.
func Elsewhere(kind, owner string) string {
	parts := strings.SplitN(owner, "/", 3)
	if len(parts) < 3 {
		return kind + " " + printable(owner)
	}
	return fmt.Sprintf("%s %s in cluster %s", kind, printable(parts[1]+"/"+parts[2]), printable(parts[0]))
}

// TakeOverAnnotation is the annotation that TakeOverCommand sets.
const TakeOverAnnotation = v1alpha1.AnnotationTakeOverFrom

// TakeOverCommand returns the kubectl command with which a user hands what belonged to former, given as cluster/namespace/name,
// over to the object.
func TakeOverCommand(kind, namespace, name, former string) string {
	words := []string{"kubectl"}
	if namespace != "" {
		words = append(words, "-n", namespace)
	}
	return strings.Join(append(words, "annotate", "--overwrite", strings.ToLower(kind), name, v1alpha1.AnnotationTakeOverFrom+"="+printable(former)), " ")
}

// copied describes a copied user's Secret and what to do; empty if it is not a copy.
func (o Options) copied(secret *corev1.Secret) string {
	former := o.Owner.CopyOf(secret)
	if former == "" {
		return ""
	}
	kind, holds, instead := o.Owner.GVK.Kind, "password", "a login of its own"
	if o.SecretType == corev1.SecretTypeTLS {
		holds, instead = "private key", "a new key"
	}
	if o.Owner.Held != "" {
		return fmt.Sprintf("Secret %s, with its %s, is a copy of the Secret of %s and is not changed: %s", o.secretRef(), holds, Elsewhere(kind, former), o.Owner.Held)
	}
	return fmt.Sprintf("Secret %s, with its %s, is a copy of the Secret of %s and is not changed: delete it with `%s` to get %s. If that owner no longer exists and this one replaces it, hand the Secret over with: %s",
		o.secretRef(), holds, Elsewhere(kind, former), o.kubectl("delete"), instead, TakeOverCommand(kind, o.Namespace, o.Owner.Name, former))
}

// copiedLedger does the same for a ledger.
func (s *Ledgered) copiedLedger(ledger *corev1.Secret) string {
	former, kind := s.opts.Owner.CopyOf(ledger), s.opts.Owner.GVK.Kind
	if former == "" {
		return ""
	}
	return fmt.Sprintf("ledger Secret %s is a copy of the ledger of %s, which owns the logins, so nothing is created or changed: delete Secrets %s and %s, and choose another username in a new object. If that owner no longer exists and this one replaces it, hand the logins over with: %s",
		s.ledgerKey(), Elsewhere(kind, former), ledger.Name, s.opts.SecretName, TakeOverCommand(kind, s.opts.Namespace, s.opts.Owner.Name, former))
}
