// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestAPathIsFoundInEveryGraphOfCertificates draws graphs of authorities that have signed each other. If Go finds a path,
// rekey accepts the case; Go and OpenSSL accept what rekey publishes until its last second.
func TestAPathIsFoundInEveryGraphOfCertificates(t *testing.T) {
	keys, judges := NewKeyring(t), panel{judges: map[string]Judge{"Go": Go, "OpenSSL": OpenSSL}}
	seed, count := drawn()
	var cases []Case
	for n := range count / 3 {
		dice := rand.New(rand.NewPCG(seed, uint64(n)))
		shape := shapes[n%len(shapes)]
		m := &maker{TB: t, ring: keys, plan: base(plain)}
		all := m.certificates(shape.draw(dice), func() func(*profile) { return oddly(t, dice) })
		if c, ok := m.secretOf(all, dice); ok {
			c.Name, c.Forms = fmt.Sprintf("graph %d of seed %d: %s", n, seed, shape.name), []string{shape.name}
			cases = append(cases, c)
		}
	}
	var seen sync.Map
	counts, lock := map[string]int{}, sync.Mutex{}
	t.Run("graphs", func(t *testing.T) {
		for _, c := range cases {
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				for _, usage := range []Usage{Server, Client} {
					v := judges.judge(t, c, usage, &seen)
					for _, problem := range v.problems {
						t.Errorf("as %s: %s\ntls.crt:\n%s\nca.crt:\n%s\ntls.key:\n%s\nleaf:\n%s", usage, problem, c.Certificate, c.Anchors, c.Key, c.Leaf)
					}
					lock.Lock()
					counts[c.Forms[0]+": "+strings.Replace(v.accepted, "J", "", 1)]++
					lock.Unlock()
				}
			})
		}
	})
	for _, line := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("%5d cases of %s (G: Go, O: OpenSSL, r: rekey)", counts[line], line)
	}
}

// TestASearchAmongManyCertificatesEnds has hundreds of certificates with the same names. The search stops after 500
// signatures. If it has found no path by then, it reports that; a path that it has found counts.
func TestASearchAmongManyCertificatesEnds(t *testing.T) {
	keys := NewKeyring(t)
	for _, tc := range []struct {
		name  string
		graph graph
		// unanchored trusts another root, to which no path leads; limited means that the limit is reached before a path is
		// found.
		unanchored, limited bool
	}{
		{"25 renewed certificates at each of two levels", twins(2, 25), false, false},
		{"120 renewed certificates at each of three levels", twins(3, 120), false, false},
		{"25 at each of two levels, and no way to the anchor", twins(2, 25), true, true},
		{"120 at each of three levels, and no way to the anchor", twins(3, 120), true, true},
		{"60 keys of one name", doubles(1, 60), false, false},
		{"30 keys of one name at each of four levels", doubles(4, 30), false, false},
		{"six that have all signed each other", allSigned(6), false, false},
		{"sixteen that have all signed each other", allSigned(16), false, true},
		{"all have signed each other, and no way to the anchor", allSigned(16), true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &maker{TB: t, ring: keys, plan: base(plain)}
			var chain, anchors []authority
			for _, of := range m.certificates(tc.graph, func() func(*profile) { return func(*profile) {} }) {
				for _, one := range of {
					if one.rooted {
						anchors = append(anchors, one.authority)
					} else {
						chain = append(chain, one.authority)
					}
				}
			}
			if tc.unanchored {
				anchors = []authority{m.other("Another Root CA")}
			}
			c := m.caseOf(chain, anchors[len(anchors)-1:], false)
			out, err := publish(t.Context(), c, Server)
			if tc.limited {
				if err == nil || !strings.Contains(err.Error(), "more than 500 signatures") {
					t.Errorf("the limit is not named: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			question := Question{Leaf: out.chain, Untrusted: out.chain, Trusted: out.anchors, Usage: Server, At: At}
			if err := Go(t, question); err != nil {
				t.Errorf("Go refuses what is published: %v", err)
			}
			if err := OpenSSL(t, question); err != nil {
				t.Errorf("OpenSSL refuses what is published: %v", err)
			}
		})
	}
}

// allSigned makes each of count authorities signed by all others.
func allSigned(count int) graph {
	g := numbered(count)
	for subject := range g.nodes {
		for issuer := range g.nodes {
			if subject != issuer {
				g.edges = append(g.edges, edge{subject, issuer})
			}
		}
	}
	g.edges = append(g.edges, edge{count - 1, count - 1})
	return g
}
