// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"
)

const (
	// maxPath limits the number of certificates above a leaf, including the trust anchor.
	maxPath = 10
	// maxVisits and maxChecks limit the search among certificates that sign each other in circles or have the same name: the
	// number of paths followed, and the number of signatures checked. Go's own search checks 100 signatures.
	maxVisits = 5000
	maxChecks = 500
)

// Path leads from the certificate that signs a leaf up to a trust anchor, both included. Of the certificates in a file, only
// those on the path count: no peer uses the others.
type Path struct {
	Certificates []*x509.Certificate
	// NotBefore and NotAfter are the intersection of the validity periods of all certificates on the path. First and Last
	// are the certificates that limit it.
	NotBefore, NotAfter time.Time
	First, Last         *x509.Certificate
	// Usages are the TLS usages that the extended key usages along the path allow for a leaf.
	Usages []Usage
}

// Anchor returns the trust anchor.
func (p Path) Anchor() *x509.Certificate { return p.Certificates[len(p.Certificates)-1] }

// Published returns the certificates that a peer needs in addition to its trust anchors: all that are not self-signed.
func (p Path) Published() []*x509.Certificate {
	if selfIssued(p.Anchor()) {
		return p.Certificates[:len(p.Certificates)-1]
	}
	return p.Certificates
}

// ValidAt reports whether every certificate of the path is valid at that time.
func (p Path) ValidAt(at time.Time) bool { return !at.Before(p.NotBefore) && !at.After(p.NotAfter) }

func newPath(certificates []*x509.Certificate) Path {
	first := certificates[0]
	out := Path{Certificates: slices.Clone(certificates), NotBefore: first.NotBefore, NotAfter: first.NotAfter, First: first, Last: first, Usages: usagesOf(certificates)}
	for _, certificate := range certificates {
		if certificate.NotBefore.After(out.NotBefore) {
			out.NotBefore, out.First = certificate.NotBefore, certificate
		}
		if certificate.NotAfter.Before(out.NotAfter) {
			out.NotAfter, out.Last = certificate.NotAfter, certificate
		}
	}
	return out
}

// Paths holds all paths from a leaf up to the trust anchors.
type Paths []Path

// At returns the path to use at a given time. It prefers a path that is valid then; among several, one whose key identifiers
// match, that allows more usages, that a strict peer accepts, that ends at a self-signed certificate, that lasts longest,
// and that is shortest, in this order. ok is false if there is no path at all.
func (p Paths) At(now time.Time) (best Path, ok bool) {
	for i, path := range p {
		if i == 0 || better(path, best, now) {
			best = path
		}
	}
	return best, len(p) > 0
}

// Until returns the latest time at which any of the paths expires.
func (p Paths) Until() time.Time {
	var out time.Time
	for _, path := range p {
		if path.NotAfter.After(out) {
			out = path.NotAfter
		}
	}
	return out
}

func better(a, b Path, now time.Time) bool {
	for _, differ := range []struct{ a, b bool }{
		{a.ValidAt(now), b.ValidAt(now)},
		{fittingIDs(a), fittingIDs(b)},
		{len(a.Usages) > len(b.Usages), len(b.Usages) > len(a.Usages)},
		{len(a.Strict()) == 0, len(b.Strict()) == 0},
		{selfIssued(a.Anchor()), selfIssued(b.Anchor())},
		{a.NotAfter.After(b.NotAfter), b.NotAfter.After(a.NotAfter)},
	} {
		if differ.a != differ.b {
			return differ.a
		}
	}
	return len(a.Certificates) < len(b.Certificates)
}

// search finds paths.
type search struct {
	// above holds the certificates of the chain and the anchors; anchor reports which of them are trusted. Without any
	// anchor, the end of every path counts as one.
	above   []*x509.Certificate
	anchors []*x509.Certificate
	visits  int
	found   Paths
	// checked caches the result of each signature check; nil means valid.
	checked map[[2]*x509.Certificate]error
	// obstacle is the error that stopped the search at the highest point it reached.
	obstacle      error
	obstacleDepth int
}

func newSearch(chain, anchors []*x509.Certificate) *search {
	s := &search{anchors: anchors, checked: map[[2]*x509.Certificate]error{}}
	for _, certificate := range slices.Concat(anchors, chain) {
		if !slices.ContainsFunc(s.above, certificate.Equal) {
			s.above = append(s.above, certificate)
		}
	}
	return s
}

// SearchPaths finds every path to a trust anchor from the certificates that may have signed a leaf: start and those with the
// same name and key. Without anchors, a path ends where no further signer is found. If there is no path, the error explains
// what prevents it; it carries fault.UnsupportedAlgorithm if the cause is an algorithm.
func SearchPaths(start *x509.Certificate, chain, anchors Bundle) (Paths, error) {
	s := newSearch(chain.Certificates, anchors.Certificates)
	for _, candidate := range append([]*x509.Certificate{start}, s.above...) {
		same := candidate.Equal(start) || sameAuthority(candidate, start) && bytes.Equal(candidate.SubjectKeyId, start.SubjectKeyId)
		if same && !(candidate != start && candidate.Equal(start)) {
			s.walk([]*x509.Certificate{candidate})
		}
	}
	if len(s.anchors) == 0 {
		s.anchorless()
	}
	if len(s.found) == 0 && s.exhausted() {
		return nil, errExhausted
	}
	if len(s.found) == 0 {
		return nil, s.failure(start, chain, anchors)
	}
	return s.found, nil
}

// anchorless ends paths when no anchors were given. If a path reaches a self-signed certificate, that is the anchor.
// Otherwise the path ends at its last certificate, but only if it uses every certificate given: an unreached root was meant
// to be the anchor.
func (s *search) anchorless() {
	rooted := slices.DeleteFunc(slices.Clone(s.found), func(p Path) bool { return !selfIssued(p.Anchor()) })
	if len(rooted) > 0 {
		s.found = rooted
		return
	}
	for _, certificate := range s.above {
		if !slices.ContainsFunc(s.found, func(p Path) bool { return slices.ContainsFunc(p.Certificates, certificate.Equal) }) {
			s.found = nil
			return
		}
	}
}

// PathsAbove finds every path from the signers of a leaf to a trust anchor, whatever the time. It checks the signature on the
// leaf and along the path. The work is limited, so that certificates from an untrusted peer cannot prolong it.
func PathsAbove(leaf *x509.Certificate, chain, anchors []*x509.Certificate) Paths {
	s := newSearch(chain, anchors)
	if len(anchors) == 0 {
		return nil
	}
	for _, candidate := range s.above {
		if bytes.Equal(candidate.RawSubject, leaf.RawIssuer) && s.signed(leaf, candidate) == nil {
			s.walk([]*x509.Certificate{candidate})
		}
	}
	return s.found
}

// sameAuthority reports whether two certificates have the same name and key: a leaf of one is a leaf of the other.
func sameAuthority(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// walk extends a path, which starts at the signer of the leaf, from its last certificate.
func (s *search) walk(way []*x509.Certificate) {
	if s.visits++; s.exhausted() {
		return
	}
	top := way[len(way)-1]
	if err := s.step(way); err != nil {
		s.blocked(len(way), err)
		return
	}
	var damage error
	root := selfIssued(top)
	if root {
		damage = selfSignature(top)
	}
	root = root && damage == nil
	trusted := slices.ContainsFunc(s.anchors, top.Equal)
	switch {
	case trusted || root && len(s.anchors) == 0:
		s.arrive(way)
	case root:
		s.blocked(len(way), badPath("the path from tls.crt ends at %s, which is not in ca.crt: a client that trusts ca.crt would not trust this authority", Describe(top)))
	}
	if root {
		return
	}
	further := s.further(way)
	switch {
	case further:
	case damage != nil:
		s.blocked(len(way), badPath("the root %s is damaged: %w", Describe(top), damage))
	case len(s.anchors) == 0:
		s.arrive(way)
	}
}

// exhausted reports whether the search has reached its limits. Paths found until then count.
func (s *search) exhausted() bool { return s.visits > maxVisits || len(s.checked) > maxChecks }

// signed checks each signature once. Its cache is keyed by the bundles' own pointers, so that pointers identify
// certificates.
func (s *search) signed(child, parent *x509.Certificate) error {
	pair := [2]*x509.Certificate{child, parent}
	err, known := s.checked[pair]
	if !known {
		if len(s.checked) > maxChecks {
			return errExhausted
		}
		err = checkSignature(child, parent)
		s.checked[pair] = err
	}
	return err
}

// errExhausted reports the limits of the search.
var errExhausted = badPath("more than %d signatures, or %d ways, would have to be checked to find a path: remove certificates that are not needed, first those of the same name", maxChecks, maxVisits)

// further continues with every certificate that has signed the last one of the path, and reports whether there is one.
func (s *search) further(way []*x509.Certificate) bool {
	top, further := way[len(way)-1], false
	for _, candidate := range s.above {
		if !bytes.Equal(candidate.RawSubject, top.RawIssuer) || slices.ContainsFunc(way, func(c *x509.Certificate) bool { return sameAuthority(c, candidate) }) {
			continue
		}
		err := s.signed(top, candidate)
		if s.exhausted() {
			return further
		}
		if err != nil {
			s.blocked(len(way), unsigned(top, candidate, err))
			continue
		}
		further = true
		s.walk(append(slices.Clone(way), candidate))
	}
	return further
}

// arrive adds a path to the result, unless it allows no usage for a leaf.
func (s *search) arrive(way []*x509.Certificate) {
	path := newPath(way)
	if len(path.Usages) == 0 {
		s.blocked(len(way)+1, badPath("the extended key usage of %s leaves neither ClientAuth nor ServerAuth to certificates below it", Describe(limiting(way))))
		return
	}
	s.found = append(s.found, path)
}

func (s *search) blocked(depth int, err error) {
	if depth > s.obstacleDepth {
		s.obstacle, s.obstacleDepth = err, depth
	}
}
