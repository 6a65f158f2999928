// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

const (
	// lintSkew is how far an issuer's clock may differ from ours.
	lintSkew = time.Minute
	// A serial number has at least 64 random bits (CA/Browser Forum Baseline Requirements, section 7.1) and at most 20 bytes
	// (RFC 5280, section 4.1.2.2). Our own authority uses 128 bits; other issuers differ.
	minSerialBits, maxSerialBytes = 64, 20
)

// Candidate is a certificate that is about to be published.
type Candidate struct {
	// Material holds tls.crt, tls.key and ca.crt.
	Material credential.Material
	// Identity is what was requested. Without an AuthorityKeyID any signer under the trust anchors is accepted.
	Identity Identity
	// Permit checks the finished leaf against the authority's constraints; nil if it has none.
	Permit func(leaf *x509.Certificate) error
	// Now is the time of the check.
	Now time.Time
	// Since is the earliest time at which the certificate may have been issued; if it is zero, it was issued now.
	Since time.Time
}

// Lint checks a certificate before it is published, as the last step: it is complete and consistent, exactly what was
// requested, valid under its trust anchors now and until it expires, well-formed (RFC 5280), within the constraints, and
// usable: a TLS client and a TLS server complete a handshake in memory, with TLS 1.2 and 1.3, in each role that the usages
// name.
//
// The error is nil if nothing prevents publishing. Otherwise it and each finding that it unwraps to have class Permanent and
// reason CertificateInvalid. The handshake runs only if there are no other findings.
func Lint(ctx context.Context, c Candidate) error {
	secret, err := ParseTLSSecret(TLSSecretData(c.Material, nil))
	if err != nil {
		return findings{badCertificate("%w", err)}
	}
	var found findings
	found = append(found, lintIdentity(secret, c)...)
	found = append(found, lintForm(secret.Leaf, c.Identity.Habits.MayAdd.Key)...)
	found = append(found, lintTime(secret.Leaf, c)...)
	found = append(found, lintSigner(secret, c)...)
	if c.Permit != nil {
		if err := c.Permit(secret.Leaf); err != nil {
			found = append(found, badCertificate("the authority's constraints do not hold on the result: %w", err))
		}
	}
	if len(found) > 0 {
		return append(found, lintChain(secret, nil, c.Now)...)
	}
	// The handshake peers verify the chain as of now with the same code, so it is not verified twice.
	chains, err := lintHandshakes(ctx, secret, c)
	if _, isFinding := errors.AsType[findings](err); err != nil && !isFinding {
		return err
	}
	// If a handshake failed because of the chain, this error is clearer.
	if found := lintChain(secret, chains, c.Now); len(found) > 0 {
		return findings(found)
	}
	return err
}

// findings combines several errors into one.
type findings []error

// Error implements error: all findings on one line.
func (f findings) Error() string {
	texts := make([]string, 0, len(f))
	for _, err := range f {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the findings.
func (f findings) Unwrap() []error { return f }

func badCertificate(format string, args ...any) error {
	return fault.Permanent(fault.CertificateInvalid, fmt.Errorf(format, args...))
}

// lintIdentity reports every difference between the leaf and what was requested. Extra names are as wrong as missing ones.
func lintIdentity(secret *TLSSecret, c Candidate) []error {
	ceiling, ok := secret.Ceiling(c.Now)
	if !ok {
		return nil // lintSigner reports it
	}
	var found []error
	for _, difference := range Diff(secret.Leaf, c.Identity, ceiling) {
		found = append(found, badCertificate("%s", difference))
	}
	return found
}

// lintForm checks what RFC 5280 requires of every end-entity certificate, and what makes it safe. mayAdd are the key usages that
// the issuer may add; that to sign other certificates is never allowed.
func lintForm(leaf *x509.Certificate, mayAdd x509.KeyUsage) []error {
	var found []error
	add := func(format string, args ...any) { found = append(found, badCertificate(format, args...)) }

	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 {
		add("the certificate can sign others, which an identity's certificate must not")
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		add("the key usage digitalSignature is missing, which TLS 1.3 needs")
	}
	allowed := x509.KeyUsageDigitalSignature | mayAdd
	if _, ok := leaf.PublicKey.(*rsa.PublicKey); ok && slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) {
		allowed |= x509.KeyUsageKeyEncipherment
	}
	if excess := leaf.KeyUsage &^ (allowed | x509.KeyUsageCertSign | x509.KeyUsageCRLSign); excess != 0 {
		add("the key usages go beyond what TLS needs (excess bits %#x)", int(excess))
	}
	if err := CheckPublicKey(leaf.PublicKey); err != nil {
		add("%w", err)
	}
	if leaf.Version != 3 {
		add("the certificate has version %d, want 3", leaf.Version)
	}
	if bits := leaf.SerialNumber.BitLen(); leaf.SerialNumber.Sign() <= 0 || bits < minSerialBits || (bits+8)/8 > maxSerialBytes {
		add("the serial number of %d bits is refused; it must be positive, random, and have between %d bits and %d bytes", bits, minSerialBits, maxSerialBytes)
	}
	if len(leaf.SubjectKeyId) == 0 {
		add("the subject key identifier is missing")
	}
	if len(leaf.AuthorityKeyId) == 0 {
		add("the authority key identifier is missing")
	}
	if len(leaf.UnhandledCriticalExtensions) > 0 {
		add("there are critical extensions that TLS peers do not know: %v", leaf.UnhandledCriticalExtensions)
	}
	if err := NamesOf(leaf).Validate(); err != nil {
		add("%w", err)
	}
	return found
}

func lintTime(leaf *x509.Certificate, c Candidate) []error {
	var found []error
	if c.Now.Before(leaf.NotBefore) {
		found = append(found, badCertificate("the certificate is not valid before %s", Instant(leaf.NotBefore)))
	}
	since, backdate := c.Since, c.Identity.Habits.Backdate
	if since.IsZero() {
		since = c.Now
	}
	if early := since.Add(-backdate - lintSkew); leaf.NotBefore.Before(early) {
		found = append(found, badCertificate("the certificate starts at %s; it must not start before %s (%s of backdating, %s of skew)", Instant(leaf.NotBefore), Instant(early), backdate, lintSkew))
	}
	if !c.Now.Before(leaf.NotAfter) {
		found = append(found, badCertificate("the certificate has expired at %s", Instant(leaf.NotAfter)))
	}
	return found
}

// lintSigner checks which key signed the leaf.
func lintSigner(secret *TLSSecret, c Candidate) []error {
	path, ok := secret.Path(c.Now)
	if !ok {
		return []error{badCertificate("the chain does not end at a trust anchor: no certificate in %s has signed %s", credential.KeyAuthority, Describe(secret.top()))}
	}
	for _, usage := range c.Identity.Usages {
		if limiting := path.Limiting(usage); limiting != nil {
			return []error{badCertificate("no peer accepts it for %s: the extended key usage of its authority %s does not include that", usage, Describe(limiting))}
		}
	}
	if err := path.admits(secret.Leaf); err != nil {
		return []error{badCertificate("%w", err)}
	}
	signer := path.Certificates[0]
	if len(signer.SubjectKeyId) > 0 && !bytes.Equal(secret.Leaf.AuthorityKeyId, signer.SubjectKeyId) {
		return []error{badCertificate("the authority key identifier %x is not the subject key identifier %x of its signer %s", secret.Leaf.AuthorityKeyId, signer.SubjectKeyId, Describe(signer))}
	}
	return nil
}

// lintChain verifies the chain now and at the leaf's last moment of validity. chains are those already verified for now; if
// there are none, lintChain verifies for now itself. lintSigner reports a chain that does not reach a trust anchor.
func lintChain(secret *TLSSecret, chains [][]*x509.Certificate, now time.Time) []error {
	if _, ok := secret.Ceiling(now); !ok {
		return nil
	}
	verify := func(at time.Time) ([][]*x509.Certificate, error) {
		return secret.Leaf.Verify(x509.VerifyOptions{
			Roots:         secret.roots(),
			Intermediates: secret.pool(),
			CurrentTime:   at,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
	}
	var found []error
	var before string
	if len(chains) == 0 {
		var err error
		if chains, err = verify(now); err != nil {
			before = err.Error()
			found = append(found, badCertificate("the chain does not verify now (%s): %w", Instant(now), err))
		}
	}
	if err := lintDirectoryNames(chains); err != nil {
		found = append(found, err)
	}
	last := secret.Leaf.NotAfter
	if slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return allValid(chain, last) }) {
		return found // only the time would differ
	}
	if _, err := verify(last); err != nil && err.Error() != before {
		found = append(found, badCertificate("the chain does not verify at its last instant (%s): %w", Instant(last), err))
	}
	return found
}

// lintDirectoryNames checks what Go's verification does not: at least one chain must satisfy the constraints. Chains to a
// root count if there are any, because OpenSSL does not stop before the root.
func lintDirectoryNames(chains [][]*x509.Certificate) error {
	rooted := slices.DeleteFunc(slices.Clone(chains), func(chain []*x509.Certificate) bool {
		top := chain[len(chain)-1]
		return !bytes.Equal(top.RawSubject, top.RawIssuer)
	})
	if len(rooted) > 0 {
		chains = rooted
	}
	var first error
	for _, chain := range chains {
		err := checkDirectoryNames(chain)
		if err == nil {
			return nil
		}
		if first == nil {
			first = badCertificate("%w", err)
		}
	}
	return first
}

func allValid(chain []*x509.Certificate, at time.Time) bool {
	return !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return at.Before(c.NotBefore) || at.After(c.NotAfter) })
}
