// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Object identifiers of the extensions of an authority's certificate.
var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
)

func badPath(format string, args ...any) error { return fmt.Errorf(format, args...) }

// step checks the last certificate of a path: that it may sign, and that its path length allows the certificates below it
// (RFC 5280, sections 4.2.1.3, 4.2.1.9 and 6.1.4). Like Go, it counts every certificate, including self-issued ones.
func (s *search) step(way []*x509.Certificate) error {
	top, below := way[len(way)-1], len(way)-1
	if err := maySign(top); err != nil {
		return err
	}
	if limited := top.MaxPathLen > 0 || top.MaxPathLenZero; limited && top.MaxPathLen < below {
		return badPath("%s has the path length %d, which does not allow %d authorities below it", Describe(top), top.MaxPathLen, below)
	}
	if len(way) > maxPath {
		return badPath("the path has more than %d certificates", maxPath)
	}
	return nil
}

// maySign checks whether a certificate's own extensions allow it to sign. As in Go and OpenSSL, a certificate without a key
// usage may sign (RFC 5280, section 6.1.4 (n)), and so may a self-signed one of X.509 version 1.
func maySign(certificate *x509.Certificate) error {
	old := certificate.Version < 3 && selfIssued(certificate)
	switch {
	case (!certificate.BasicConstraintsValid || !certificate.IsCA) && !old:
		return badPath("%s is not an authority: its basic constraints lack CA:TRUE", Describe(certificate))
	case hasExtension(certificate, oidKeyUsage) && certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return badPath("%s may not sign certificates: its key usage lacks keyCertSign; sign it again, with the same key, with keyUsage=critical,keyCertSign,cRLSign", Describe(certificate))
	case slices.ContainsFunc(certificate.UnhandledCriticalExtensions, oidNameConstraints.Equal):
		return badPath("%s has critical name constraints of a kind that Go, which rekey and many peers verify with, does not support (2.5.29.30; it supports DNS names, IP addresses, email addresses and URIs): sign it again without the others", Describe(certificate))
	case len(certificate.UnhandledCriticalExtensions) > 0:
		return badPath("%s has critical extensions that Go, which rekey and many peers verify with, does not support: %v", Describe(certificate), certificate.UnhandledCriticalExtensions)
	}
	return nil
}

func hasExtension(certificate *x509.Certificate, id asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(certificate.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(id) })
}

// NameConstraints returns the name constraints extension in DER; nil if the certificate has none.
func NameConstraints(certificate *x509.Certificate) []byte {
	for _, extension := range certificate.Extensions {
		if extension.Id.Equal(oidNameConstraints) {
			return extension.Value
		}
	}
	return nil
}

// unsigned explains why the signature of parent, which has the name of the child's issuer, on the child cannot be verified.
func unsigned(child, parent *x509.Certificate, err error) error {
	var outdated x509.InsecureAlgorithmError
	switch refusal := maySign(parent); {
	case refusal != nil:
		return refusal
	case errors.As(err, &outdated):
		return unsupported("%s is signed with %s, which Go no longer accepts: sign it again with SHA-256", Describe(child), child.SignatureAlgorithm)
	case errors.Is(err, x509.ErrUnsupportedAlgorithm):
		return unsupported("%s is signed with %s, which Go's TLS does not support", Describe(child), signatureName(child))
	}
	return badPath("%s has the name of the issuer of %s, but has not signed it: %w", Describe(parent), Describe(child), err)
}

func signatureName(certificate *x509.Certificate) string {
	if certificate.SignatureAlgorithm != x509.UnknownSignatureAlgorithm {
		return certificate.SignatureAlgorithm.String()
	}
	read, err := readOutline(certificate.Raw)
	if err != nil {
		return "an unknown algorithm"
	}
	return nameOfOID(read.Algorithm.Algorithm)
}

// failure explains why there is no path.
func (s *search) failure(start *x509.Certificate, chain, anchors Bundle) error {
	if s.visits > maxVisits {
		return badPath("its certificates sign each other in too many ways: keep only those of one path in tls.crt and ca.crt")
	}
	highest := s.highest(start)
	for _, file := range []struct {
		name   string
		bundle Bundle
	}{{"tls.crt", chain}, {"ca.crt", anchors}} {
		if found, ok := file.bundle.named(highest.RawIssuer); ok {
			return fmt.Errorf("%s, the issuer of %s, is in %s and %w", found, Describe(highest), file.name, found.Err)
		}
	}
	if s.obstacle != nil {
		return s.obstacle
	}
	for _, candidate := range s.above {
		if bytes.Equal(candidate.RawSubject, highest.RawIssuer) {
			return badPath("the certificates above %s sign each other in a circle, and none of them leads to a certificate in ca.crt: add the trust anchor to ca.crt, or the certificates that lead to it to tls.crt", Describe(start))
		}
		if strings.EqualFold(candidate.Subject.String(), highest.Issuer.String()) {
			return badPath("the issuer of %s is not byte for byte the same as the subject of %s (the type of a string or the case differs), which Go does not accept: sign it again", Describe(highest), Describe(candidate))
		}
	}
	return badPath("the path from the first certificate of tls.crt breaks off at %s: the certificate of its issuer, %s, is neither in tls.crt nor in ca.crt", Describe(highest), shortened(highest.Issuer.String()))
}

// highest returns the highest certificate that can be reached from start by names and signatures alone.
func (s *search) highest(start *x509.Certificate) *x509.Certificate {
	top := start
	for range maxPath {
		next := slices.IndexFunc(s.above, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, top.RawIssuer) && !sameAuthority(c, top) && checkSignature(top, c) == nil
		})
		if next < 0 {
			break
		}
		top = s.above[next]
	}
	return top
}

// selfIssued distinguishes a root from an intermediate without trusting its signature.
func selfIssued(certificate *x509.Certificate) bool {
	return bytes.Equal(certificate.RawSubject, certificate.RawIssuer) &&
		(len(certificate.AuthorityKeyId) == 0 || len(certificate.SubjectKeyId) == 0 || bytes.Equal(certificate.AuthorityKeyId, certificate.SubjectKeyId))
}

// selfSignature refuses a damaged root. No peer relies on a trust anchor's signature on itself, so a signature with an
// outdated or unknown algorithm is accepted.
func selfSignature(root *x509.Certificate) error {
	key := sha256.Sum256(root.Raw) // A key of its own: checkSignature checks more than this does.
	if _, ok := signatures.Get(key); ok {
		return nil
	}
	var outdated x509.InsecureAlgorithmError
	err := root.CheckSignature(root.SignatureAlgorithm, root.RawTBSCertificate, root.Signature)
	if err != nil && !errors.As(err, &outdated) && !errors.Is(err, x509.ErrUnsupportedAlgorithm) {
		return err
	}
	signatures.Put(key, struct{}{})
	return nil
}

// usagesOf returns the usages that the extended key usages of all certificates allow.
func usagesOf(certificates []*x509.Certificate) []Usage {
	var out []Usage
	for _, usage := range []Usage{ClientAuth, ServerAuth} {
		if !slices.ContainsFunc(certificates, func(c *x509.Certificate) bool { return !leaves(c, usage) }) {
			out = append(out, usage)
		}
	}
	return out
}

func leaves(certificate *x509.Certificate, usage Usage) bool {
	wanted := map[Usage]x509.ExtKeyUsage{ClientAuth: x509.ExtKeyUsageClientAuth, ServerAuth: x509.ExtKeyUsageServerAuth}[usage]
	return len(certificate.ExtKeyUsage)+len(certificate.UnknownExtKeyUsage) == 0 ||
		slices.Contains(certificate.ExtKeyUsage, wanted) || slices.Contains(certificate.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// limiting returns the first certificate that removes a usage by its extended key usage.
func limiting(certificates []*x509.Certificate) *x509.Certificate {
	for _, certificate := range certificates {
		if !leaves(certificate, ClientAuth) || !leaves(certificate, ServerAuth) {
			return certificate
		}
	}
	return certificates[0]
}

// Limiting returns the first certificate with an extended key usage that does not allow the usage for a leaf; nil if there
// is none.
func (p Path) Limiting(usage Usage) *x509.Certificate {
	for _, certificate := range p.Certificates {
		if !leaves(certificate, usage) {
			return certificate
		}
	}
	return nil
}

// fittingIDs reports whether every authority key identifier along the path names the key above it. Otherwise OpenSSL does
// not accept the certificate above as the issuer.
func fittingIDs(p Path) bool {
	for i, certificate := range p.Certificates[1:] {
		below := p.Certificates[i]
		if len(below.AuthorityKeyId) > 0 && len(certificate.SubjectKeyId) > 0 && !bytes.Equal(below.AuthorityKeyId, certificate.SubjectKeyId) {
			return false
		}
	}
	return true
}

// Strict describes what strict peers refuse in the path although Go and OpenSSL accept it by default, one phrase per
// finding.
func (p Path) Strict() []string {
	var out []string
	for _, certificate := range p.Certificates {
		for _, what := range strictFindings(certificate) {
			out = append(out, Describe(certificate)+" "+what)
		}
	}
	if !fittingIDs(p) {
		out = append(out, "an authority key identifier does not name the key of the certificate above it")
	}
	return out
}

func strictFindings(certificate *x509.Certificate) []string {
	if certificate.Version < 3 {
		return []string{"is of X.509 version 1"}
	}
	var out []string
	if !hasExtension(certificate, oidKeyUsage) {
		out = append(out, "has no key usage")
	}
	if slices.ContainsFunc(certificate.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidBasicConstraints) && !e.Critical }) {
		out = append(out, "has basic constraints that are not critical")
	}
	if len(certificate.AuthorityKeyId) == 0 && !selfIssued(certificate) {
		out = append(out, "has no authority key identifier")
	}
	if len(certificate.SubjectKeyId) == 0 {
		out = append(out, "has no subject key identifier")
	}
	if slices.Contains(certificate.ExtKeyUsage, x509.ExtKeyUsageAny) && (!slices.Contains(certificate.ExtKeyUsage, x509.ExtKeyUsageClientAuth) || !slices.Contains(certificate.ExtKeyUsage, x509.ExtKeyUsageServerAuth)) {
		out = append(out, "allows any extended key usage, which OpenSSL does not accept for TLS")
	}
	if len(certificate.Subject.Names) == 0 {
		out = append(out, "has no subject")
	}
	return out
}
