// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Forms returns every case with a single oddity.
func Forms(tb testing.TB, ring *Keyring) []Case {
	tb.Helper()
	var out []Case
	for _, plan := range forms() {
		out = append(out, build(tb, ring, plan))
	}
	return out
}

func base(t topology) plan { return plan{topology: t, signerKey: P256, aboveKey: P256} }

func forms() []plan {
	var out []plan
	add := func(t topology, change func(*plan)) {
		p := base(t)
		change(&p)
		out = append(out, p)
	}
	for _, t := range topologies() {
		add(t, func(*plan) {})
	}
	for _, twist := range twists() {
		add(plain, func(p *plan) { p.signer = append(p.signer, twist) })
		add(plain, func(p *plan) { p.above = append(p.above, twist) })
		add(selfSigned, func(p *plan) { p.signer = append(p.signer, twist) })
	}
	for _, algorithm := range Algorithms() {
		add(plain, func(p *plan) { p.signerKey = algorithm })
		add(plain, func(p *plan) { p.aboveKey = algorithm })
		add(selfSigned, func(p *plan) { p.signerKey = algorithm })
	}
	both := topologies()[3] // The intermediate and its root in tls.crt.
	for _, form := range textForms() {
		add(plain, func(p *plan) { p.caText = form })
		add(both, func(p *plan) { p.crtText = form })
	}
	for _, form := range keyForms() {
		add(plain, func(p *plan) {
			p.keyText = form
			if form.algorithm != "" {
				p.signerKey = form.algorithm
			}
		})
	}
	return out
}

// Algorithms returns all kinds of keys, in a fixed order.
func Algorithms() []Algorithm {
	return []Algorithm{P256, P384, P521, RSA, RSAPSSSign, Ed25519, RSAPSS, RSA1024, Ed448, Brainpool, Secp256k1, Explicit, DSA}
}

// Draw returns case number n of a seed: a topology with two to five oddities, most of which do no harm alone.
func Draw(tb testing.TB, ring *Keyring, seed, n uint64) Case {
	tb.Helper()
	return build(tb, ring, draw(rand.New(rand.NewPCG(seed, n))))
}

func draw(r *rand.Rand) plan {
	p := base(pick(r, topologies(), func(t topology) bool { return t.cause == "" }))
	harmless := func(have []twist) func(twist) bool {
		return func(t twist) bool {
			same := func(other twist) bool { return other.part() == t.part() }
			return !slices.ContainsFunc(have, same) && (t.cause == "" || r.IntN(12) == 0)
		}
	}
	for range 2 + r.IntN(4) {
		switch r.IntN(7) {
		case 0, 1:
			p.signer = append(p.signer, pick(r, twists(), harmless(p.signer)))
		case 2, 3:
			if !p.topology.alone {
				p.above = append(p.above, pick(r, twists(), harmless(p.above)))
			}
		case 4:
			p.signerKey = pick(r, Algorithms(), func(a Algorithm) bool { return unsupported[a] == "" || r.IntN(12) == 0 })
		case 5:
			if !p.topology.alone {
				p.aboveKey = pick(r, Algorithms(), func(a Algorithm) bool { return unsupported[a] == "" || r.IntN(12) == 0 })
			}
		default:
			readable := func(f textForm) bool { return f.cause == "" || r.IntN(12) == 0 }
			p.crtText, p.caText = pick(r, textForms(), readable), pick(r, textForms(), readable)
		}
	}
	if keys := keyForms(); r.IntN(3) == 0 {
		p.keyText = pick(r, keys, func(f keyForm) bool { return f.cause == "" && (f.algorithm == "" || f.algorithm == p.signerKey) })
	}
	return p
}

// pick draws until it finds a wanted one.
func pick[T any](r *rand.Rand, from []T, wanted func(T) bool) T {
	for {
		if one := from[r.IntN(len(from))]; wanted(one) {
			return one
		}
	}
}
