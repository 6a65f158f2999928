// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import "fmt"

// stepError is an error together with what was being done when it came up: the log shows both.
type stepError struct {
	doing string
	err   error
}

// Error implements error.
func (e *stepError) Error() string { return e.doing + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *stepError) Unwrap() error { return e.err }

// During says what was being done when err came up.
func During(err error, format string, args ...any) error {
	return &stepError{doing: fmt.Sprintf(format, args...), err: err}
}

// MessageOf returns what people read of an error. One that carries a reason was written for them and stands by itself: which
// step met it says nothing about its cause.
func MessageOf(err error) string {
	step, ok := err.(*stepError) //nolint:errorlint // only the outermost: what is below belongs to the message
	if ok && ReasonOf(step.err, "") != "" {
		return MessageOf(step.err)
	}
	return err.Error()
}
