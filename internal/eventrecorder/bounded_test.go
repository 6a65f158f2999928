// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package eventrecorder

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestATextIsCutBetweenCharacters(t *testing.T) {
	const most = 1000 // the limit of a condition
	for name, text := range map[string]string{
		"one byte before": strings.Repeat("\u20ac", 400), "two bytes before": "x" + strings.Repeat("\u20ac", 400), "on the edge": "xx" + strings.Repeat("\u20ac", 400),
		"short": "\u20ac", "no text at all": "a\xffb", "no text, and long": strings.Repeat("\xff", 2000), "a character starts at the end": strings.Repeat("x", 996) + "\u20ac\u20ac",
	} {
		got := Bounded(text, most)
		if !utf8.ValidString(got) || len(got) > most || got == "" {
			t.Errorf("%s: it became %d bytes, in UTF-8: %t", name, len(got), utf8.ValidString(got))
		}
		if utf8.ValidString(text) && len(text) <= most && got != text {
			t.Errorf("%s: a text in order was changed", name)
		}
	}
}
