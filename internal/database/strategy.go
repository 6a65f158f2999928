// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"fmt"

	"github.com/rekey/rekey/internal/fault"
)

// Strategy is how a new password takes effect while the old one keeps working. The values are those of the
// DatabaseCredential kind. Slots and login names follow from it and the username alone, so that they are known while the server
// is missing.
type Strategy string

// AlternatingUsers keeps two logins that take turns: a rotation never alters the one that is published.
const AlternatingUsers Strategy = "AlternatingUsers"

// Slots returns the slots that versions use in turn, in order; none if there is only one.
func (s Strategy) Slots() []string {
	if s == AlternatingUsers {
		return []string{"a", "b"}
	}
	return nil
}

// Login returns the name of the login in a slot.
func (s Strategy) Login(username, slot string) string {
	if s == AlternatingUsers {
		return username + "_" + slot
	}
	return username
}

// Logins returns the name of the login in each slot.
func (s Strategy) Logins(username string) map[string]string {
	slots := s.Slots()
	if len(slots) == 0 {
		slots = []string{""}
	}
	out := map[string]string{}
	for _, slot := range slots {
		out[slot] = s.Login(username, slot)
	}
	return out
}

// CheckNames refuses a username whose logins are longer than the engine allows.
func (s Strategy) CheckNames(info Info, username string) error {
	for _, login := range s.Logins(username) {
		if len(login) > info.MaxLogin {
			return fault.Permanent(fault.UsernameForbidden, fmt.Errorf(
				"checking username %q: a login of %s has at most %d bytes, and %q has %d: choose a shorter username in a new object",
				username, info.Name, info.MaxLogin, login, len(login)))
		}
	}
	return nil
}
