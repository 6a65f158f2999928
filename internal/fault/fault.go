// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"time"
)

// Class is what can be done about an error.
type Class int

const (
	// ClassNone is the class of nil.
	ClassNone Class = iota
	// ClassTransient errors may resolve on their own.
	ClassTransient
	// ClassPending is not a failure: the remote system needs more time.
	ClassPending
	// ClassBlocked waits for another object or a user.
	ClassBlocked
	// ClassPermanent needs a change of the spec or of the remote system.
	ClassPermanent
)

// String implements fmt.Stringer. The results are label values of metrics.
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

// Error implements error. The reason is not part of the text: reports show it separately.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// Pending returns an error that means that the remote system needs more time; after is when to ask again.
func Pending(after time.Duration, err error) error {
	return &Error{class: ClassPending, after: after, err: err}
}

// Blocked returns an error that means that another object must change or a user must act first.
func Blocked(reason Reason, err error) error {
	return &Error{class: ClassBlocked, reason: reason, err: err}
}

// Permanent returns an error that only a change of the spec or of the remote system resolves.
func Permanent(reason Reason, err error) error {
	return &Error{class: ClassPermanent, reason: reason, err: err}
}

// Transient returns an error that may resolve on its own, with a reason.
func Transient(reason Reason, err error) error {
	return &Error{class: ClassTransient, reason: reason, err: err}
}

// Classify returns the class of err, through any wrapping. An error that is not of this package is transient.
func Classify(err error) Class {
	if err == nil {
		return ClassNone
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.class
	}
	return ClassTransient
}

// ReasonOf returns the reason of err, or the fallback.
func ReasonOf(err error, fallback Reason) Reason {
	if e, ok := errors.AsType[*Error](err); ok && e.reason != "" {
		return e.reason
	}
	return fallback
}

// RetryAfter returns the wait that a pending error requests; 0 for every other error.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.after
	}
	return 0
}

// NeedsHelp reports whether err persists until something else changes: another object, the spec, or the remote system.
func NeedsHelp(err error) bool {
	class := Classify(err)
	return class == ClassBlocked || class == ClassPermanent
}
