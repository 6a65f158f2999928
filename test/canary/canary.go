// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"maps"
	"slices"
	"strings"
)

// keyLength is the length of the prefix of a form that is looked up at every position of a text before the rest is compared.
const keyLength = 8

// needle is one form of one secret.
type needle struct {
	what, form string
}

// index finds many needles in one pass over a text.
type index struct {
	byKey map[uint64][]needle
	// short forms are searched one by one: there are few.
	short []needle
}

// newIndex prepares the forms of the secrets. An empty secret has none.
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

// in returns the names of the secrets in the text.
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

// Search searches every text for every secret, and returns a line for each one found. The line does not contain the secret.
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
