// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"time"
)

// Class says what can be done about an error.
type Class int

const (
	// ClassNone is the class of nil.
	ClassNone Class = iota
	// ClassTransient errors may go away by themselves.
	ClassTransient
	// ClassPending is not a failure: the other side needs more time.
	ClassPending
	// ClassBlocked waits for another object or for a person.
	ClassBlocked
	// ClassPermanent needs a change of the spec or of the other side.
	ClassPermanent
)

// String implements fmt.Stringer; the words are label values of metrics.
func (c Class) String() string {
	switch c {
	case ClassNone:
		return "none"
	case ClassPending:
		return "pending"
	case ClassBlocked:
		return "blocked"
	case ClassPermanent:
		return "permanent"
	case ClassTransient:
	}
	return "transient"
}

// Error is an error with a class and a reason.
type Error struct {
	class  Class
	reason Reason
	after  time.Duration
	err    error
}

// Error implements error. The reason is not part of the text: reports show it beside the text.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.err }

// Pending says that the other side needs more time, and when to ask again.
func Pending(after time.Duration, err error) error {
	return &Error{class: ClassPending, after: after, err: err}
}

// Blocked says that another object or a person must act first.
func Blocked(reason Reason, err error) error {
	return &Error{class: ClassBlocked, reason: reason, err: err}
}

// Permanent says that only a change of the spec or of the other side helps.
func Permanent(reason Reason, err error) error {
	return &Error{class: ClassPermanent, reason: reason, err: err}
}

// Transient gives a reason to an error that may go away by itself.
func Transient(reason Reason, err error) error {
	return &Error{class: ClassTransient, reason: reason, err: err}
}

// Classify tells the class of err, through any wrapping. An error that is not of this package is transient.
func Classify(err error) Class {
	if err == nil {
		return ClassNone
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.class
	}
	return ClassTransient
}

// ReasonOf tells the reason that err carries, or the fallback.
func ReasonOf(err error, fallback Reason) Reason {
	if e, ok := errors.AsType[*Error](err); ok && e.reason != "" {
		return e.reason
	}
	return fallback
}

// RetryAfter tells the wait that a pending error asks for; 0 for every other.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.after
	}
	return 0
}

// NeedsHelp reports whether err ends only when something else changes: another object, the spec, or the other side.
func NeedsHelp(err error) bool {
	class := Classify(err)
	return class == ClassBlocked || class == ClassPermanent
}
