// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/rekey/rekey/api/v1alpha1"
)

// records reports whether the Secret's annotations name us as owner, and it is not a copy.
func (o Owner) records(secret *corev1.Secret) bool { return o.names(secret) && !o.isCopy(secret) }

// wrote reports whether the Secret was written for this object, and not for another one with its name.
func (o Owner) wrote(secret *corev1.Secret) bool {
	uid := secret.Annotations[v1alpha1.AnnotationOwnerUID]
	return uid == "" || uid == string(o.UID)
}

// mayTake reports whether the Secret is ours, or a user handed it over. A copy may still have rekey.dev/adopt from the time when
// the original was handed over.
func (o Owner) mayTake(secret *corev1.Secret) bool {
	if o.isCopy(secret) {
		return o.inherits(secret)
	}
	return o.names(secret) || secret.Annotations[v1alpha1.AnnotationAdopt] == o.String()
}

// overtaken reports whether the Secret was written for a later state of the owner than the caller knows, or whether that cannot
// be determined. Resource versions of one object compare as numbers (Kubernetes, "Resource versions": since 1.35).
func (o Owner) overtaken(secret *corev1.Secret) bool {
	if secret == nil || secret.Annotations[v1alpha1.AnnotationOwnerUID] != string(o.UID) {
		return true
	}
	order, err := resourceversion.CompareResourceVersion(o.ResourceVersion, secret.Annotations[v1alpha1.AnnotationOwnerVersion])
	return err != nil || order < 0
}

// stamp records in want the state of the owner for which it replaces have. The state never goes back.
func (o Owner) stamp(have, want *corev1.Secret) {
	if o.ResourceVersion == "" {
		return
	}
	if have != nil && have.Annotations[v1alpha1.AnnotationOwnerUID] == string(o.UID) {
		order, err := resourceversion.CompareResourceVersion(o.ResourceVersion, have.Annotations[v1alpha1.AnnotationOwnerVersion])
		if err == nil && order < 0 {
			return
		}
	}
	want.Annotations[v1alpha1.AnnotationOwnerVersion] = o.ResourceVersion
}

// conflict names the Secret's owner and what to do; it is empty if rekey may write the Secret.
func (o Options) conflict(secret *corev1.Secret) string {
	if vital := vital(secret); vital != "" {
		return fmt.Sprintf("Secret %s %s, as its %s, and must not be deleted: choose another secretName in a new object", o.secretRef(), holder(secret), vital)
	}
	if copied := o.copied(secret); copied != "" && !o.ledgered {
		return copied
	}
	if !o.Owner.mayTake(secret) && !o.Owner.isCopy(secret) {
		return fmt.Sprintf("Secret %s %s and is not changed: choose another secretName, delete the Secret, or hand it over%s with: %s",
			o.secretRef(), holder(secret), o.price(secret), o.kubectl("annotate", "--overwrite", v1alpha1.AnnotationAdopt+"="+o.Owner.String()))
	}
	if ref := foreignController(secret); ref != nil {
		return fmt.Sprintf("Secret %s is controlled by %s, which also writes it: delete that object, or remove its owner reference from the Secret with: kubectl -n %s edit secret %s",
			o.secretRef(), printable(ref.Kind+"/"+ref.Name), o.Namespace, o.SecretName)
	}
	if secret.Type != o.SecretType {
		return fmt.Sprintf("Secret %s has the type %s, and a Secret's type cannot be changed to %s: keep a copy with `kubectl -n %s get secret %s -o yaml > %s-old.yaml`, then delete it with `%s`; rekey recreates it immediately",
			o.secretRef(), printable(string(secret.Type)), o.SecretType, o.Namespace, o.SecretName, o.SecretName, o.kubectl("delete"))
	}
	return ""
}

// immutableConflict describes our Secret if its data must change and cannot.
func (o Options) immutableConflict() string {
	return fmt.Sprintf("Secret %s is immutable, so no new version can be published in it: delete it with `%s`; rekey recreates it immediately, and mutable",
		o.secretRef(), o.kubectl("delete"))
}

func (o Options) kubectl(verb string, arguments ...string) string {
	words := append([]string{"kubectl", "-n", o.Namespace, verb, "secret", o.SecretName}, arguments...)
	return strings.Join(words, " ")
}

// holder describes the owner of a Secret that is not ours.
func holder(secret *corev1.Secret) string {
	if owner := secret.Annotations[v1alpha1.AnnotationOwner]; owner != "" {
		if kind, name, ok := strings.Cut(owner, "/"); ok && originOf(secret) != (origin{}) {
			return "belonged to " + Elsewhere(kind, strings.Join([]string{originOf(secret).cluster, originOf(secret).namespace, name}, "/"))
		}
		return "belongs to " + printable(owner)
	}
	if ref := metav1.GetControllerOf(secret); ref != nil {
		return "is controlled by " + printable(ref.Kind+"/"+ref.Name)
	}
	if release := secret.Annotations[annotationHelmRelease]; release != "" {
		return "belongs to Helm release " + printable(release)
	}
	return "was not created by rekey"
}

// vital returns what another object keeps in the Secret and could not recreate; empty if it could. Such a Secret is never
// adopted, and no message suggests deleting it.
func vital(secret *corev1.Secret) string {
	switch kind, _, _ := OwnerOf(secret); {
	case secret.Type == v1alpha1.SecretTypeLedger:
		return "ledger"
	case kind == string(v1alpha1.AuthorityKindNamespaced), kind == string(v1alpha1.AuthorityKindCluster):
		return "key pair"
	}
	return ""
}

// OtherOwner describes the rekey object, other than the owner, that a Secret belongs to; empty if it belongs to none.
func (o Owner) OtherOwner(secret *corev1.Secret) string {
	if secret.Annotations[v1alpha1.AnnotationOwner] == "" || o.names(secret) {
		return ""
	}
	return holder(secret)
}

// foreignController returns the controller of the Secret if it is not of our API group.
func foreignController(secret *corev1.Secret) *metav1.OwnerReference {
	if ref := metav1.GetControllerOf(secret); ref != nil && !ofOurGroup(*ref) {
		return ref
	}
	return nil
}

func ofOurGroup(ref metav1.OwnerReference) bool {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	return err == nil && gv.Group == v1alpha1.GroupVersion.Group
}

// ownerReferences returns the owner references that the Secret should have: those that others put there, and ours if the
// policy is Delete. A controller of our group that is not the owner (an earlier object of the same name, or the Secret's
// former owner) is dropped.
func (o Options) ownerReferences(have []metav1.OwnerReference) []metav1.OwnerReference {
	var want []metav1.OwnerReference
	wanted := o.DeletionPolicy == v1alpha1.DeletionDelete
	for _, ref := range have {
		switch {
		case ref.Controller == nil || !*ref.Controller || !ofOurGroup(ref):
			want = append(want, ref)
		case wanted && ref.UID == o.Owner.UID:
			want = append(want, o.ownerReference())
			wanted = false
		}
	}
	if wanted {
		want = append(want, o.ownerReference())
	}
	return want
}

// ownerReference returns a reference that does not block the owner's deletion: that would need permission to update finalizers.
func (o Options) ownerReference() metav1.OwnerReference {
	controller := true
	return metav1.OwnerReference{
		APIVersion: o.Owner.GVK.GroupVersion().String(),
		Kind:       o.Owner.GVK.Kind,
		Name:       o.Owner.Name,
		UID:        o.Owner.UID,
		Controller: &controller,
	}
}

// printable bounds text that others wrote before it goes into a message.
func printable(s string) string {
	const most = 128
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
