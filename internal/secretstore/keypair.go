// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/refusal"
)

// KeyPair keeps the Secret of an authority whose key rekey creates, once. Beside the Secret there is a record of the public
// certificate: an immutable ConfigMap without an owner. If the record exists and the Secret does not, the key was lost. The Secret is
// written first: a record without a key would be a false alarm, while a key without a record is recorded by the next reconcile.
type KeyPair struct {
	// Client writes the Secret. Live reads past every cache, and writes the record.
	Client, Live client.Client
	// Owner is the authority. Scope is its own namespace; empty if it is cluster-wide.
	Owner Owner
	Scope string
	// DeletionPolicy Delete means that Secret and record are deleted with the authority.
	DeletionPolicy v1alpha1.DeletionPolicy
	// Namespace and Name are those of the Secret.
	Namespace, Name string
	// Owned marks the error of a write that names the authority as owner.
	Owned func(error) error
}

func (k KeyPair) secretKey() client.ObjectKey {
	return client.ObjectKey{Namespace: k.Namespace, Name: k.Name}
}

// RecordKey returns where the record of the certificate is.
func (k KeyPair) RecordKey() client.ObjectKey {
	return client.ObjectKey{Namespace: k.Namespace, Name: LedgerName(k.Owner.GVK.Kind, k.Owner.Name)}
}

// Read reads the content of the Secret live; nil if the Secret does not exist. A Secret that does not belong to the authority, or
// that does not hold the key pair that was created for it, is an error, and nothing in it is used.
func (k KeyPair) Read(ctx context.Context) (credential.Material, error) {
	secret, err := k.secret(ctx)
	if err != nil || secret == nil {
		return nil, err
	}
	record, err := k.record(ctx)
	if err != nil {
		return nil, err
	}
	if record != nil && !sameCertificates(record.Data[credential.KeyCertificate], secret.Data[credential.KeyCertificate]) {
		return nil, k.notTheRecorded(secret, record)
	}
	out := credential.Material{}
	for key, value := range secret.Data {
		out[key] = credential.NewSensitive(value)
	}
	return out, nil
}

// Ensure creates the key pair if there was never one, and otherwise restores what surrounds it. It calls stillWanted before it
// creates anything: a cache may be old, and a key created for a deleted object would stay behind permanently.
func (k KeyPair) Ensure(ctx context.Context, stillWanted func(context.Context) error, create func() (credential.Material, error)) error {
	secret, err := k.secret(ctx)
	if err != nil {
		return err
	}
	record, err := k.record(ctx)
	if err != nil {
		return err
	}
	switch {
	case secret == nil && record != nil:
		return fault.Permanent(fault.AuthorityLost, fmt.Errorf(
			"the key pair in Secret %s is missing, although it was created before: restore the Secret from a backup. To start with a new authority, whose certificates are not trusted anywhere yet, delete ConfigMap %s too",
			k.secretKey(), k.RecordKey()))
	case secret == nil || record == nil:
		if err := stillWanted(ctx); err != nil {
			return err
		}
	}
	if secret == nil {
		return k.create(ctx, create)
	}
	if err := k.keepSecret(ctx, secret); err != nil {
		return err
	}
	return k.keepRecord(ctx, secret, record)
}

// create creates the key pair and its record. If two processes do so at once, only one can create the Secret.
func (k KeyPair) create(ctx context.Context, create func() (credential.Material, error)) error {
	material, err := create()
	if err != nil {
		return err
	}
	at := k.secretKey()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: at.Namespace, Name: at.Name}, Type: corev1.SecretTypeTLS, Data: map[string][]byte{}}
	for key, value := range material {
		secret.Data[key] = value.Reveal()
	}
	k.setMetadata(secret)
	err = k.Client.Create(ctx, secret)
	if apierrors.IsNotFound(err) && refusal.Of(err).Kind == refusal.KindNone {
		return fault.Blocked(fault.APIServerFailed, fmt.Errorf("creating Secret %s: the namespace does not exist: kubectl create namespace %s", at, at.Namespace))
	}
	if err != nil {
		return unquoted("creating Secret "+at.String(), k.Owned(err))
	}
	return k.keepRecord(ctx, secret, nil)
}

// setMetadata sets rekey's labels, annotations and owner references on the Secret.
func (k KeyPair) setMetadata(secret *corev1.Secret) {
	secret.Labels = merged(secret.Labels, k.Owner.labels())
	secret.Annotations = merged(secret.Annotations, k.Owner.Annotations())
	secret.OwnerReferences = slices.DeleteFunc(secret.OwnerReferences, func(ref metav1.OwnerReference) bool {
		return ref.Kind == k.Owner.GVK.Kind && ref.Name == k.Owner.Name
	})
	secret.OwnerReferences = append(secret.OwnerReferences, k.owners()...)
}

// keepSecret restores labels, annotations and owner references. It never changes the key pair.
func (k KeyPair) keepSecret(ctx context.Context, secret *corev1.Secret) error {
	want := secret.DeepCopy()
	k.setMetadata(want)
	if maps.Equal(want.Labels, secret.Labels) && maps.Equal(want.Annotations, secret.Annotations) &&
		sameOwners(want.OwnerReferences, secret.OwnerReferences) {
		return nil
	}
	if err := k.Client.Update(ctx, want); err != nil {
		return unquoted("updating Secret "+client.ObjectKeyFromObject(want).String(), k.Owned(err))
	}
	return nil
}

// keepRecord creates the record if it does not exist. With the deletion policy Delete it is deleted with the authority, like
// the Secret; otherwise it has no owner and outlives the authority.
func (k KeyPair) keepRecord(ctx context.Context, secret *corev1.Secret, record *corev1.ConfigMap) error {
	at := k.RecordKey()
	if record != nil {
		if sameOwners(record.OwnerReferences, k.owners()) {
			return nil
		}
		record.OwnerReferences = k.owners()
		if err := k.Live.Update(ctx, record); err != nil {
			return refusal.Fault("updating ConfigMap "+at.String(), k.Owned(err), nil) // it holds a public certificate
		}
		return nil
	}
	object := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: at.Namespace, Name: at.Name, Labels: k.Owner.labels(),
			Annotations:     map[string]string{v1alpha1.AnnotationOwner: k.Owner.String()},
			OwnerReferences: k.owners(),
		},
		Immutable: new(true),
		Data:      map[string]string{credential.KeyCertificate: string(secret.Data[credential.KeyCertificate])},
	}
	err := k.Live.Create(ctx, object)
	if err == nil || apierrors.IsAlreadyExists(err) && refusal.Of(err).Kind == refusal.KindNone {
		return nil
	}
	return refusal.Fault("creating ConfigMap "+at.String(), k.Owned(err), nil)
}

// unquoted reports what refused a write of the key, without the text of the refusal, which may quote the key.
func unquoted(doing string, err error) error {
	return refusal.Fault(doing, err, func(string) bool { return true })
}

// owners returns the owner references of the Secret and the record: with the policy Delete both are deleted with the authority.
func (k KeyPair) owners() []metav1.OwnerReference {
	if k.DeletionPolicy != v1alpha1.DeletionDelete {
		return nil
	}
	return []metav1.OwnerReference{*metav1.NewControllerRef(&metav1.ObjectMeta{Name: k.Owner.Name, UID: k.Owner.UID}, k.Owner.GVK)}
}

func sameOwners(a, b []metav1.OwnerReference) bool {
	return slices.EqualFunc(a, b, func(a, b metav1.OwnerReference) bool { return a.UID == b.UID && a.Kind == b.Kind })
}

// secret reads the Secret live; nil if it does not exist. A Secret that does not belong to the authority is an error.
func (k KeyPair) secret(ctx context.Context) (*corev1.Secret, error) {
	at := k.secretKey()
	var secret corev1.Secret
	err := k.Live.Get(ctx, at, &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // no Secret and no error: it does not exist
	}
	if err != nil {
		return nil, refusal.Fault(fmt.Sprintf("reading Secret %s", at), err, nil)
	}
	if err := k.checkOwner(ctx, &secret); err != nil {
		return nil, err
	}
	return &secret, nil
}

// record returns the record of the certificate; nil if it does not exist.
func (k KeyPair) record(ctx context.Context) (*corev1.ConfigMap, error) {
	at := k.RecordKey()
	var object corev1.ConfigMap
	err := k.Live.Get(ctx, at, &object)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // no record and no error: it does not exist
	}
	if err != nil {
		return nil, refusal.Fault("reading ConfigMap "+at.String(), err, nil)
	}
	return &object, nil
}

// checkOwner returns an error unless the Secret belongs to the authority. A Secret that a user restored belongs to it if it
// holds the recorded certificate and its key, and is handed over with rekey.dev/adopt: its content is the proof.
func (k KeyPair) checkOwner(ctx context.Context, secret *corev1.Secret) error {
	at, owner := client.ObjectKeyFromObject(secret), k.Owner
	if former := owner.CopyOf(secret); former != "" {
		if owner.Held != "" {
			return fault.Permanent(fault.SecretConflict, fmt.Errorf("secret %s, with its private key, is a copy of the Secret of %s, so nothing is signed with it: %s",
				at, Elsewhere(owner.GVK.Kind, former), owner.Held))
		}
		return fault.Permanent(fault.SecretConflict, fmt.Errorf(
			"secret %s, with its private key, is a copy of the Secret of %s, so nothing is signed with it: delete it and ConfigMap %s to start with a new key. If that authority no longer exists and this one replaces it, hand the Secret over with: %s",
			at, Elsewhere(owner.GVK.Kind, former), k.RecordKey(),
			TakeOverCommand(owner.GVK.Kind, k.Scope, owner.Name, former)))
	}
	if secret.Annotations[v1alpha1.AnnotationOwner] == owner.String() {
		return nil
	}
	if other := owner.OtherOwner(secret); other != "" {
		return fault.Permanent(fault.SecretConflict, fmt.Errorf("secret %s %s, so it is left unchanged: create another authority with another secretName", at, other))
	}
	record, err := k.record(ctx)
	if err != nil {
		return err
	}
	if record == nil {
		return fault.Permanent(fault.SecretConflict, fmt.Errorf(
			"secret %s was not created for this authority, so it is left unchanged: rename or delete it to get a new key pair, or create another authority with another secretName or with keyPair", at))
	}
	handed := secret.Annotations[v1alpha1.AnnotationAdopt] == owner.String()
	switch is, key := sameCertificates(record.Data[credential.KeyCertificate], secret.Data[credential.KeyCertificate]), isPair(secret); {
	case !is:
		return k.notTheRecorded(secret, record)
	case !key:
		return fault.Permanent(fault.AuthorityLost, fmt.Errorf(
			"secret %s holds the certificate of this authority (SHA-256 %s), but not its private key: restore tls.key from a backup", at, certificateHash(record.Data[credential.KeyCertificate])))
	case !handed:
		return fault.Permanent(fault.SecretConflict, fmt.Errorf(
			"secret %s holds the certificate of this authority (SHA-256 %s) and its key, but was created by hand: hand it over with: kubectl -n %s annotate --overwrite secret %s %s=%s",
			at, certificateHash(record.Data[credential.KeyCertificate]), at.Namespace, at.Name, v1alpha1.AnnotationAdopt, owner))
	}
	return nil
}

func (k KeyPair) notTheRecorded(secret *corev1.Secret, record *corev1.ConfigMap) error {
	return fault.Permanent(fault.AuthorityLost, fmt.Errorf(
		"the certificate in Secret %s is not the one that was created for this authority, whose SHA-256 is %s (ConfigMap %s): restore the Secret from a backup, or delete the ConfigMap if the change was intended",
		client.ObjectKeyFromObject(secret), certificateHash(record.Data[credential.KeyCertificate]), k.RecordKey()))
}

// sameCertificates compares the contents of two PEM texts. Line endings, text around the blocks and a missing final line break
// make no difference.
func sameCertificates(recorded string, have []byte) bool {
	want, got := certificatesIn([]byte(recorded)), certificatesIn(have)
	if len(want) == 0 {
		return recorded == string(have)
	}
	return len(want) == len(got) && bytes.Equal(bytes.Join(want, nil), bytes.Join(got, nil))
}

func certificatesIn(text []byte) (out [][]byte) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			out = append(out, block.Bytes)
		}
	}
	return out
}

// certificateHash returns the SHA-256 of the first certificate, as shown in status.sha256.
func certificateHash(text string) string {
	certificates := certificatesIn([]byte(text))
	if len(certificates) == 0 {
		return "unknown"
	}
	sum := sha256.Sum256(certificates[0])
	return hex.EncodeToString(sum[:])
}

func isPair(secret *corev1.Secret) bool {
	_, err := tls.X509KeyPair(secret.Data[credential.KeyCertificate], secret.Data[credential.KeyPrivateKey])
	return err == nil
}
