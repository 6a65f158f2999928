// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package said

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// never stands in a message.
var never = map[string]*regexp.Regexp{
	"a zero time":                        regexp.MustCompile(`0001-01-01|an unknown time|\bat never\b|\buntil never\b`),
	"a cause that is said to be unknown": regexp.MustCompile(`(?i)no reason is known|unknown reason|look at the log of the operator`),
	"a double blank":                     regexp.MustCompile(` {2}`),
	"a line break":                       regexp.MustCompile(`[\r\n\t]`),
	"an empty subject":                   regexp.MustCompile(`\(\)|\[\]|''|(^|[^\\"=])""([^"]|$)|[sS]ecret /|/ |Login (is|stays)\b|kind ""`),
	"what a format made of a wrong word": regexp.MustCompile(`%!|<nil>|\(\*[a-z]+\.`),
	"punctuation that stands alone":      regexp.MustCompile(` [.,;:]( |$)|\.\.( |$)|[,;:]\.( |$)|\.,|:;|: :`),
}

// Message returns what is wrong with the form of a message; nil where nothing is.
func Message(text string) error {
	var found []error
	for what, form := range never {
		if form.MatchString(text) {
			found = append(found, fmt.Errorf("it has %s", what))
		}
	}
	if strings.TrimSpace(text) == "" {
		found = append(found, errors.New("it is empty"))
	} else if first, _ := utf8.DecodeRuneInString(text); !unicode.IsLetter(first) && !unicode.IsDigit(first) && !strings.ContainsRune("\"`'", first) {
		found = append(found, fmt.Errorf("it begins with %q", first))
	} else if last, _ := utf8.DecodeLastRuneInString(text); strings.ContainsRune(":;, \t\n(", last) {
		found = append(found, fmt.Errorf("it ends with %q", last))
	}
	if len(found) == 0 {
		return nil
	}
	return &FormError{Text: text, Err: errors.Join(found...)}
}

// FormError is about a sentence that nobody should have to read, whether or not what it says is so.
type FormError struct {
	Text string
	Err  error
}

// Error implements error.
func (e *FormError) Error() string { return fmt.Sprintf("message %q: %v", e.Text, e.Err) }

// Unwrap returns what is wrong with it.
func (e *FormError) Unwrap() error { return e.Err }
