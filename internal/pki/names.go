// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Upper limits: RFC 5280 (appendix A.1) for the subject, RFC 1035 for host names, RFC 5321 for mail addresses, the SPIFFE ID
// standard (section 2.3) for URIs. maxNames limits how many names can be requested for one certificate.
const (
	maxCommonName   = 64
	maxOrganization = 64
	maxDNSName      = 253
	maxDNSLabel     = 63
	maxEmail        = 254
	maxURI          = 2048
	maxNames        = 150
)

// Names holds all names of a certificate's holder. It has the fields of issuer.Names in the same order, so that Go can
// convert between the two.
type Names struct {
	CommonName     string
	Organizations  []string
	DNSNames       []string
	URIs           []*url.URL
	IPAddresses    []net.IP
	EmailAddresses []string
}

// ParseNames reads the names of a spec. An error has class Permanent and reason IdentityInvalid, and states which name is
// wrong and why.
func ParseNames(commonName string, organizations, dnsNames, uris, ipAddresses, emailAddresses []string) (Names, error) {
	names := Names{CommonName: commonName, Organizations: organizations, DNSNames: dnsNames, EmailAddresses: emailAddresses}
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			return Names{}, badIdentity("the URI %q cannot be parsed", text)
		}
		names.URIs = append(names.URIs, uri)
	}
	for _, text := range ipAddresses {
		address, err := netip.ParseAddr(text)
		if err != nil || address.Zone() != "" {
			return Names{}, badIdentity("%q is not an IP address; write it as 192.0.2.1 or 2001:db8::1", text)
		}
		names.IPAddresses = append(names.IPAddresses, net.IP(address.Unmap().AsSlice()))
	}
	if err := names.Validate(); err != nil {
		return Names{}, err
	}
	return names.Normalize(), nil
}

// NamesOf returns the normalized names that a certificate shows.
func NamesOf(certificate *x509.Certificate) Names {
	return Names{
		CommonName:     certificate.Subject.CommonName,
		Organizations:  certificate.Subject.Organization,
		DNSNames:       certificate.DNSNames,
		URIs:           certificate.URIs,
		IPAddresses:    certificate.IPAddresses,
		EmailAddresses: certificate.EmailAddresses,
	}.Normalize()
}

// Normalize returns the names in the form in which they are compared and certified: lowercase where case has no meaning,
// IPv4 in four bytes, sorted, without duplicates.
func (n Names) Normalize() Names {
	out := Names{CommonName: n.CommonName, Organizations: unique(n.Organizations, func(s string) string { return s })}
	out.DNSNames = unique(n.DNSNames, strings.ToLower)
	out.EmailAddresses = unique(n.EmailAddresses, func(s string) string {
		at := strings.LastIndexByte(s, '@')
		return s[:at+1] + strings.ToLower(s[at+1:])
	})
	out.URIs, out.IPAddresses = normalURIs(n.URIs), normalAddresses(n.IPAddresses)
	return out
}

func normalURIs(in []*url.URL) []*url.URL {
	var out []*url.URL
	for _, uri := range in {
		plain := *uri
		plain.Scheme, plain.Host = strings.ToLower(plain.Scheme), strings.ToLower(plain.Host)
		out = append(out, &plain)
	}
	slices.SortFunc(out, func(a, b *url.URL) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(out, func(a, b *url.URL) bool { return a.String() == b.String() })
}

func normalAddresses(in []net.IP) []net.IP {
	var out []net.IP
	for _, ip := range in {
		if four := ip.To4(); four != nil {
			ip = four
		}
		out = append(out, ip)
	}
	slices.SortFunc(out, func(a, b net.IP) int { return bytes.Compare(a, b) })
	return slices.CompactFunc(out, net.IP.Equal)
}

func unique(in []string, normal func(string) string) []string {
	if len(in) == 0 {
		return nil
	}
	out := make([]string, 0, len(in))
	for _, s := range in {
		out = append(out, normal(s))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Subject returns the distinguished name: the organizations and the common name.
func (n Names) Subject() pkix.Name {
	return pkix.Name{CommonName: n.CommonName, Organization: n.Organizations}
}

// HasAlternativeName reports whether there is any subject alternative name.
func (n Names) HasAlternativeName() bool {
	return len(n.DNSNames)+len(n.URIs)+len(n.IPAddresses)+len(n.EmailAddresses) > 0
}

// Validate refuses names that cannot be put into a certificate, or that two readers of the certificate could interpret
// differently. It checks SPIFFE IDs only as URIs.
func (n Names) Validate() error {
	count := len(n.Organizations) + len(n.DNSNames) + len(n.URIs) + len(n.IPAddresses) + len(n.EmailAddresses)
	if count > maxNames {
		return badIdentity("%d names are requested; a certificate may have at most %d", count, maxNames)
	}
	if n.CommonName == "" && !n.HasAlternativeName() {
		return badIdentity("there is neither a commonName nor a subject alternative name; set at least one")
	}
	var commonName []string
	if n.CommonName != "" {
		commonName = []string{n.CommonName}
	}
	if err := errors.Join(
		checkEach("commonName", commonName, func(s string) error { return checkText(s, maxCommonName) }),
		checkEach("organization", n.Organizations, func(s string) error { return checkText(s, maxOrganization) }),
		checkEach("DNS name", n.DNSNames, CheckDNSName),
		checkEach("email address", n.EmailAddresses, checkEmail),
	); err != nil {
		return err
	}
	for _, ip := range n.IPAddresses {
		if len(ip) != net.IPv4len && len(ip) != net.IPv6len {
			return badIdentity("an IP address of %d bytes is neither IPv4 nor IPv6", len(ip))
		}
	}
	for _, uri := range n.URIs {
		if err := CheckURI(uri); err != nil {
			return badIdentity("URI %w", err)
		}
	}
	return nil
}

// checkEach returns the first error about the values of one kind.
func checkEach(kind string, values []string, check func(string) error) error {
	for _, value := range values {
		if err := check(value); err != nil {
			return badIdentity("%s %q %w", kind, value, err)
		}
	}
	return nil
}

func checkText(s string, limit int) error {
	switch {
	case s == "":
		return errors.New("is empty")
	case len([]rune(s)) > limit:
		return fmt.Errorf("is longer than %d characters", limit)
	case strings.TrimSpace(s) != s:
		return errors.New("starts or ends with white space")
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }):
		return errors.New("has a character that cannot be printed")
	}
	return nil
}

// CheckDNSName accepts host names of letters, digits and hyphens (RFC 5280, section 4.2.1.6, RFC 1034), with an optional
// "*" as the whole leftmost label (RFC 9525).
func CheckDNSName(name string) error {
	if name == "" || len(name) > maxDNSName {
		return fmt.Errorf("is empty or longer than %d characters", maxDNSName)
	}
	labels := strings.Split(name, ".")
	if labels[0] == "*" {
		labels = labels[1:]
		if len(labels) < 2 {
			return errors.New("is a wildcard over fewer than two labels, which clients do not accept")
		}
	}
	for _, label := range labels {
		if err := CheckDNSLabel(label); err != nil {
			return err
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return errors.New("is an IP address; list it under ipAddresses")
	}
	return nil
}

// CheckDNSLabel accepts one label of a host name.
func CheckDNSLabel(label string) error {
	if label == "" || len(label) > maxDNSLabel {
		return fmt.Errorf("has a label that is empty or longer than %d characters", maxDNSLabel)
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("has the label %q, which starts or ends with a hyphen", label)
	}
	for _, r := range label {
		if r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return fmt.Errorf("has the label %q, with a character other than letters, digits and hyphens", label)
		}
	}
	return nil
}

// checkEmail accepts a mailbox without quoting (RFC 5321, section 4.1.2, Dot-string).
func checkEmail(address string) error {
	local, domain, found := strings.Cut(address, "@")
	if !found || local == "" || len(address) > maxEmail {
		return fmt.Errorf("is not of the form name@domain, or longer than %d characters", maxEmail)
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return errors.New("has an empty part before the @")
		}
		for _, r := range atom {
			if r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) {
				return errors.New("has a character before the @ that needs quoting")
			}
		}
	}
	if strings.HasPrefix(domain, "*") {
		return errors.New("has a wildcard in its domain")
	}
	return CheckDNSName(domain)
}

// CheckURI accepts absolute URIs (RFC 5280, section 4.2.1.6). The path must be free of what servers resolve before they
// compare it, or a name inside a constraint could be read as one outside.
func CheckURI(uri *url.URL) error {
	if uri == nil {
		return errors.New("is missing")
	}
	text := uri.String()
	switch {
	case len(text) > maxURI:
		return fmt.Errorf("of %d characters is longer than %d", len(text), maxURI)
	case uri.User != nil:
		return errors.New("has a user name or a password in it, which a certificate would show to anyone")
	case uri.Scheme == "" || uri.Host == "" && uri.Opaque == "":
		return fmt.Errorf("%q is not absolute; write it as scheme://host/path", text)
	case strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsPrint(r) }):
		return fmt.Errorf("%q has a character outside of printable ASCII", text)
	}
	if err := checkPath(uri); err != nil {
		return err
	}
	return checkURIHost(uri)
}

func checkPath(uri *url.URL) error {
	path := uri.EscapedPath()
	if strings.Contains(path, "%") {
		return fmt.Errorf("%q has an escaped character in its path", uri)
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return fmt.Errorf("%q has the path segment %q", uri, segment)
		}
	}
	return nil
}

// checkURIHost accepts a host name, with the underscores that trust domains of SPIFFE IDs may have, or an IP address.
func checkURIHost(uri *url.URL) error {
	host := uri.Hostname()
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if strings.HasPrefix(host, "*") {
		return fmt.Errorf("%q has a wildcard in its host", uri)
	}
	if err := CheckDNSName(strings.ReplaceAll(host, "_", "x")); err != nil {
		return fmt.Errorf("%q: its host %w", uri, err)
	}
	return nil
}
