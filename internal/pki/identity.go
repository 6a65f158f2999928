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

// Usage is an extended key usage, in the words of the API.
type Usage string

// The usages.
const (
	ClientAuth Usage = "ClientAuth"
	ServerAuth Usage = "ServerAuth"
)

// Identity is everything that a spec demands of a certificate and that the certificate itself shows, so that the two
// can be compared without any note beside the certificate.
type Identity struct {
	Names        Names
	Usages       []Usage
	KeyAlgorithm KeyAlgorithm
	// Lifetime counts from the instant of issue, without the backdating.
	Lifetime time.Duration
	// AuthorityKeyID is the subject key identifier of the authority that is to sign, or has signed. A new key of the
	// authority is therefore a difference; a new certificate of the same key is none.
	AuthorityKeyID []byte
}

// IdentityOf reads what a certificate shows. Usages that rekey does not issue appear under their object identifier.
func IdentityOf(leaf *x509.Certificate) Identity {
	var usages []Usage
	for _, usage := range leaf.ExtKeyUsage {
		switch usage {
		case x509.ExtKeyUsageClientAuth:
			usages = append(usages, ClientAuth)
		case x509.ExtKeyUsageServerAuth:
			usages = append(usages, ServerAuth)
		default:
			usages = append(usages, Usage(fmt.Sprintf("other usage %d", usage)))
		}
	}
	for _, oid := range leaf.UnknownExtKeyUsage {
		usages = append(usages, Usage(oid.String()))
	}
	return Identity{
		Names:          NamesOf(leaf),
		Usages:         normalUsages(usages),
		KeyAlgorithm:   AlgorithmOf(leaf.PublicKey),
		Lifetime:       leaf.NotAfter.Sub(leaf.NotBefore) - Backdate,
		AuthorityKeyID: leaf.AuthorityKeyId,
	}
}

// IssuedAt tells the instant of issue of a certificate that was backdated as rekey does it.
func IssuedAt(leaf *x509.Certificate) time.Time { return leaf.NotBefore.Add(Backdate) }

// Fingerprint hashes what the identity demands: SHA-256, in lower case hex. It does not change with the order or the
// spelling of names that mean the same.
func (i Identity) Fingerprint() string {
	h := sha256.New()
	for _, field := range i.fields() {
		hashList(h, field.name, field.values)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Shown is the identity that a certificate shows to somebody who wants this one. ceiling is the first instant at which a
// certificate above the leaf expires. It decides about the lifetime, the one field that an authority may cut short:
//
//   - a certificate that ends at the ceiling, having less than what was asked for, counts as having the wanted lifetime,
//     or it would be issued again for ever;
//   - a certificate that outlives the ceiling counts as having none, so that it differs and is issued again;
//   - every other counts as it is. So once the authority's certificate lives longer, one that was cut short differs.
func (i Identity) Shown(leaf *x509.Certificate, ceiling time.Time) Identity {
	shown := IdentityOf(leaf)
	switch {
	case leaf.NotAfter.After(ceiling):
		shown.Lifetime = 0
	case leaf.NotAfter.Equal(ceiling.Truncate(time.Second)) && shown.Lifetime < i.Lifetime:
		shown.Lifetime = i.Lifetime
	}
	return shown
}

// CertificateFingerprint equals wanted.Fingerprint() exactly if the certificate shows what is wanted. For ceiling see
// Identity.Shown.
func CertificateFingerprint(leaf *x509.Certificate, wanted Identity, ceiling time.Time) string {
	return wanted.Shown(leaf, ceiling).Fingerprint()
}

// Diff names in words every field in which the certificate differs from what is wanted ("commonName is app, want
// app-server"), in a fixed order; none exactly if the fingerprints are equal. For ceiling see Identity.Shown.
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

// fields is the identity in the form that is hashed and compared: names of fields as the API has them.
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

// hashList writes a name and a list so that no two different lists are written alike: with lengths in front.
func hashList(h hash.Hash, name string, values []string) {
	var b bytes.Buffer
	for _, s := range append([]string{name}, values...) {
		b.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		b.WriteString(s)
	}
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(values))))
	_, _ = h.Write(b.Bytes())
}
