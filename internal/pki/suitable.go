// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// For returns the path to use at a given time for one leaf: the best path, in the order of At, whose name constraints permit
// the leaf's names and whose extended key usages include its usages. If there is none, it returns the path of At, so that
// the caller can name what refuses the leaf. The leaf need not be signed yet.
func (p Paths) For(leaf *x509.Certificate, now time.Time) (best Path, ok bool) {
	fallback, ok := p.At(now)
	if !ok || fallback.suits(leaf) {
		return fallback, ok
	}
	found := false
	for _, path := range p {
		if path.ValidAt(now) == fallback.ValidAt(now) && (!found || better(path, best, now)) && path.suits(leaf) {
			best, found = path, true
		}
	}
	if !found {
		return fallback, true
	}
	return best, true
}

// Limiting returns the certificate on the path of At with an extended key usage that does not allow the usage for a leaf;
// nil if a path that is valid at that time allows it.
func (p Paths) Limiting(usage Usage, now time.Time) *x509.Certificate {
	if slices.ContainsFunc(p, func(path Path) bool { return path.ValidAt(now) && path.Limiting(usage) == nil }) {
		return nil
	}
	path, ok := p.At(now)
	if !ok {
		return nil
	}
	return path.Limiting(usage)
}

// suits reports whether Go and OpenSSL accept the names and usages of a leaf along the path. It only chooses between paths
// and checks no signature: what is published is always verified.
func (p Path) suits(leaf *x509.Certificate) bool {
	for usage, of := range map[Usage]x509.ExtKeyUsage{ClientAuth: x509.ExtKeyUsageClientAuth, ServerAuth: x509.ExtKeyUsageServerAuth} {
		if slices.Contains(leaf.ExtKeyUsage, of) && p.Limiting(usage) != nil {
			return false
		}
	}
	if !p.Constrained() {
		return true
	}
	chain := append([]*x509.Certificate{leaf}, p.Certificates...)
	for i, authority := range chain[1:] {
		if hasExtension(authority, oidNameConstraints) && !allPermitted(authority, chain[:i+1]) {
			return false
		}
	}
	return p.admits(leaf) == nil && checkDirectoryNames(chain) == nil
}

// Constrained reports whether any certificate of the path has name constraints.
func (p Path) Constrained() bool {
	return slices.ContainsFunc(p.Certificates, func(c *x509.Certificate) bool { return hasExtension(c, oidNameConstraints) })
}

// allPermitted reports whether the name constraints of an authority, as Go reads them, permit every alternative name of the
// certificates below it.
func allPermitted(authority *x509.Certificate, below []*x509.Certificate) bool {
	return !slices.ContainsFunc(below, func(certificate *x509.Certificate) bool {
		return slices.ContainsFunc(certificate.DNSNames, func(name string) bool { return !permitsDNSName(authority, name) }) ||
			slices.ContainsFunc(certificate.IPAddresses, func(ip net.IP) bool {
				return !within(authority.PermittedIPRanges, authority.ExcludedIPRanges, func(network *net.IPNet) bool { return network.Contains(ip) })
			}) ||
			slices.ContainsFunc(certificate.EmailAddresses, func(address string) bool { return !permitsAddress(authority, address) }) ||
			slices.ContainsFunc(certificate.URIs, func(uri *url.URL) bool { return !permitsHost(authority, uri.Hostname()) })
	})
}

func within[T any](permitted, excluded []T, covers func(T) bool) bool {
	return !slices.ContainsFunc(excluded, covers) && (len(permitted) == 0 || slices.ContainsFunc(permitted, covers))
}

// permitsDNSName also refuses a wildcard if one of the names that it matches is excluded.
func permitsDNSName(authority *x509.Certificate, name string) bool {
	if parent, wildcard := strings.CutPrefix(name, "*."); wildcard && slices.ContainsFunc(authority.ExcludedDNSDomains, func(constraint string) bool {
		_, above, _ := strings.Cut(constraint, ".")
		return strings.EqualFold(above, parent)
	}) {
		return false
	}
	return within(authority.PermittedDNSDomains, authority.ExcludedDNSDomains, covers(name))
}

func permitsAddress(authority *x509.Certificate, address string) bool {
	at := strings.LastIndexByte(address, '@')
	return within(authority.PermittedEmailAddresses, authority.ExcludedEmailAddresses, func(constraint string) bool {
		if of := strings.LastIndexByte(constraint, '@'); of >= 0 {
			return at >= 0 && constraint[:of] == address[:at] && strings.EqualFold(constraint[of:], address[at:])
		}
		return covers(address[at+1:])(constraint)
	})
}

// permitsHost refuses an address as the host of a URI, as Go does under name constraints of any kind.
func permitsHost(authority *x509.Certificate, host string) bool {
	return host != "" && net.ParseIP(host) == nil && within(authority.PermittedURIDomains, authority.ExcludedURIDomains, covers(host))
}
