// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/secretstore"
)

// lifetimeSlack is how far a certificate's lifetime may differ from the requested one.
const lifetimeSlack = 2 * time.Hour

// owner returns the authority as the owner of its key pair's Secret. It fails if the UID of the cluster is unknown: a copied
// key could not be distinguished from the authority's own.
func (a *authorities) owner(ctx context.Context, object authorityObject) (secretstore.Owner, error) {
	cluster, err := a.cluster.Get(ctx)
	if err != nil {
		return secretstore.Owner{}, err
	}
	owner := ownerFor(string(object.id.kind), object.object, cluster, a.secretKey(object).Namespace)
	if object.id.namespace == "" {
		return owner, nil // a former owner of this kind, name and cluster is the authority itself, with the operator in another namespace
	}
	return handedOver(ctx, a.live, owner), nil
}

// checkOwner returns an error unless the Secret belongs to the authority. A Secret that a user restored belongs to it if it
// holds the recorded certificate and its key, and is handed over with rekey.dev/adopt: its content is the proof.
func (a *authorities) checkOwner(ctx context.Context, object authorityObject, secret *corev1.Secret) error {
	at := client.ObjectKeyFromObject(secret)
	owner, err := a.owner(ctx, object)
	if err != nil {
		return err
	}
	if former := owner.CopyOf(secret); former != "" {
		if owner.Held != "" {
			return fault.Permanent(fault.SecretConflict, fmt.Errorf("secret %s, with its private key, is a copy of the one of %s, and nothing is signed with it: %s",
				at, secretstore.Elsewhere(string(object.id.kind), former), owner.Held))
		}
		return fault.Permanent(fault.SecretConflict, fmt.Errorf(
			"secret %s, with its private key, is a copy of the one of %s, and nothing is signed with it: delete it and ConfigMap %s to start with a new key. If that authority no longer exists and this one replaces it, hand the Secret over with: %s",
			at, secretstore.Elsewhere(string(object.id.kind), former), a.recordKey(object),
			secretstore.TakeOverCommand(string(object.id.kind), object.id.namespace, object.id.name, former)))
	}
	if secret.Annotations[v1alpha1.AnnotationOwner] == owner.String() {
		return nil
	}
	if other := owner.OtherOwner(secret); other != "" {
		return fault.Permanent(fault.SecretConflict, fmt.Errorf("secret %s %s, so it is left unchanged: create another authority with another secretName", at, other))
	}
	record, err := a.readRecord(ctx, object)
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
		return a.notTheRecorded(object, secret, record)
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

// compareRecord returns an error unless the key pair is the one that was created for the authority.
func (a *authorities) compareRecord(ctx context.Context, parts authorityObject, secret *corev1.Secret) error {
	record, err := a.readRecord(ctx, parts)
	if err != nil || record == nil || sameCertificates(record.Data[credential.KeyCertificate], secret.Data[credential.KeyCertificate]) {
		return err
	}
	return a.notTheRecorded(parts, secret, record)
}

func (a *authorities) notTheRecorded(parts authorityObject, secret *corev1.Secret, record *corev1.ConfigMap) error {
	return fault.Permanent(fault.AuthorityLost, fmt.Errorf(
		"the certificate in Secret %s is not the one that was created for this authority, whose SHA-256 is %s (ConfigMap %s): restore the Secret from a backup, or delete the ConfigMap if the change was intended",
		client.ObjectKeyFromObject(secret), certificateHash(record.Data[credential.KeyCertificate]), a.recordKey(parts)))
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
	leaf := leafOf(credential.Material{credential.KeyCertificate: credential.SensitiveString(text)})
	if leaf == nil {
		return "unknown"
	}
	return pki.SHA256(leaf)
}

func isPair(secret *corev1.Secret) bool {
	_, err := tls.X509KeyPair(secret.Data[credential.KeyCertificate], secret.Data[credential.KeyPrivateKey])
	return err == nil
}

// earlierSpec describes how a managed authority's key pair differs from its spec, if it was created for an earlier authority of
// this name and retained.
func earlierSpec(parts authorityObject, authority *issuer.Authority) string {
	managed := parts.spec.Managed
	certificate := leafOf(credential.Material{credential.KeyCertificate: credential.NewSensitive(authority.Anchors)})
	if managed == nil || certificate == nil {
		return ""
	}
	var differs []string
	differ := func(field, has, wants string) {
		if has != wants {
			differs = append(differs, fmt.Sprintf("its %s is %q, but spec.managed says %q", field, has, wants))
		}
	}
	differ("commonName", certificate.Subject.CommonName, managed.CommonName)
	differ("keyAlgorithm", string(pki.AlgorithmOf(certificate.PublicKey)), string(managed.KeyAlgorithm))
	// The certificate is backdated: its validity starts slightly before the instant at which it was created.
	if lifetime := certificate.NotAfter.Sub(certificate.NotBefore); (lifetime - managed.Lifetime.Duration).Abs() > lifetimeSlack {
		differ("lifetime", lifetime.Truncate(time.Hour).String(), managed.Lifetime.Duration.String())
	}
	if len(differs) == 0 {
		return ""
	}
	return fmt.Sprintf(" The key pair was kept from an earlier authority of this name: %s; for another key pair, create an authority with another name and secretName.", strings.Join(differs, "; "))
}
