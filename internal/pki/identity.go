// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"
)

// Usage is an extended key usage, as the API spells it.
type Usage string

// The usages.
const (
	ClientAuth Usage = "ClientAuth"
	ServerAuth Usage = "ServerAuth"
)

// Identity is everything that a spec requires of a certificate and that the certificate itself shows, so that the two can be
// compared without any separate record.
type Identity struct {
	Names        Names
	Usages       []Usage
	KeyAlgorithm KeyAlgorithm
	// Lifetime counts from the time of issue, without the backdating.
	Lifetime time.Duration
	// AuthorityKeyID is the subject key identifier of the authority that is to sign, or has signed. A new key of the
	// authority is therefore a difference; a new certificate for the same key is not. If it is empty, any key may have signed.
	AuthorityKeyID []byte
	// Habits are those of the issuer. They are not requirements, so they are not part of the fingerprint.
	Habits Habits
}

// Habits are what an issuer's certificates may show beyond what was requested.
type Habits struct {
	// Backdate is how long before its time of issue a certificate becomes valid.
	Backdate time.Duration
	// MayAdd are the usages that the issuer may add.
	MayAdd Usages
}

// Usages are key usages and extended key usages, as a certificate holds them.
type Usages struct {
	Key      x509.KeyUsage
	Extended []x509.ExtKeyUsage
}

// IdentityOf returns the identity that a certificate of an issuer with these habits shows. Usages that rekey does not issue appear
// as object identifiers.
func IdentityOf(leaf *x509.Certificate, habits Habits) Identity {
	usages := namedUsages(leaf.ExtKeyUsage)
	for _, oid := range leaf.UnknownExtKeyUsage {
		usages = append(usages, Usage(oid.String()))
	}
	return Identity{
		Names:          NamesOf(leaf),
		Usages:         normalUsages(usages),
		KeyAlgorithm:   AlgorithmOf(leaf.PublicKey),
		Lifetime:       leaf.NotAfter.Sub(leaf.NotBefore) - habits.Backdate,
		AuthorityKeyID: leaf.AuthorityKeyId,
		Habits:         habits,
	}
}

func namedUsages(extended []x509.ExtKeyUsage) []Usage {
	out := make([]Usage, 0, len(extended))
	for _, usage := range extended {
		switch usage {
		case x509.ExtKeyUsageClientAuth:
			out = append(out, ClientAuth)
		case x509.ExtKeyUsageServerAuth:
			out = append(out, ServerAuth)
		default:
			out = append(out, Usage(fmt.Sprintf("other usage %d", usage)))
		}
	}
	return out
}

// IssuedAt returns the time of issue of a certificate that rekey has backdated.
func IssuedAt(leaf *x509.Certificate) time.Time { return leaf.NotBefore.Add(Backdate) }

// Fingerprint returns a hash of what the identity requires: SHA-256, in lowercase hex. It does not depend on the order of
// names, nor on different spellings of the same name.
func (i Identity) Fingerprint() string {
	h := sha256.New()
	for _, field := range i.fields() {
		hashList(h, field.name, field.values)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Shown returns the identity that a certificate shows, compared with the wanted one. ceiling is the earliest expiry of the
// certificates above the leaf. It matters for the lifetime, the only field that an authority may shorten:
//
//   - a certificate that expires at the ceiling, with a shorter lifetime than requested, counts as having the wanted lifetime;
//     otherwise it would be reissued forever;
//   - a certificate that outlives the ceiling counts as having no lifetime, so that it differs and is reissued;
//   - every other certificate counts with its own lifetime. So once the authority's certificate lives longer, a shortened
//     certificate differs.
//
// A usage that the issuer may add does not count, nor does the key that signed if i requires none.
func (i Identity) Shown(leaf *x509.Certificate, ceiling time.Time) Identity {
	shown := IdentityOf(leaf, i.Habits)
	if len(i.AuthorityKeyID) == 0 {
		shown.AuthorityKeyID = nil
	}
	added := namedUsages(i.Habits.MayAdd.Extended)
	shown.Usages = slices.DeleteFunc(shown.Usages, func(usage Usage) bool {
		return slices.Contains(added, usage) && !slices.Contains(i.Usages, usage)
	})
	switch {
	case leaf.NotAfter.After(ceiling):
		shown.Lifetime = 0
	case leaf.NotAfter.Equal(ceiling.Truncate(time.Second)) && shown.Lifetime < i.Lifetime:
		shown.Lifetime = i.Lifetime
	}
	return shown
}

// CertificateFingerprint equals wanted.Fingerprint() if and only if the certificate shows the wanted identity. For ceiling
// see Identity.Shown.
func CertificateFingerprint(leaf *x509.Certificate, wanted Identity, ceiling time.Time) string {
	return wanted.Shown(leaf, ceiling).Fingerprint()
}

// Diff describes every field in which the certificate differs from the wanted identity ("commonName is app, want
// app-server"), in a fixed order. It returns none if and only if the fingerprints are equal. For ceiling see Identity.Shown.
func Diff(leaf *x509.Certificate, wanted Identity, ceiling time.Time) []string {
	var out []string
	if leaf.NotAfter.After(ceiling) {
		out = append(out, fmt.Sprintf("notAfter is %s, after that of the authority, %s", Instant(leaf.NotAfter), Instant(ceiling)))
	}
	have, want := wanted.Shown(leaf, ceiling).fields(), wanted.fields()
	for k := range want {
		if slices.Equal(have[k].values, want[k].values) || want[k].name == fieldLifetime && len(out) > 0 {
			continue
		}
		out = append(out, fmt.Sprintf("%s is %s, want %s", want[k].name, show(have[k].values), show(want[k].values)))
	}
	return out
}

func show(values []string) string {
	if len(values) == 0 {
		return "empty"
	}
	return strings.Join(values, ", ")
}

const fieldLifetime = "lifetime"

type field struct {
	name   string
	values []string
}

// fields returns the identity in the form that is hashed and compared, with the API's field names.
func (i Identity) fields() []field {
	n := i.Names.Normalize()
	return []field{
		{"commonName", list(n.CommonName)},
		{"organizations", n.Organizations},
		{"dnsNames", n.DNSNames},
		{"uris", texts(n.URIs)},
		{"ipAddresses", texts(n.IPAddresses)},
		{"emailAddresses", n.EmailAddresses},
		{"usages", texts(normalUsages(i.Usages))},
		{"keyAlgorithm", list(string(i.KeyAlgorithm))},
		{fieldLifetime, list(i.Lifetime.Truncate(time.Second).String())},
		{"authority key", list(hex.EncodeToString(i.AuthorityKeyID))},
	}
}

// String implements fmt.Stringer.
func (u Usage) String() string { return string(u) }

func normalUsages(usages []Usage) []Usage {
	out := slices.Clone(usages)
	slices.Sort(out)
	return slices.Compact(out)
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func texts[T fmt.Stringer](in []T) []string {
	out := make([]string, 0, len(in))
	for _, v := range in {
		out = append(out, v.String())
	}
	return out
}

// hashList writes a name and a list with length prefixes, so that no two different lists produce the same bytes.
func hashList(h hash.Hash, name string, values []string) {
	var b bytes.Buffer
	for _, s := range append([]string{name}, values...) {
		b.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		b.WriteString(s)
	}
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(values))))
	_, _ = h.Write(b.Bytes())
}
