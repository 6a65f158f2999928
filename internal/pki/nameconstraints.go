// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// admits returns an error about the first name of the leaf that the name constraints along the path do not permit, as
// OpenSSL and Java read them, or nil if they permit all names. Go's own verification is more lenient: a permitted host of a
// URI or an email address covers its subdomains, and the common name is ignored. For directory names see lintDirectoryNames.
func (p Path) admits(leaf *x509.Certificate) error {
	for _, authority := range p.Certificates {
		for _, check := range []func(authority, leaf *x509.Certificate) error{admitsURIs, admitsAddresses, admitsCommonName} {
			if err := check(authority, leaf); err != nil {
				return err
			}
		}
	}
	return nil
}

func admitsURIs(authority, leaf *x509.Certificate) error {
	for _, uri := range leaf.URIs {
		if len(authority.PermittedURIDomains) > 0 && !slices.ContainsFunc(authority.PermittedURIDomains, exactly(uri.Hostname())) {
			return notPermitted("the URI "+uri.String(), authority)
		}
	}
	return nil
}

func admitsAddresses(authority, leaf *x509.Certificate) error {
	for _, address := range leaf.EmailAddresses {
		host := address[strings.LastIndexByte(address, '@')+1:]
		permitted := func(c string) bool {
			return exactly(host)(c) || strings.Contains(c, "@") && strings.EqualFold(c, address)
		}
		if len(authority.PermittedEmailAddresses) > 0 && !slices.ContainsFunc(authority.PermittedEmailAddresses, permitted) {
			return notPermitted("the email address "+address, authority)
		}
	}
	return nil
}

func admitsCommonName(authority, leaf *x509.Certificate) error {
	name := leaf.Subject.CommonName
	if len(leaf.DNSNames) > 0 || !readsAsDNSName(name) {
		return nil
	}
	if slices.ContainsFunc(authority.ExcludedDNSDomains, covers(name)) ||
		len(authority.PermittedDNSDomains) > 0 && !slices.ContainsFunc(authority.PermittedDNSDomains, covers(name)) {
		return notPermitted("the common name "+name+", which OpenSSL reads as a host name where there is no DNS name", authority)
	}
	return nil
}

func notPermitted(what string, authority *x509.Certificate) error {
	return fmt.Errorf("the name constraints of %s do not permit %s: leave that name out, or choose another authority", Describe(authority), what)
}

// exactly returns a matcher of a host against a constraint on URIs or email addresses (RFC 5280, section 4.2.1.10): a
// constraint that starts with a dot covers subdomains, any other covers one host.
func exactly(host string) func(string) bool {
	return func(constraint string) bool {
		if strings.HasPrefix(constraint, ".") {
			return len(host) > len(constraint) && strings.EqualFold(host[len(host)-len(constraint):], constraint)
		}
		return strings.EqualFold(host, constraint)
	}
}

// covers returns a matcher of a host name against a constraint on DNS names, which also covers subdomains.
func covers(name string) func(string) bool {
	return func(constraint string) bool {
		below := len(name) - len(constraint)
		if below < 0 || !strings.EqualFold(name[below:], constraint) {
			return false
		}
		return below == 0 || constraint == "" || constraint[0] == '.' || name[below-1] == '.'
	}
}

// readsAsDNSName reports whether OpenSSL takes a common name for a host name: it needs at least two labels.
func readsAsDNSName(name string) bool {
	labels := strings.Split(name, ".")
	if len(labels) < 2 {
		return false
	}
	return !slices.ContainsFunc(labels, func(label string) bool {
		return label == "" || label[0] == '-' || label[len(label)-1] == '-' || strings.ContainsFunc(label, func(c rune) bool {
			return c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
		})
	})
}
