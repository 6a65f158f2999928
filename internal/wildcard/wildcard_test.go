// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package wildcard

import "testing"

func TestPatternsMatchWholeNames(t *testing.T) {
	cases := map[string]struct {
		pattern, name string
		want          bool
	}{
		"the name itself":            {"orders", "orders", true},
		"only a part":                {"orders", "orders_a", false},
		"a star takes the rest":      {"orders_*", "orders_app_a", true},
		"a star takes nothing too":   {"orders*", "orders", true},
		"a star alone takes all":     {"*", "anything", true},
		"stars around":               {"*app*", "my_app_a", true},
		"order matters":              {"*b*a*", "ab", false},
		"the ends do not overlap":    {"aba*aba", "ababa", false},
		"the empty pattern":          {"", "x", false},
		"no other character is wild": {"a.c?[x]", "abc", false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := Match(tc.pattern, tc.name); got != tc.want {
				t.Errorf("Match(%q, %q) = %t", tc.pattern, tc.name, got)
			}
		})
	}
}
