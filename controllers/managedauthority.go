// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/secretstore"
)

// The key of a managed authority is created once. Beside its Secret there is a record of the public certificate: an immutable
// ConfigMap without an owner. If the record exists and the Secret does not, the key was lost. The Secret is written first: a
// record without a key would be a false alarm, while a key without a record is recorded by the next reconcile.

// makeKeyPair creates the key pair and its record. If two processes do so at once, only one can create the Secret.
func (r *authorityReconciler) makeKeyPair(ctx context.Context, parts authorityObject) error {
	crt, key, err := r.authorities.keyPairs.Make(issuer.Root{
		CommonName: parts.spec.Managed.CommonName, KeyAlgorithm: issuer.KeyAlgorithm(parts.spec.Managed.KeyAlgorithm),
		Lifetime: parts.spec.Managed.Lifetime.Duration,
	}, r.clock.Now().UTC())
	if err != nil {
		return err
	}
	at := r.authorities.secretKey(parts)
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: at.Namespace, Name: at.Name},
		Type:       corev1.SecretTypeTLS,
		Data: map[string][]byte{
			credential.KeyCertificate: crt, credential.KeyPrivateKey: key.Reveal(), credential.KeyAuthority: crt,
		},
	}
	if err := r.dress(ctx, parts, secret); err != nil {
		return err
	}
	err = r.client.Create(ctx, secret)
	if apierrors.IsNotFound(err) && refusal.Of(err).Kind == refusal.KindNone {
		return fault.Blocked(fault.APIServerFailed, fmt.Errorf("creating Secret %s: the namespace does not exist: kubectl create namespace %s", at, at.Namespace))
	}
	if err != nil {
		return unquoted("creating Secret "+at.String(), ownedBy(parts, err))
	}
	return r.keepRecord(ctx, parts, secret, nil)
}

// dress sets rekey's labels, annotations and owner references on the Secret.
func (r *authorityReconciler) dress(ctx context.Context, parts authorityObject, secret *corev1.Secret) error {
	owner, err := r.authorities.owner(ctx, parts)
	if err != nil {
		return err
	}
	if secret.Labels == nil {
		secret.Labels = map[string]string{}
	}
	if secret.Annotations == nil {
		secret.Annotations = map[string]string{}
	}
	secret.Labels[v1alpha1.LabelManagedBy] = v1alpha1.ManagedBy
	secret.Labels[v1alpha1.LabelKind] = string(parts.id.kind)
	maps.Copy(secret.Annotations, owner.Annotations())
	secret.OwnerReferences = slices.DeleteFunc(secret.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.Kind == string(parts.id.kind) && ref.Name == parts.id.name
	})
	secret.OwnerReferences = append(secret.OwnerReferences, ownersOf(parts)...)
	return nil
}

// keepSecret restores labels, annotations and owner references. It never changes the key pair.
func (r *authorityReconciler) keepSecret(ctx context.Context, parts authorityObject, secret *corev1.Secret) error {
	want := secret.DeepCopy()
	if err := r.dress(ctx, parts, want); err != nil {
		return err
	}
	if maps.Equal(want.Labels, secret.Labels) && maps.Equal(want.Annotations, secret.Annotations) &&
		sameOwners(want.OwnerReferences, secret.OwnerReferences) {
		return nil
	}
	if err := r.client.Update(ctx, want); err != nil {
		return unquoted("updating Secret "+client.ObjectKeyFromObject(want).String(), ownedBy(parts, err))
	}
	return nil
}

// keepRecord creates the record if it does not exist. With the deletion policy Delete it is deleted with the authority, like
// the Secret; otherwise it has no owner and outlives the authority.
func (r *authorityReconciler) keepRecord(ctx context.Context, parts authorityObject, secret *corev1.Secret, record *corev1.ConfigMap) error {
	at := r.authorities.recordKey(parts)
	if record != nil {
		if sameOwners(record.OwnerReferences, ownersOf(parts)) {
			return nil
		}
		record.OwnerReferences = ownersOf(parts)
		if err := r.live.Update(ctx, record); err != nil {
			return refusal.Fault("updating ConfigMap "+at.String(), ownedBy(parts, err), nil) // it holds a public certificate
		}
		return nil
	}
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: at.Namespace, Name: at.Name,
			Labels:          map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelKind: string(parts.id.kind)},
			Annotations:     map[string]string{v1alpha1.AnnotationOwner: string(parts.id.kind) + "/" + parts.id.name},
			OwnerReferences: ownersOf(parts),
		},
		Immutable: new(true),
		Data:      map[string]string{credential.KeyCertificate: string(secret.Data[credential.KeyCertificate])},
	}
	err := r.live.Create(ctx, object)
	if err == nil || apierrors.IsAlreadyExists(err) && refusal.Of(err).Kind == refusal.KindNone {
		return nil
	}
	return refusal.Fault("creating ConfigMap "+at.String(), ownedBy(parts, err), nil)
}

// ownedBy marks the error of a write that names the authority as owner.
func ownedBy(parts authorityObject, err error) error {
	if parts.id.namespace == "" {
		return access.Owned("clustercertificateauthorities", err)
	}
	return access.Owned("certificateauthorities", err)
}

// unquoted reports who refused a write of the key, without the text of the refusal, which may quote the key.
func unquoted(doing string, err error) error {
	return refusal.Fault(doing, err, func(string) bool { return true })
}

// ownersOf returns the owner references of the authority's Secret and record: with the policy Delete both are deleted with it.
func ownersOf(parts authorityObject) []metav1.OwnerReference {
	if parts.spec.DeletionPolicy != v1alpha1.DeletionDelete {
		return nil
	}
	return []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: string(parts.id.kind), Name: parts.id.name,
		UID: parts.object.GetUID(), Controller: new(true), BlockOwnerDeletion: new(true),
	}}
}

func sameOwners(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(a, b metav1.OwnerReference) bool { return a.UID == b.UID && a.Kind == b.Kind })
}

// readRecord returns the record of the certificate; nil if it does not exist.
func (a *authorities) readRecord(ctx context.Context, parts authorityObject) (*corev1.ConfigMap, error) {
	at := a.recordKey(parts)
	var object corev1.ConfigMap
	err := a.live.Get(ctx, at, &object)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // no record and no error: it does not exist
	}
	if err != nil {
		return nil, refusal.Fault("reading ConfigMap "+at.String(), err, nil)
	}
	return &object, nil
}

func (a *authorities) recordKey(parts authorityObject) client.ObjectKey {
	return client.ObjectKey{
		Namespace: a.secretKey(parts).Namespace,
		Name:      secretstore.LedgerName(string(parts.id.kind), parts.id.name),
	}
}

func textHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
