// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rekey/rekey/internal/pki"
)

// maxJudged limits how many certificates of a peer are judged.
const maxJudged = 20

// finding is one thing that is wrong with a chain.
type finding struct {
	cause Cause
	text  string
	// from is when a certificate that is not valid yet becomes valid.
	from time.Time
}

// side is the side that presents a chain: its usage, and its causes.
type side struct {
	name                                                                string
	usage                                                               pki.Usage
	extUsage                                                            x509.ExtKeyUsage
	expired, notYetValid, authorityExpired, notTrusted, usageNotAllowed Cause
}

var (
	clientSide = side{
		name: "client", usage: pki.ClientAuth, extUsage: x509.ExtKeyUsageClientAuth,
		expired: ClientCertificateExpired, notYetValid: ClientCertificateNotYetValid, authorityExpired: ClientAuthorityExpired,
		notTrusted: ClientAuthorityNotTrusted, usageNotAllowed: ClientUsageNotAllowed,
	}
	serverSide = side{
		name: "server", usage: pki.ServerAuth, extUsage: x509.ExtKeyUsageServerAuth,
		expired: ServerCertificateExpired, notYetValid: ServerCertificateNotYetValid, authorityExpired: ServerAuthorityExpired,
		notTrusted: ServerAuthorityNotTrusted, usageNotAllowed: ServerUsageNotAllowed,
	}
)

// examine returns everything that is wrong with a chain, leaf first, for a peer that trusts the anchors, at one time. Go's
// verifier stops at the first thing that it finds, and looks at the time before it has found the authority; so trust, time and
// usage are examined one by one, and the verifier has the last word if nothing was found.
func (s side) examine(chain, anchors []*x509.Certificate, at time.Time) []finding {
	chain = chain[:min(len(chain), maxJudged)]
	leaf := chain[0]
	var out []finding
	add := func(cause Cause, format string, args ...any) {
		out = append(out, finding{cause: cause, text: fmt.Sprintf(format, args...)})
	}
	addFrom := func(from time.Time, format string, args ...any) {
		out = append(out, finding{s.notYetValid, fmt.Sprintf(format, args...), from})
	}
	path, found := s.path(chain, anchors, at)
	pinned := slices.ContainsFunc(anchors, leaf.Equal)
	switch {
	case pinned:
	case !found:
		add(s.notTrusted, "no path that may sign it leads from the %s certificate %s (issuer %q) to a trusted authority", s.name, pki.Describe(leaf), shortName(leaf.Issuer.String()))
	case at.After(path.NotAfter):
		add(s.authorityExpired, "%s, above the %s certificate %s, expired at %s", pki.Describe(path.Last), s.name, pki.Describe(leaf), pki.Instant(path.NotAfter))
	case at.Before(path.NotBefore):
		addFrom(path.NotBefore, "%s, above the %s certificate %s, is not valid before %s", pki.Describe(path.First), s.name, pki.Describe(leaf), pki.Instant(path.NotBefore))
	}
	if at.After(leaf.NotAfter) {
		add(s.expired, "the %s certificate %s expired at %s", s.name, pki.Describe(leaf), pki.Instant(leaf.NotAfter))
	}
	if at.Before(leaf.NotBefore) {
		addFrom(leaf.NotBefore, "the %s certificate %s is not valid before %s", s.name, pki.Describe(leaf), pki.Instant(leaf.NotBefore))
	}
	if limiting := s.limiting(leaf, path); limiting != nil {
		add(s.usageNotAllowed, "the extended key usage of %s does not include %s", pki.Describe(limiting), s.usage)
	}
	if len(out) == 0 && !pinned {
		if err := s.verify(chain, anchors, at); err != nil {
			add(s.notTrusted, "the %s certificate %s does not verify: %v", s.name, pki.Describe(leaf), printable(err.Error()))
		}
	}
	return out
}

func (s side) path(chain, anchors []*x509.Certificate, at time.Time) (pki.Path, bool) {
	return pki.PathsAbove(chain[0], chain[1:], anchors).For(chain[0], at)
}

// limiting returns the certificate whose extended key usage excludes the side's usage; nil for none.
func (s side) limiting(leaf *x509.Certificate, path pki.Path) *x509.Certificate {
	limited := len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0
	if limited && !slices.Contains(leaf.ExtKeyUsage, s.extUsage) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return leaf
	}
	return path.Limiting(s.usage)
}

func (s side) verify(chain, anchors []*x509.Certificate, at time.Time) error {
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: pool(anchors), Intermediates: pool(chain[1:]), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{s.extUsage},
	})
	return err
}

func pool(certificates []*x509.Certificate) *x509.CertPool {
	out := x509.NewCertPool()
	for _, certificate := range certificates {
		out.AddCert(certificate)
	}
	return out
}

// examineServer returns what is wrong with the chain that a server presented for a name.
func examineServer(chain, roots []*x509.Certificate, name string, at time.Time) []finding {
	out := serverSide.examine(chain, roots, at)
	if chain[0].VerifyHostname(name) != nil {
		out = append(out, finding{cause: ServerNameMismatch, text: fmt.Sprintf("the server certificate %s is not for %q but for %s", pki.Describe(chain[0]), name, namesOf(chain[0]))})
	}
	return out
}

// namesOf lists the names of a certificate for a message.
func namesOf(leaf *x509.Certificate) string {
	const most = 5
	var names []string
	for _, name := range leaf.DNSNames {
		names = append(names, shortName(name))
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no DNS name or IP address"
	case len(names) > most:
		return fmt.Sprintf("%q and %d more", names[:most], len(names)-most)
	}
	return fmt.Sprintf("%q", names)
}

// Acceptable reports whether a list of acceptable authorities (subjects in DER) names an authority of the chain, or one above it on
// the way to the anchors. An empty list names none and excludes none. A list excludes nothing for certain: servers may trust more
// than they name. A name is not a key: an authority that was recreated under its name is in the list of a server
// that does not trust it.
func Acceptable(authorities [][]byte, chain, anchors []*x509.Certificate) bool {
	if len(authorities) == 0 || len(chain) == 0 {
		return false
	}
	above := slices.Clone(chain)
	for _, path := range pki.PathsAbove(chain[0], chain[1:], anchors) {
		above = append(above, path.Certificates...)
	}
	return slices.ContainsFunc(above, func(certificate *x509.Certificate) bool {
		return slices.ContainsFunc(authorities, func(name []byte) bool { return bytes.Equal(name, certificate.RawIssuer) })
	})
}

// soon reports whether a certificate that is not valid yet becomes valid so soon that a wrong clock is a likely cause.
func soon(findings []finding, at time.Time) bool {
	return slices.ContainsFunc(findings, func(f finding) bool { return !f.from.IsZero() && f.from.Sub(at) < recent })
}

// join returns the texts of the findings with one of the causes, as one phrase.
func join(findings []finding, causes []Cause) string {
	var out []string
	for _, f := range findings {
		if slices.Contains(causes, f.cause) {
			out = append(out, f.text)
		}
	}
	return capped(strings.Join(out, "; "))
}

// capped limits a detail: certificates of a peer can be long.
func capped(text string) string {
	const most = 700
	return cut(text, most)
}

// cut limits a text to a number of bytes, between two characters. Bytes that are not UTF-8 become question marks.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= most {
		return text
	}
	for !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "..."
}

// causesOf returns the causes of the findings, each once, in order.
func causesOf(findings []finding) []Cause {
	var out []Cause
	for _, f := range findings {
		if !slices.Contains(out, f.cause) {
			out = append(out, f.cause)
		}
	}
	return out
}

// without returns the findings with other causes.
func without(findings []finding, causes ...Cause) []finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f finding) bool { return slices.Contains(causes, f.cause) })
}

// shortName limits how much of a foreign name a message shows.
func shortName(name string) string {
	const most = 128
	return cut(name, most)
}

// printable limits a text of a library to what a message may contain.
func printable(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}
