// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import "time"

// FormatTime shows a time to people: absolute, UTC (RFC 3339). The zero time is none.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}
