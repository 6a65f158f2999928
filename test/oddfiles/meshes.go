// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// keysOfGraphs is the number of the first key of a graph.
const keysOfGraphs = 100

// node is an authority in a graph: a name and a key. Several nodes may have one name, and several certificates one node.
type node struct {
	name string
	key  int
}

// edge is one certificate: issuer has signed the name and the key of subject.
type edge struct{ subject, issuer int }

// graph is a set of authorities that have signed each other. Node 0 signs leaves.
type graph struct {
	nodes []node
	edges []edge
}

// shapes are the kinds of random graphs.
var shapes = []struct {
	name string
	draw func(*rand.Rand) graph
}{
	{"a mesh of cross-signed authorities", mesh},
	{"a ring without an end", ring},
	{"renewed certificates of the same names and keys", func(dice *rand.Rand) graph { return twins(2+dice.IntN(3), 1+dice.IntN(5)) }},
	{"other keys of the same names", func(dice *rand.Rand) graph { return doubles(2+dice.IntN(3), 1+dice.IntN(5)) }},
	{"a deep chain with branches", func(dice *rand.Rand) graph { return deep(1+dice.IntN(9), dice) }},
}

func numbered(count int) graph {
	var g graph
	for n := range count {
		g.nodes = append(g.nodes, node{fmt.Sprintf("Mesh CA %d", n), n})
	}
	return g
}

// mesh has up to seven authorities, each signed by some of the others and possibly self-signed.
func mesh(dice *rand.Rand) graph {
	g := numbered(2 + dice.IntN(6))
	for subject := range g.nodes {
		for issuer := range g.nodes {
			if subject == issuer && dice.IntN(10) < 5 || subject != issuer && dice.IntN(10) < 4 {
				g.edges = append(g.edges, edge{subject, issuer})
			}
		}
	}
	return g
}

// ring has each authority signed by the next one, and the last by the first.
func ring(dice *rand.Rand) graph {
	g := numbered(2 + dice.IntN(7))
	for n := range g.nodes {
		g.edges = append(g.edges, edge{n, (n + 1) % len(g.nodes)})
	}
	root := dice.IntN(len(g.nodes))
	g.edges = append(g.edges, edge{root, root})
	return g
}

// twins has, at each level, several certificates of one name and key, all signed by the one name and key above.
func twins(levels, each int) graph {
	g := numbered(levels + 1)
	for level := range levels {
		for range each {
			g.edges = append(g.edges, edge{level, level + 1})
		}
	}
	for range each {
		g.edges = append(g.edges, edge{levels, levels})
	}
	return g
}

// doubles has, at each level above the signer, several keys of one name; the last one has signed the level below.
func doubles(levels, each int) graph {
	g := numbered(1)
	below := 0
	for level := range levels {
		for range each {
			g.nodes = append(g.nodes, node{fmt.Sprintf("Mesh CA of level %d", level), len(g.nodes)})
			if top := len(g.nodes) - 1; level == levels-1 {
				g.edges = append(g.edges, edge{top, top})
			}
		}
		last := len(g.nodes) - 1
		g.edges = append(g.edges, edge{below, last})
		// The other keys of the name below were signed by the same authority.
		for n := below - 1; n > 0 && g.nodes[n].name == g.nodes[below].name; n-- {
			g.edges = append(g.edges, edge{n, last})
		}
		below = last
	}
	return g
}

// deep has that many authorities above the signer in one line; each may also be signed by one further up.
func deep(above int, dice *rand.Rand) graph {
	g := numbered(above + 1)
	for n := range above {
		g.edges = append(g.edges, edge{n, n + 1})
		if farther := n + 2 + dice.IntN(3); dice.IntN(3) == 0 && farther < len(g.nodes) {
			g.edges = append(g.edges, edge{n, farther})
		}
	}
	g.edges = append(g.edges, edge{above, above})
	return g
}

// oddly changes some certificates of a graph: dates, path length, extended key usage, not an authority, no key identifiers,
// name constraints that permit the leaf and that do not.
func oddly(tb testing.TB, dice *rand.Rand) func(*profile) {
	tb.Helper()
	only := func(usage asn1.ObjectIdentifier) pkix.Extension {
		return pkix.Extension{Id: oidExtKeyUsage, Value: encode(tb, []asn1.ObjectIdentifier{usage})}
	}
	// Only Go judges whether there is a path, and it ignores constraints on directory names.
	limited := slices.DeleteFunc(nameConstraints(), func(t twist) bool { return t.all })
	n, limit := dice.IntN(100), limited[dice.IntN(len(limited))]
	return func(p *profile) {
		switch {
		case n < 12:
			expired(p)
		case n < 15:
			notYet(p)
		case n < 30:
			p.until = At.AddDate(1+n%7, 0, 0)
		case n < 36:
			p.pathLength = n % 4
		case n < 41:
			p.extensions = append(p.extensions, only(oidServerAuth))
		case n < 43:
			p.extensions = append(p.extensions, only(oidClientAuth))
		case n < 46:
			p.basic = "FALSE"
		case n < 52:
			p.noAuthKey = true
		case n < 66:
			limit.apply(tb, p)
		}
	}
}

// issued is a certificate of a graph; rooted is true if it is self-signed.
type issued struct {
	authority

	rooted bool
}

// certificates returns those of a graph by subject, each changed.
func (m *maker) certificates(g graph, change func() func(*profile)) [][]issued {
	m.Helper()
	all := make([][]issued, len(g.nodes))
	for _, e := range g.edges {
		subject, issuer := g.nodes[e.subject], g.nodes[e.issuer]
		above := authority{profile: m.profile(issuer.name, m.key(P256, keysOfGraphs+issuer.key))}
		one := m.make(subject.name, m.key(P256, keysOfGraphs+subject.key), &above, nil, change())
		all[e.subject] = append(all[e.subject], issued{one, e.subject == e.issuer})
	}
	return all
}

// secretOf puts certificates into the Secret of an authority: one of the signer first, then the rest in any order, some of
// them missing; anchors are mostly self-signed ones.
func (m *maker) secretOf(all [][]issued, dice *rand.Rand) (Case, bool) {
	m.Helper()
	if len(all[0]) == 0 {
		return Case{}, false
	}
	first := all[0][dice.IntN(len(all[0]))].authority
	var chain, anchors []authority
	partial := false
	for _, of := range all {
		for _, one := range of {
			if dice.IntN(100) < map[bool]int{true: 60, false: 6}[one.rooted] {
				anchors, partial = append(anchors, one.authority), partial || !one.rooted
			}
			if !bytes.Equal(one.der, first.der) && dice.IntN(100) < 85 {
				chain = append(chain, one.authority)
			}
		}
	}
	if len(anchors) == 0 {
		return Case{}, false
	}
	dice.Shuffle(len(chain), func(a, b int) { chain[a], chain[b] = chain[b], chain[a] })
	dice.Shuffle(len(anchors), func(a, b int) { anchors[a], anchors[b] = anchors[b], anchors[a] })
	return m.caseOf(append([]authority{first}, chain...), anchors, partial), true
}

// caseOf returns the Secret of an authority with these files, and a leaf below it.
func (m *maker) caseOf(chain, anchors []authority, partial bool) Case {
	m.Helper()
	return Case{
		Certificate: pems(chain...), Key: chain[0].key.PEM, Anchors: pems(anchors...), Trusted: pems(anchors...), Partial: partial,
		Leaf: m.leaf(chain[0]).pem(), LeafKey: m.key(P256, keyOfLeaf).PEM,
		Causes: []string{
			`\bpath\b`, `has expired`, `is not valid (before|yet)`, `may not sign`, `is not an authority`, `extended key usage`, `more than 500 signatures`,
			`does not verify`, `sign each other in a circle`, `has the name of the issuer of .* but has not signed it`, `constraint`,
		},
	}
}
