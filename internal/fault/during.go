// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import "fmt"

// stepError is an error together with the operation that failed: the log shows both.
type stepError struct {
	doing string
	err   error
}

// Error implements error.
func (e *stepError) Error() string { return e.doing + ": " + e.err.Error() }

// Unwrap returns the cause.
func (e *stepError) Unwrap() error { return e.err }

// During wraps err with the operation that failed.
func During(err error, format string, args ...any) error {
	return &stepError{doing: fmt.Sprintf(format, args...), err: err}
}

// MessageOf returns an error's message for users. An error with a reason was written for them and is complete: the step that
// failed adds nothing about its cause.
func MessageOf(err error) string {
	step, ok := err.(*stepError) //nolint:errorlint // only the outermost error: those inside belong to the message
	if ok && ReasonOf(step.err, "") != "" {
		return MessageOf(step.err)
	}
	return err.Error()
}
