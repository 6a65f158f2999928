// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"encoding/pem"
	"errors"
	"testing"
)

var errControl = errors.New("no")

// A control: each judge refuses what is plainly wrong, and each broken rule is detected.
func TestEveryJudgeRefusesInvalidCertificates(t *testing.T) {
	ring, judges := NewKeyring(t), newPanel(t)
	good := build(t, ring, base(plain))
	question := Question{Leaf: good.Leaf, Untrusted: good.Certificate, Trusted: good.Trusted, Usage: Server, At: At}
	foreign := base(plain)
	foreign.aboveKey = P384
	other := build(t, ring, foreign)
	for name, tc := range map[string]struct {
		change func(*Question)
		want   bool
	}{
		"the case unchanged":             {func(*Question) {}, true},
		"other roots":                    {func(q *Question) { q.Trusted = other.Trusted }, false},
		"no intermediate":                {func(q *Question) { q.Untrusted = nil }, false},
		"after it has expired":           {func(q *Question) { q.At = At.AddDate(4, 0, 0) }, false},
		"before it is valid":             {func(q *Question) { q.At = At.AddDate(-2, 0, 0) }, false},
		"a signature by another key":     {func(q *Question) { q.Leaf = forged(t, ring) }, false},
		"one bit of the leaf is flipped": {func(q *Question) { q.Leaf = turned(t, q.Leaf) }, false},
	} {
		q := question
		tc.change(&q)
		for judge, err := range judges.ask(t, q) {
			if (err == nil) != tc.want {
				t.Errorf("%s: %s answers %v", name, judge, err)
			}
		}
	}
	var v verdict
	v.refused(good, true, errControl)
	v.refused(Case{Causes: []string{"expired"}}, false, errControl)
	v.refused(Case{Causes: []string{"not supported"}}, false, errors.New("it is damaged and not supported"))
	v.refused(Case{Key: good.Key, Causes: []string{"M"}}, false, errors.New(string(good.Key)))
	if len(v.problems) < 4 {
		t.Errorf("four broken rules are reported as %q", v.problems)
	}
}

func forged(t *testing.T, ring *Keyring) []byte {
	t.Helper()
	m := &maker{TB: t, ring: ring, plan: base(plain)}
	signer := m.signer(nil)
	signer.key = m.key(P256, keyOfOthers)
	return m.leaf(signer).pem()
}

func turned(t *testing.T, leaf []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(leaf)
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}
