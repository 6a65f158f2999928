// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import "testing"

// A number that no version can have would leave no next number: the marker counts as ours, and its number as the lowest.
func TestAnImpossibleNumberIsIgnored(t *testing.T) {
	for mark, want := range map[string]int64{
		"rekey c/web/orders seq=7":                          7,
		"rekey c/web/orders seq=1099511627776":              1 << 40,
		"rekey c/web/orders seq=1099511627777":              0,
		"rekey c/web/orders seq=9007199254740992":           0,
		"rekey c/web/orders seq=999999999999999999":         0,
		"rekey c/web/orders seq=999999999999999999 retired": 0,
	} {
		owner, seq, retired := parseMarker(mark)
		if owner != "c/web/orders" || seq != want || retired && want == 0 {
			t.Errorf("%q: owner %q, number %d (want %d), retired %t", mark, owner, seq, want, retired)
		}
	}
}
