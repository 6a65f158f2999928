// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// maxSecretBytes is the maximum length of all values of a Secret together (Kubernetes, "Secrets": 1 MiB).
const maxSecretBytes = 1 << 20

// Keystores are values of the user's Secret that hold its certificate and private key once more, encrypted with a password. Encoding
// the same content twice returns different bytes, so they are not compared with what they should be: an annotation holds a seal of
// what went into them and of their bytes, and the Secret keeps them while it fits. One value serves one reconcile of one object.
type Keystores struct {
	// Keys are the keys of the values.
	Keys []string
	// Encode returns the values, by key, for the rest of the Secret's data. The private key among that is never a placeholder.
	Encode func(data map[string][]byte) (map[string][]byte, error)
	// Seal returns a text that depends on everything that Encode uses, and on the values.
	Seal func(data map[string][]byte) (string, error)
	// Unknown is why neither can be called now, because the password is missing; nil if both can. Until then the Secret keeps the values
	// that it has, and everything else in it is renewed.
	Unknown error

	// failed is why the values could not be encoded.
	failed error
	// encoded are the values that were encoded last, and from what.
	encoded     map[string][]byte
	encodedFrom [sha256.Size]byte
}

// Failed returns why the values could not be encoded although the password is known; nil if they could.
func (k *Keystores) Failed() error {
	if k == nil {
		return nil
	}
	return k.failed
}

// KeystoreVersion is the version that the keystores in a Secret were written for.
type KeystoreVersion struct {
	Seq      int64
	NotAfter time.Time
}

// keystoreRecord is the value of rekey.dev/keystores.
type keystoreRecord struct {
	KeystoreVersion

	seal string
}

// String returns "<number> <notAfter> <seal>".
func (r keystoreRecord) String() string {
	return strings.Join([]string{strconv.FormatInt(r.Seq, 10), r.NotAfter.UTC().Format(time.RFC3339), r.seal}, " ")
}

// keystoresOf returns what a Secret records about its keystores; zero if it records nothing.
func keystoresOf(secret *corev1.Secret) keystoreRecord {
	if secret == nil {
		return keystoreRecord{}
	}
	parts := strings.Split(secret.Annotations[v1alpha1.AnnotationKeystores], " ")
	if len(parts) != 3 {
		return keystoreRecord{}
	}
	seq, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || seq < 0 || seq > maxClaimed {
		return keystoreRecord{}
	}
	at, err := time.Parse(time.RFC3339, parts[1])
	if err != nil {
		return keystoreRecord{}
	}
	return keystoreRecord{KeystoreVersion{seq, at.UTC()}, parts[2]}
}

// otherKeystores reports whether a Secret has keystores that it did not have before: each time they are encoded, their seal is another
// one.
func otherKeystores(before, after *corev1.Secret) bool {
	now := keystoresOf(after)
	return now.seal != "" && now.seal != keystoresOf(before).seal
}

// addKeystores completes want, which has all other data of the current version.
func (o Options) addKeystores(have, want *corev1.Secret, current Record) {
	k := o.Keystores
	if k == nil {
		delete(want.Annotations, v1alpha1.AnnotationKeystores)
		return
	}
	if k.Unknown == nil {
		if k.failed = o.renewKeystores(have, want, current); k.failed == nil {
			return
		}
	}
	k.keep(have, want)
}

// keep copies the values that the Secret has, of whatever version.
func (k *Keystores) keep(have, want *corev1.Secret) {
	kept := maps.Clone(want.Data)
	for _, key := range k.Keys {
		if have != nil && len(have.Data[key]) > 0 {
			kept[key] = have.Data[key]
		}
	}
	if len(kept) == len(want.Data) || valuesSize(kept) > maxSecretBytes {
		delete(want.Annotations, v1alpha1.AnnotationKeystores)
		return
	}
	want.Data = kept
}

// renewKeystores adds the values of the current version: those that the Secret has if their seal fits, else new ones.
func (o Options) renewKeystores(have, want *corev1.Secret, current Record) error {
	k := o.Keystores
	if shown := keystoresOf(have); shown.seal != "" {
		with := maps.Clone(want.Data)
		for _, key := range k.Keys {
			with[key] = have.Data[key]
		}
		if seal, err := k.Seal(with); err == nil && seal == shown.seal {
			want.Data = with
			want.Annotations[v1alpha1.AnnotationKeystores] = keystoreRecord{KeystoreVersion{current.Seq, current.NotAfter}, seal}.String()
			return nil
		}
	}
	values, err := k.encode(want.Data)
	if err != nil {
		return o.notWritten(err)
	}
	with := maps.Clone(want.Data)
	maps.Copy(with, values)
	if size := valuesSize(with); size > maxSecretBytes {
		return o.notWritten(fmt.Errorf("the Secret would be %d bytes long, and Kubernetes stores at most %d: remove a format from spec.formats, or shorten the trust anchors of the authority",
			size, maxSecretBytes))
	}
	seal, err := k.Seal(with)
	if err != nil {
		return o.notWritten(err)
	}
	want.Data = with
	want.Annotations[v1alpha1.AnnotationKeystores] = keystoreRecord{KeystoreVersion{current.Seq, current.NotAfter}, seal}.String()
	return nil
}

func (o Options) notWritten(err error) error {
	return fault.Permanent(fault.KeystoreNotWritten, fmt.Errorf("the keystores in Secret %s are not written: %w", o.secretRef(), err))
}

// encode calls Encode once for the same data: encrypting takes long, and the same values are to be written that were compared.
func (k *Keystores) encode(data map[string][]byte) (map[string][]byte, error) {
	h := sha256.New()
	for _, key := range []string{credential.KeyCertificate, credential.KeyPrivateKey, credential.KeyAuthority} {
		_, _ = fmt.Fprintf(h, "%d ", len(data[key]))
		_, _ = h.Write(data[key])
	}
	from := [sha256.Size]byte(h.Sum(nil))
	if k.encoded != nil && k.encodedFrom == from {
		return k.encoded, nil
	}
	values, err := k.Encode(data)
	if err != nil {
		return nil, err
	}
	for _, key := range k.Keys {
		if len(values[key]) == 0 {
			return nil, fmt.Errorf("%s is empty", key)
		}
	}
	k.encoded, k.encodedFrom = values, from
	return values, nil
}

// valuesSize returns the length of all values, as the API server counts it.
func valuesSize(data map[string][]byte) int {
	size := 0
	for _, key := range slices.Sorted(maps.Keys(data)) {
		size += len(data[key])
	}
	return size
}
