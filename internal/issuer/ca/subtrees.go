// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// nobody is a domain without an owner (RFC 2606, section 2). A kind of name that is denied is constrained to it: a certificate
// without any constraint on a kind of name permits all names of that kind, and implementations differ in what an excluded empty
// domain matches.
const nobody = "invalid"

// subtrees are the names that an authority's certificate permits, compiled. A kind without an entry is denied.
type subtrees struct {
	dns, uris, emails []string
	networks          []netip.Prefix
}

// subtreesOf compiles the names in managed.nameConstraints.
func subtreesOf(names issuer.NameConstraints) (subtrees, error) {
	out := subtrees{dns: lower(names.DNSDomains), uris: lower(names.URIHosts), emails: lower(names.EmailDomains)}
	for _, list := range []struct {
		field   string
		domains []string
	}{{"permittedDNSDomains", out.dns}, {"permittedURIDomains", out.uris}, {"permittedEmailDomains", out.emails}} {
		for _, domain := range list.domains {
			if err := pki.CheckDNSName(strings.ReplaceAll(domain, "_", "x")); err != nil || strings.Contains(domain, "*") {
				return subtrees{}, invalid("managed.nameConstraints.%s: %q is not a domain, such as example.internal", list.field, domain)
			}
		}
	}
	for _, text := range names.IPRanges {
		network, err := netip.ParsePrefix(text)
		if err != nil || network.Addr().Is4In6() || network != network.Masked() {
			return subtrees{}, invalid("managed.nameConstraints.permittedIPRanges: %q is not a network without host bits, such as 10.0.0.0/8", text)
		}
		out.networks = append(out.networks, network)
	}
	return out, nil
}

// subtrees returns the constraints as the certificate of a subordinate authority can express them. What it cannot express is an
// error: the subordinate could certify more than the constraints allow.
func (r *rules) subtrees() (subtrees, error) {
	out := subtrees{networks: r.networks, emails: r.EmailDomains}
	for _, pattern := range r.DNSNames {
		domain := pattern
		for strings.HasPrefix(domain, "*.") {
			domain = domain[len("*."):]
		}
		if strings.Contains(domain, "*") {
			return subtrees{}, refused("constraints.dnsNames: %q cannot be a name constraint in the certificate of another authority, which permits a domain with all names below it: use a pattern with * only at its beginning, such as *.example.internal", pattern)
		}
		out.dns = append(out.dns, domain)
	}
	for i, rule := range r.uris {
		if !rule.prefix || rule.path != "/" || strings.Contains(rule.host, ":") || readsAsAddress(rule.host) {
			return subtrees{}, refused("constraints.uris: %q cannot be a name constraint in the certificate of another authority, which permits all URIs of a host name: use a pattern such as spiffe://example.internal/*", r.URIs[i])
		}
		out.uris = append(out.uris, rule.host)
	}
	return out, nil
}

// within narrows the subtrees of the constraints to those of the spec, which must all be inside.
func (s subtrees) within(allow subtrees, of string) (subtrees, error) {
	below := func(domain, above string) bool { return domain == above || strings.HasSuffix(domain, "."+above) }
	same := func(domain, above string) bool { return domain == above }
	for _, kind := range []struct {
		field, constraint string
		own, allowed      []string
		inside            func(domain, above string) bool
	}{
		{"permittedDNSDomains", "dnsNames", s.dns, allow.dns, below},
		{"permittedURIDomains", "uris", s.uris, allow.uris, same},
		{"permittedEmailDomains", "emailDomains", s.emails, allow.emails, same},
	} {
		for _, domain := range kind.own {
			if !slices.ContainsFunc(kind.allowed, func(above string) bool { return kind.inside(domain, above) }) {
				return subtrees{}, refused("managed.nameConstraints.%s: %q is outside constraints.%s of %s, which permits %s: delete this authority, and create it with a name inside, or have those constraints extended",
					kind.field, domain, kind.constraint, of, allowed(kind.allowed))
			}
		}
	}
	for _, network := range s.networks {
		inside := func(above netip.Prefix) bool { return above.Bits() <= network.Bits() && above.Contains(network.Addr()) }
		if !slices.ContainsFunc(allow.networks, inside) {
			return subtrees{}, refused("managed.nameConstraints.permittedIPRanges: %s is outside constraints.ipRanges of %s, which permits %s: delete this authority, and create it with a network inside, or have those constraints extended",
				network, of, allowed(texts(allow.networks)))
		}
	}
	return s, nil
}

// write adds the subtrees to a certificate, as critical name constraints.
func (s subtrees) write(template *x509.Certificate) {
	template.PermittedDNSDomainsCritical = true
	template.PermittedDNSDomains = orNobody(s.dns)
	template.PermittedURIDomains = orNobody(s.uris)
	template.PermittedEmailAddresses = orNobody(s.emails)
	if len(s.networks) == 0 {
		template.ExcludedIPRanges = []*net.IPNet{netOf(netip.MustParsePrefix("0.0.0.0/0")), netOf(netip.MustParsePrefix("::/0"))}
		return
	}
	networks := slices.SortedFunc(slices.Values(s.networks), netip.Prefix.Compare)
	for _, network := range slices.Compact(networks) {
		template.PermittedIPRanges = append(template.PermittedIPRanges, netOf(network))
	}
}

// exclude adds to a certificate the names that one above it excludes: peers may not check the constraints of a trust anchor itself.
func exclude(template, above *x509.Certificate) {
	add := func(domains *[]string, more []string) {
		for _, domain := range more {
			if !slices.Contains(*domains, domain) {
				*domains = append(*domains, domain)
			}
		}
	}
	add(&template.ExcludedDNSDomains, above.ExcludedDNSDomains)
	add(&template.ExcludedURIDomains, above.ExcludedURIDomains)
	add(&template.ExcludedEmailAddresses, above.ExcludedEmailAddresses)
	if len(template.PermittedIPRanges) == 0 {
		return // all addresses are excluded
	}
	for _, network := range above.ExcludedIPRanges {
		if !slices.ContainsFunc(template.ExcludedIPRanges, func(has *net.IPNet) bool { return has.String() == network.String() }) {
			template.ExcludedIPRanges = append(template.ExcludedIPRanges, network)
		}
	}
}

// sample returns a certificate with one name of each permitted subtree, and the first and the last address of each network: a path
// that permits them permits at least the ends of what the subtrees permit.
func (s subtrees) sample(subject []byte) *x509.Certificate {
	out := &x509.Certificate{RawSubject: subject, DNSNames: s.dns}
	for _, host := range s.uris {
		out.URIs = append(out.URIs, &url.URL{Scheme: "https", Host: host, Path: "/"})
	}
	for _, domain := range s.emails {
		out.EmailAddresses = append(out.EmailAddresses, "name@"+domain)
	}
	for _, network := range s.networks {
		first := network.Addr().AsSlice()
		last := slices.Clone(first)
		for bit := network.Bits(); bit < network.Addr().BitLen(); bit++ {
			last[bit/8] |= 0x80 >> (bit % 8)
		}
		out.IPAddresses = append(out.IPAddresses, first, last)
	}
	return out
}

// listed returns the subtrees that a certificate permits, one text for each, and the excluded networks if it permits none.
func listed(certificate *x509.Certificate) []string {
	out := slices.Concat(certificate.PermittedDNSDomains, certificate.PermittedURIDomains, certificate.PermittedEmailAddresses)
	networks := certificate.PermittedIPRanges
	if len(networks) == 0 {
		networks = certificate.ExcludedIPRanges
	}
	for _, network := range networks {
		out = append(out, network.String())
	}
	return out
}

func netOf(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

func orNobody(domains []string) []string {
	if len(domains) == 0 {
		return []string{nobody}
	}
	return slices.Compact(slices.Sorted(slices.Values(domains)))
}

func texts(networks []netip.Prefix) []string {
	out := make([]string, 0, len(networks))
	for _, network := range networks {
		out = append(out, network.String())
	}
	return out
}
