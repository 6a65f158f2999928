// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"maps"
	"slices"
	"strings"
)

// keyLength is how much of a form is looked up at every place of a text before the rest is compared.
const keyLength = 8

// needle is one form of one secret.
type needle struct {
	what, form string
}

// index finds many needles in one walk over a text.
type index struct {
	byKey map[uint64][]needle
	// short forms are looked for one by one: they are few.
	short []needle
}

// newIndex prepares the forms of the secrets. A secret that is empty has none.
func newIndex(secrets map[string][]byte) *index {
	out := &index{byKey: map[uint64][]needle{}}
	for what, secret := range secrets {
		for _, form := range forms(secret) {
			if len(form) < keyLength {
				out.short = append(out.short, needle{what, form})
				continue
			}
			key := keyOf(form)
			out.byKey[key] = append(out.byKey[key], needle{what, form})
		}
	}
	return out
}

func keyOf(text string) uint64 {
	var key uint64
	for i := range keyLength {
		key = key<<8 | uint64(text[i])
	}
	return key
}

// in gives the names of the secrets that are in the text.
func (x *index) in(text string) map[string]bool {
	found := map[string]bool{}
	for _, n := range x.short {
		if strings.Contains(text, n.form) {
			found[n.what] = true
		}
	}
	var key uint64
	for i := range len(text) {
		key = key<<8 | uint64(text[i])
		if i < keyLength-1 {
			continue
		}
		for _, n := range x.byKey[key] {
			if strings.HasPrefix(text[i-keyLength+1:], n.form) {
				found[n.what] = true
			}
		}
	}
	return found
}

// Search looks for every secret in every text, and gives a line for each that is found. The secret is not in it.
func Search(secrets map[string][]byte, texts map[string]string) []string {
	search := newIndex(secrets)
	var found []string
	for _, where := range slices.Sorted(maps.Keys(texts)) {
		for _, what := range slices.Sorted(maps.Keys(search.in(texts[where]))) {
			found = append(found, what+" is in "+where)
		}
	}
	slices.Sort(found)
	return found
}
