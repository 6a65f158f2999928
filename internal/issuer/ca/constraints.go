// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/wildcard"
)

// Constraints limit what an authority may sign.
type Constraints = issuer.Constraints

// rules are Constraints compiled for matching.
type rules struct {
	Constraints
	uris     []uriRule
	networks []netip.Prefix
}

// ValidateConstraints returns an error for malformed constraints, with class Permanent and reason AuthorityInvalid. It names the
// pattern and what is wrong with it.
func ValidateConstraints(constraints Constraints) error {
	_, err := compile(constraints)
	return err
}

func compile(c Constraints) (*rules, error) {
	c.CommonNames, c.Organizations, c.Usages = slices.Clone(c.CommonNames), slices.Clone(c.Organizations), slices.Clone(c.Usages)
	c.URIs, c.IPRanges = slices.Clone(c.URIs), slices.Clone(c.IPRanges)
	r := &rules{Constraints: c}
	if c.MaxLifetime < 0 {
		return nil, invalid("constraints.maxLifetime %s is negative", c.MaxLifetime)
	}
	if slices.Contains(c.CommonNames, "") || slices.Contains(c.Organizations, "") {
		return nil, invalid("constraints.commonNames or constraints.organizations has an empty pattern")
	}
	for _, usage := range c.Usages {
		if usage != issuer.ClientAuth && usage != issuer.ServerAuth {
			return nil, invalid("constraints.usages: %q is neither %s nor %s", usage, issuer.ClientAuth, issuer.ServerAuth)
		}
	}
	for _, step := range []func() error{r.compileHosts, r.compileURIs, r.compileNetworks} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *rules) compileHosts() error {
	r.DNSNames, r.EmailDomains = lower(r.DNSNames), lower(r.EmailDomains)
	for _, pattern := range r.DNSNames {
		if err := checkDNSPattern(pattern); err != nil {
			return invalid("constraints.dnsNames: %q %w", pattern, err)
		}
	}
	for _, domain := range r.EmailDomains {
		if err := pki.CheckDNSName(domain); err != nil || strings.Contains(domain, "*") {
			return invalid("constraints.emailDomains: %q is not an exact domain, such as example.com", domain)
		}
	}
	return nil
}

func (r *rules) compileURIs() error {
	for _, pattern := range r.URIs {
		rule, err := parseURIRule(pattern)
		if err != nil {
			return invalid("constraints.uris: %w", err)
		}
		r.uris = append(r.uris, rule)
	}
	return nil
}

func (r *rules) compileNetworks() error {
	for _, text := range r.IPRanges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || prefix.Addr().Is4In6() {
			return invalid("constraints.ipRanges: %q is not a network; write it as 10.0.0.0/8 or 2001:db8::/32", text)
		}
		if prefix != prefix.Masked() {
			return invalid("constraints.ipRanges: %q has bits set after its prefix length; write %s", text, prefix.Masked())
		}
		r.networks = append(r.networks, prefix)
	}
	return nil
}

// check returns an error, with class Permanent and reason ConstraintViolated, for the first name or usage outside the
// constraints. The names are normalized.
func (r *rules) check(names pki.Names, usages []issuer.Usage) error {
	if err := r.checkUsages(usages); err != nil {
		return err
	}
	if err := r.checkSubject(names, usages); err != nil {
		return err
	}
	if err := each("DNS name", names.DNSNames, r.allowsDNS, "dnsNames", r.DNSNames); err != nil {
		return err
	}
	if err := checkSPIFFE(names.URIs); err != nil {
		return err
	}
	for _, uri := range names.URIs {
		if !r.allowsURI(uri) {
			return refused("the URI %q is outside constraints.uris, which allows %s", uri, allowed(r.URIs))
		}
	}
	for _, ip := range names.IPAddresses {
		if !r.allowsIP(ip) {
			return refused("the IP address %s is outside constraints.ipRanges, which allows %s", ip, allowed(r.IPRanges))
		}
	}
	return each("email address", names.EmailAddresses, r.allowsEmail, "emailDomains", r.EmailDomains)
}

func (r *rules) checkUsages(usages []issuer.Usage) error {
	if len(usages) == 0 {
		return refused("no usage is requested; request one of %s", allowed(r.Usages))
	}
	for _, usage := range usages {
		if !slices.Contains(r.Usages, usage) {
			return refused("the usage %q is outside constraints.usages, which allows %s", usage, allowed(r.Usages))
		}
	}
	return nil
}

// checkSubject checks the common name and the organizations.
func (r *rules) checkSubject(names pki.Names, usages []issuer.Usage) error {
	if cn := names.CommonName; cn != "" {
		if !wildcard.MatchAny(r.CommonNames, cn) {
			return refused("the common name %q is outside constraints.commonNames, which allows %s", cn, allowed(r.CommonNames))
		}
		if slices.Contains(usages, issuer.ServerAuth) {
			if err := r.checkServerName(names); err != nil {
				return err
			}
		}
	}
	organization := func(name string) bool {
		return wildcard.MatchAny(r.Organizations, name)
	}
	return each("organization", names.Organizations, organization, "organizations", r.Organizations)
}

// checkServerName checks the common name of a server as clients do that read it as a host name or an address. It must then
// also be allowed as one, or commonNames would be a way around dnsNames and ipRanges. OpenSSL and Node.js use the common
// name if there is no DNS name; libpq does if there is no name of the same type as its host, a DNS name or an IP address.
func (r *rules) checkServerName(names pki.Names) error {
	cn := strings.ToLower(names.CommonName)
	switch {
	case readsAsAddress(cn):
		address, err := netip.ParseAddr(bareHost(cn))
		if len(names.DNSNames) > 0 && len(names.IPAddresses) > 0 || err == nil && address.Zone() == "" && r.allowsIP(address.AsSlice()) {
			return nil
		}
		return refused("the common name %q of a server is read as its IP address, and is outside constraints.ipRanges, which allows %s; leave it out, or choose another", names.CommonName, allowed(r.IPRanges))
	case len(names.DNSNames) > 0 || !readsAsHost(cn) || r.allowsDNS(bareHost(cn)):
		return nil
	}
	return refused("the common name %q of a server without DNS names is read as its host name, and is outside constraints.dnsNames, which allows %s; leave it out, or add a DNS name", names.CommonName, allowed(r.DNSNames))
}

// bareHost removes the parts of a name that do not change the host.
func bareHost(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"), ".")
}

// readsAsAddress reports whether a client may read a name as an IP address. That includes every name whose last label is a number:
// some clients read 127.1 and 2130706433 as 127.0.0.1, and libpq matches 10.0.0.1 with *.0.0.1.
func readsAsAddress(name string) bool {
	name = bareHost(name)
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	digits := "0123456789"
	if hex, found := strings.CutPrefix(last, "0x"); found {
		last, digits = hex, "0123456789abcdef"
	}
	return last != "" && strings.Trim(last, digits) == ""
}

// readsAsHost reports whether a client may read a name as a host name: anything with a dot, a wildcard or a colon, and a
// single label. A label may have underscores, which no standard allows but resolvers accept, and characters outside ASCII,
// which Java converts to a host name.
func readsAsHost(name string) bool {
	const dots = ".*:\u3002\uff0e\uff61"
	if strings.ContainsAny(name, dots) {
		return true
	}
	return !strings.ContainsFunc(name, func(c rune) bool {
		return c <= unicode.MaxASCII && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z')
	})
}

func each(kind string, values []string, ok func(string) bool, constraint string, list []string) error {
	for _, value := range values {
		if !ok(value) {
			return refused("the %s %q is outside constraints.%s, which allows %s", kind, value, constraint, allowed(list))
		}
	}
	return nil
}

// checkLifetime returns an error if the lifetime is longer than allowed.
func (r *rules) checkLifetime(lifetime time.Duration) error {
	if r.MaxLifetime > 0 && lifetime > r.MaxLifetime {
		return fault.Permanent(fault.LifetimeTooLong, fmt.Errorf("the lifetime %s is longer than constraints.maxLifetime of the authority, %s", lifetime, r.MaxLifetime))
	}
	return nil
}

func (r *rules) allowsDNS(name string) bool {
	return slices.ContainsFunc(r.DNSNames, func(pattern string) bool { return matchDNS(pattern, name) })
}

func (r *rules) allowsURI(uri *url.URL) bool {
	return slices.ContainsFunc(r.uris, func(rule uriRule) bool { return rule.matches(uri) })
}

func (r *rules) allowsIP(ip net.IP) bool {
	address, ok := netip.AddrFromSlice(ip)
	return ok && slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(address.Unmap()) })
}

func (r *rules) allowsEmail(address string) bool {
	return slices.Contains(r.EmailDomains, strings.ToLower(address[strings.LastIndexByte(address, '@')+1:]))
}

// checkSPIFFE refuses URIs with the scheme spiffe that are not SPIFFE IDs, and more than one of them (X.509-SVID standard, section
// 2), whatever the constraints allow.
func checkSPIFFE(uris []*url.URL) error {
	count := 0
	for _, uri := range uris {
		if uri.Scheme != "spiffe" {
			continue
		}
		if _, err := spiffeid.FromURI(uri); err != nil {
			return fault.Permanent(fault.IdentityInvalid, fmt.Errorf("the URI %q is not a SPIFFE ID: %w", uri, err))
		}
		count++
	}
	if count > 0 && len(uris) > 1 {
		return fault.Permanent(fault.IdentityInvalid, fmt.Errorf("a certificate with a SPIFFE ID must have no other URI, but %d URIs are requested", len(uris)))
	}
	return nil
}

func refused(format string, args ...any) error {
	return fault.Permanent(fault.ConstraintViolated, fmt.Errorf(format, args...))
}

// allowed formats a list of a constraint for a message.
func allowed[T ~string](list []T) string {
	if len(list) == 0 {
		return "none"
	}
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = string(s)
	}
	return strings.Join(texts, ", ")
}

func lower(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = strings.ToLower(s)
	}
	return out
}
