// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what every attempt to print a Sensitive shows.
const Redacted = "REDACTED"

// Sensitive holds bytes that must never be printed. However Go prints or encodes it, it shows Redacted; Reveal is the only
// way to get the bytes, so a search for Reveal lists the places to audit.
//
// The zero value is an empty secret.
type Sensitive struct {
	bytes []byte
}

// NewSensitive wraps a copy of b.
func NewSensitive(b []byte) Sensitive {
	return Sensitive{bytes: append([]byte(nil), b...)}
}

// SensitiveString wraps s.
func SensitiveString(s string) Sensitive {
	return Sensitive{bytes: []byte(s)}
}

// Reveal returns the plain bytes. The caller must not change them, log them, or wrap them into an error.
func (s Sensitive) Reveal() []byte { return s.bytes }

// IsEmpty reports whether there are no bytes.
func (s Sensitive) IsEmpty() bool { return len(s.bytes) == 0 }

// String implements fmt.Stringer.
func (s Sensitive) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (s Sensitive) GoString() string { return Redacted }

// Format implements fmt.Formatter, so that no verb, not even %x, shows a byte.
func (s Sensitive) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// MarshalJSON implements json.Marshaler.
func (s Sensitive) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (s Sensitive) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// LogValue implements slog.LogValuer.
func (s Sensitive) LogValue() slog.Value { return slog.StringValue(Redacted) }
