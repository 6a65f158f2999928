// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const (
	// shortest line of a key that is looked for: shorter ones could turn up by chance.
	shortest = 24
	// window of a key in an encoding that has no lines.
	window = 24
)

// needles are the forms in which a secret could turn up in a text: as it is, line by line, in base64, in hexadecimal, and as
// Go prints bytes. Of a long secret the middle is taken: its beginning is the same in every key.
func needles(secret []byte) []string {
	var forms []string
	for line := range strings.SplitSeq(string(secret), "\n") {
		line = strings.TrimSpace(line)
		if len(line) >= shortest && !strings.HasPrefix(line, "-----") || line == string(secret) {
			forms = append(forms, line)
		}
	}
	middle := secret
	if len(secret) > 2*window {
		start := len(secret) / 2 / 3 * 3 // base64 encodes three bytes at a time
		middle = secret[start : start+window]
	}
	whole := len(middle) / 3 * 3 // what follows depends on the bytes behind
	return append(forms,
		base64.StdEncoding.EncodeToString(middle[:whole]),
		hex.EncodeToString(middle),
		strings.Trim(fmt.Sprintf("%d", middle), "[]"),
	)
}

// Search looks for every secret in every text, and gives a line for each that is found. The secret is not in it.
func Search(secrets map[string][]byte, texts map[string]string) []string {
	var found []string
	for _, what := range slices.Sorted(maps.Keys(secrets)) {
		for _, where := range slices.Sorted(maps.Keys(texts)) {
			if slices.ContainsFunc(needles(secrets[what]), func(needle string) bool { return strings.Contains(texts[where], needle) }) {
				found = append(found, what+" is in "+where)
			}
		}
	}
	return found
}
