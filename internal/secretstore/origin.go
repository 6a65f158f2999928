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

// A Secret can be copied to another namespace or cluster together with the object that it belongs to. It then names an
// owner of the right kind and name that is not the one beside it. Secrets that an earlier release wrote do not say where
// they come from; they are believed to be where they were written.

// origin is where the owner of a Secret lives, as the Secret says; a part that it does not say is empty.
type origin struct{ cluster, namespace string }

func originOf(secret *corev1.Secret) origin {
	return origin{cluster: secret.Annotations[v1alpha1.AnnotationOwnerCluster], namespace: secret.Annotations[v1alpha1.AnnotationOwnerNamespace]}
}

// withRecords returns have with the annotations that an earlier release did not write taken from want. One that names the
// whole origin is returned as it is: it was written by this release.
func withRecords(have, want metav1.ObjectMeta) metav1.ObjectMeta {
	if have.Annotations[v1alpha1.AnnotationOwnerNamespace] != "" && have.Annotations[v1alpha1.AnnotationOwnerCluster] != "" {
		return have
	}
	have.Annotations = maps.Clone(have.Annotations)
	for _, key := range []string{v1alpha1.AnnotationOwnerNamespace, v1alpha1.AnnotationOwnerCluster, v1alpha1.AnnotationRotateHonoured} {
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

// isCopy reports whether the Secret was written for an object of our kind and name in another namespace or cluster. An
// owner whose cluster or namespace is not known does not compare it.
func (o Owner) isCopy(secret *corev1.Secret) bool {
	from := originOf(secret)
	elsewhere := func(theirs, ours string) bool { return theirs != "" && ours != "" && theirs != ours }
	return o.names(secret) && (elsewhere(from.cluster, o.Cluster) || elsewhere(from.namespace, o.Namespace))
}

// former is the owner that a copy names, in the form that the marks at a remote end have: cluster/namespace/name.
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

// CopyOf returns the owner of which the Secret is a copy, as cluster/namespace/name; empty where it is none, or where a
// person has handed it over.
func (o Owner) CopyOf(secret *corev1.Secret) string {
	if !o.isCopy(secret) || o.inherits(secret) {
		return ""
	}
	return o.former(secret)
}

// inherits reports whether a person handed the copy over to the owner.
func (o Owner) inherits(secret *corev1.Secret) bool {
	return o.isCopy(secret) && o.Former != "" && o.Former == o.former(secret)
}

// FormerOwner completes the value of rekey.dev/take-over-from, for an object in namespace of this name: it may leave out
// the name, or namespace and name, where they are the same as here. What is not of that form is returned as it is.
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

// Elsewhere describes an owner, given as cluster/namespace/name, for people.
func Elsewhere(kind, owner string) string {
	parts := strings.SplitN(owner, "/", 3)
	if len(parts) < 3 {
		return kind + " " + printable(owner)
	}
	return fmt.Sprintf("%s %s in cluster %s", kind, printable(parts[1]+"/"+parts[2]), printable(parts[0]))
}

// TakeOverAnnotation is the annotation that TakeOverCommand sets.
const TakeOverAnnotation = v1alpha1.AnnotationTakeOverFrom

// TakeOverCommand is how a person hands what belonged to former, given as cluster/namespace/name, over to the object.
func TakeOverCommand(kind, namespace, name, former string) string {
	words := []string{"kubectl"}
	if namespace != "" {
		words = append(words, "-n", namespace)
	}
	return strings.Join(append(words, "annotate", "--overwrite", strings.ToLower(kind), name, v1alpha1.AnnotationTakeOverFrom+"="+printable(former)), " ")
}

// copied says what a copied user's Secret is and what to do; empty where it is none.
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
		return fmt.Sprintf("Secret %s, with its %s, is a copy of that of %s, and is left alone: %s", o.secretRef(), holds, Elsewhere(kind, former), o.Owner.Held)
	}
	return fmt.Sprintf("Secret %s, with its %s, is a copy of that of %s, and is left alone: delete it with `%s` to get %s. If that one is gone and this one takes its place, hand it over with: %s",
		o.secretRef(), holds, Elsewhere(kind, former), o.kubectl("delete"), instead, TakeOverCommand(kind, o.Namespace, o.Owner.Name, former))
}

// copiedLedger says the same of a ledger.
func (s *Ledgered) copiedLedger(ledger *corev1.Secret) string {
	former, kind := s.opts.Owner.CopyOf(ledger), s.opts.Owner.GVK.Kind
	if former == "" {
		return ""
	}
	return fmt.Sprintf("ledger Secret %s is a copy of that of %s, whose logins they are, so nothing is made or changed: delete Secrets %s and %s, and choose another username in a new object. If that one is gone and this one takes its place, hand it over with: %s",
		s.ledgerKey(), Elsewhere(kind, former), ledger.Name, s.opts.SecretName, TakeOverCommand(kind, s.opts.Namespace, s.opts.Owner.Name, former))
}
