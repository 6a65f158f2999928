// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
)

// admits reports which name of the leaf the name constraints along the path do not permit, as OpenSSL and Java read them; nil
// where they permit all. Go itself verifies by a wider reading: a permitted host of a URI or of an email address covers
// those below it, the common name is not looked at, and directory names are not where the constraints are not critical.
func (p Path) admits(leaf *x509.Certificate) error {
	for _, authority := range p.Certificates {
		for _, uri := range leaf.URIs {
			if host := uri.Hostname(); len(authority.PermittedURIDomains) > 0 && !slices.ContainsFunc(authority.PermittedURIDomains, exactly(host)) {
				return notPermitted("the URI "+uri.String(), authority)
			}
		}
		for _, address := range leaf.EmailAddresses {
			host := address[strings.LastIndexByte(address, '@')+1:]
			permitted := func(c string) bool { return exactly(host)(c) || strings.Contains(c, "@") && strings.EqualFold(c, address) }
			if len(authority.PermittedEmailAddresses) > 0 && !slices.ContainsFunc(authority.PermittedEmailAddresses, permitted) {
				return notPermitted("the email address "+address, authority)
			}
		}
		if name := leaf.Subject.CommonName; len(leaf.DNSNames) == 0 && readsAsDNSName(name) {
			refused := slices.ContainsFunc(authority.ExcludedDNSDomains, covers(name)) ||
				len(authority.PermittedDNSDomains) > 0 && !slices.ContainsFunc(authority.PermittedDNSDomains, covers(name))
			if refused {
				return notPermitted("the common name "+name+", which OpenSSL reads as a host name where there is no DNS name", authority)
			}
		}
		if !permitsSubject(authority, leaf) {
			return notPermitted("the subject "+shortened(leaf.Subject.String()), authority)
		}
	}
	return nil
}

func notPermitted(what string, authority *x509.Certificate) error {
	return fmt.Errorf("the name constraints of %s do not permit %s: leave that name out, or choose another authority", Describe(authority), what)
}

// exactly matches a host against a constraint of URIs or email addresses (RFC 5280, section 4.2.1.10): one that begins with a
// dot covers the hosts below, every other one host.
func exactly(host string) func(string) bool {
	return func(constraint string) bool {
		if strings.HasPrefix(constraint, ".") {
			return len(host) > len(constraint) && strings.EqualFold(host[len(host)-len(constraint):], constraint)
		}
		return strings.EqualFold(host, constraint)
	}
}

// covers matches a host name against a constraint of DNS names, which covers those below it too.
func covers(name string) func(string) bool {
	return func(constraint string) bool {
		below := len(name) - len(constraint)
		if below < 0 || !strings.EqualFold(name[below:], constraint) {
			return false
		}
		return below == 0 || constraint == "" || constraint[0] == '.' || name[below-1] == '.'
	}
}

// readsAsDNSName is what OpenSSL takes for a host name in a common name: two labels at least.
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

// permitsSubject matches the subject of the leaf against constraints of directory names.
func permitsSubject(authority, leaf *x509.Certificate) bool {
	permitted, excluded := directoryConstraints(authority)
	var subject pkix.RDNSequence
	if _, err := asn1.Unmarshal(leaf.RawSubject, &subject); err != nil || len(subject) == 0 {
		return true
	}
	below := func(base pkix.RDNSequence) bool {
		return len(base) <= len(subject) && strings.EqualFold(subject[:len(base)].String(), base.String())
	}
	return !slices.ContainsFunc(excluded, below) && (len(permitted) == 0 || slices.ContainsFunc(permitted, below))
}

// directoryConstraints reads the directory names of an authority's name constraints.
func directoryConstraints(authority *x509.Certificate) (permitted, excluded []pkix.RDNSequence) {
	const tagDirectoryName = 4
	type subtree struct {
		Base asn1.RawValue
	}
	var constraints struct {
		Permitted []subtree `asn1:"optional,tag:0"`
		Excluded  []subtree `asn1:"optional,tag:1"`
	}
	read := func(subtrees []subtree) (out []pkix.RDNSequence) {
		for _, tree := range subtrees {
			var name pkix.RDNSequence
			if tree.Base.Class != asn1.ClassContextSpecific || tree.Base.Tag != tagDirectoryName {
				continue
			}
			if _, err := asn1.Unmarshal(tree.Base.Bytes, &name); err == nil {
				out = append(out, name)
			}
		}
		return out
	}
	for _, extension := range authority.Extensions {
		if !extension.Id.Equal(oidNameConstraints) {
			continue
		}
		if _, err := asn1.Unmarshal(extension.Value, &constraints); err == nil {
			return read(constraints.Permitted), read(constraints.Excluded)
		}
	}
	return nil, nil
}
