// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package wildcard matches names against patterns whose only special character is "*".
package wildcard

import (
	"slices"
	"strings"
)

// Match reports whether all of s matches a pattern in which "*" matches any sequence of characters, in time linear in both for
// each "*".
func Match(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	head, tail := parts[0], parts[len(parts)-1]
	if len(s) < len(head)+len(tail) || !strings.HasPrefix(s, head) || !strings.HasSuffix(s, tail) {
		return false
	}
	s = s[len(head) : len(s)-len(tail)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s = s[at+len(part):]
	}
	return true
}

// MatchAny reports whether one of the patterns matches the whole of s.
func MatchAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool { return Match(pattern, s) })
}
