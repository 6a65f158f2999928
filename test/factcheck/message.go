// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package factcheck

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// never must not occur in a message.
var never = map[string]*regexp.Regexp{
	"a zero time":                    regexp.MustCompile(`0001-01-01|an unknown time|\bat never\b|\buntil never\b`),
	"a cause that is called unknown": regexp.MustCompile(`(?i)no reason is known|unknown reason|look at the log of the operator`),
	"a double space":                 regexp.MustCompile(` {2}`),
	"a line break":                   regexp.MustCompile(`[\r\n\t]`),
	"an empty subject":               regexp.MustCompile(`\(\)|\[\]|''|(^|[^\\"=])""([^"]|$)|[sS]ecret /|/ |Login (is|stays)\b|kind ""`),
	"a broken format verb":           regexp.MustCompile(`%!|<nil>|\(\*[a-z]+\.`),
	"punctuation that stands alone":  regexp.MustCompile(` [.,;:]( |$)|\.\.( |$)|[,;:]\.( |$)|\.,|:;|: :`),
}

// Message returns what is wrong with the form of a message, or nil.
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
		found = append(found, fmt.Errorf("it starts with %q", first))
	} else if last, _ := utf8.DecodeLastRuneInString(text); strings.ContainsRune(":;, \t\n(", last) {
		found = append(found, fmt.Errorf("it ends with %q", last))
	}
	if len(found) == 0 {
		return nil
	}
	return &FormError{Text: text, Err: errors.Join(found...)}
}

// FormError is about a sentence that no user should have to read, whether or not it is true.
type FormError struct {
	Text string
	Err  error
}

// Error implements error.
func (e *FormError) Error() string { return fmt.Sprintf("message %q: %v", e.Text, e.Err) }

// Unwrap returns what is wrong with the sentence.
func (e *FormError) Unwrap() error { return e.Err }
