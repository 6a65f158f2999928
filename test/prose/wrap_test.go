// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package prose

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestWrapKeepsEveryWordAndTheWidth(t *testing.T) {
	long := strings.Repeat("a", Width+1)
	text := strings.Repeat("żółw and more ", 40) + long + " end"
	for start, indent := range map[string]string{"A": "", "-": "  "} {
		got := Wrap(start + " " + text)
		if strings.Join(strings.Fields(got), " ") != start+" "+text {
			t.Errorf("Wrap changed the words: %s", got)
		}
		for i, line := range strings.Split(got, "\n") {
			if utf8.RuneCountInString(line) > Width && strings.TrimSpace(line) != long {
				t.Errorf("a line has more than %d characters: %s", Width, line)
			}
			if i > 0 && !strings.HasPrefix(line, indent) {
				t.Errorf("line %d is not indented by %q: %s", i+1, indent, line)
			}
		}
	}
}

func TestWrapLeavesTablesAndPicturesAlone(t *testing.T) {
	for _, line := range []string{"| " + strings.Repeat("a cell ", 40) + "|", "![" + strings.Repeat("a picture ", 40) + "](a.svg)", "short"} {
		if got := Wrap(line); got != line {
			t.Errorf("%q became %q", line, got)
		}
	}
}
