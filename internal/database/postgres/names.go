// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/wildcard"
)

const (
	slotA, slotB = "a", "b"
	// maxIdentifier is the number of bytes of a name that PostgreSQL keeps; it cuts off the rest without an error.
	maxIdentifier = 63
	// defaultMaintenance is the database that the admin connects to, unless the spec names another or it does not admit the
	// admin. Advisory locks are per database; if two credentials work from two databases, the marker that is read after the
	// change decides.
	defaultMaintenance = "postgres"
)

// loginName returns the login of a slot.
func loginName(target target, slot string) string {
	return target.Strategy.Login(target.Username, slot)
}

// login returns the login of ref's slot, or an error if its name cannot be used.
func login(target target, ref credential.Ref) (string, error) {
	if ref.Slot != slotA && ref.Slot != slotB {
		return "", fault.Permanent(fault.LedgerInvalid, fmt.Errorf("finding the login of %s: the slot must be %q or %q", ref, slotA, slotB))
	}
	name := loginName(target, ref.Slot)
	if !usable(name) || system(name, target.Server.Admin.Username) {
		return "", fault.Permanent(fault.UsernameForbidden, fmt.Errorf("finding the login of %s: %q is a system user, or not the name of a role", ref, name))
	}
	return name, nil
}

// allowedLogin returns the login of ref's slot if the server object allows it now. Callers that only read, or that remove
// what carries our marker, use login instead: narrowing what is allowed must not keep an old login alive.
func allowedLogin(target target, ref credential.Ref) (string, error) {
	if err := checkNames(target); err != nil {
		return "", err
	}
	return login(target, ref)
}

// checkNames checks the target's names against what the server object allows, and against what is never allowed.
func checkNames(target target) error {
	for _, slot := range []string{slotA, slotB} {
		if err := checkUsername(target, loginName(target, slot)); err != nil {
			return err
		}
	}
	if err := checkUsername(target, target.Username); err != nil {
		return err
	}
	owner, server := target.Owner, target.Server
	switch {
	case !usable(owner) || system(owner, server.Admin.Username):
		return fault.Permanent(fault.OwnerForbidden, fmt.Errorf("checking owner %q: system roles and the admin itself cannot be owners: choose another role", owner))
	case owner == loginName(target, slotA) || owner == loginName(target, slotB):
		return fault.Permanent(fault.OwnerForbidden, fmt.Errorf("checking owner %q: a login of the credential cannot be its owner: choose another role", owner))
	case !wildcard.MatchAny(server.AllowedOwners, owner):
		return fault.Permanent(fault.OwnerForbidden, fmt.Errorf("checking owner %q: postgresql.allowedOwners of the server does not list it: choose another role, or add it there", owner))
	}
	return nil
}

func checkUsername(target target, name string) error {
	switch {
	case !usable(name):
		return fault.Permanent(fault.UsernameForbidden, fmt.Errorf("checking username %q: with its suffix it must have from 3 to %d bytes and no zero byte", name, maxIdentifier))
	case system(name, target.Server.Admin.Username):
		return fault.Permanent(fault.UsernameForbidden, fmt.Errorf("checking username %q: system users and the admin itself are never rotated: choose another name", name))
	case !wildcard.MatchAny(target.Server.AllowedUsernames, name):
		return fault.Permanent(fault.UsernameForbidden,
			fmt.Errorf("checking username %q: allowedUsernames of the server must match %q, %q and %q: choose another name, or add a pattern there", name,
				target.Username, loginName(target, slotA), loginName(target, slotB)))
	}
	return nil
}

func usable(name string) bool {
	return name != "" && len(name) <= maxIdentifier && !strings.ContainsRune(name, 0)
}

// system reports whether a name belongs to PostgreSQL itself or to the admin.
func system(name, admin string) bool {
	return name == "postgres" || strings.HasPrefix(name, "pg_") || name == admin
}

// applicationName is what pg_stat_activity shows for the admin's connections of one credential. A name that is too long ends
// in a hash, so that two credentials never share a name.
func applicationName(ref credential.Ref) string {
	return bounded("rekey " + ref.Namespace + "/" + ref.Name)
}

// verifyName is the application_name of the connections that verify a login.
func verifyName(ref credential.Ref) string {
	return bounded("rekey-verify " + ref.Namespace + "/" + ref.Name)
}

func bounded(name string) string {
	if len(name) <= maxIdentifier {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return name[:maxIdentifier-17] + "~" + hex.EncodeToString(sum[:8])
}

// lockKey returns the advisory lock key of the logins of one username.
func lockKey(username string) int64 {
	sum := sha256.Sum256([]byte("rekey login " + username))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits will do
}

// markerText is the marker on the login of ref.
func markerText(ref credential.Ref) string {
	return fmt.Sprintf("rekey %s seq=%d", ref.Owner(), ref.Seq)
}

// retiredMarkerText is the marker on the login after version ref was retired: that version can never be staged again.
func retiredMarkerText(ref credential.Ref) string { return markerText(ref) + " retired" }

var markForm = regexp.MustCompile(`^rekey ([^\s]+) seq=([1-9][0-9]{0,17})( retired)?$`)

// maxMark limits a marker, in bytes: a UID, a namespace of 63, a name of 253, a number, and the separators.
const maxMark = 512

// maxMarkedSeq is the highest accepted version number. rekey never comes near it, and an attacker who writes a higher one
// would leave no next number.
const maxMarkedSeq = 1 << 40

// parseMarker parses a comment as a marker. Any other comment is not a marker, and a number that no version can have counts as
// none.
func parseMarker(comment string) (owner string, seq int64, retired bool) {
	parts := markForm.FindStringSubmatch(comment)
	if parts == nil || len(comment) > maxMark {
		return "", 0, false
	}
	seq, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return "", 0, false
	}
	if seq > maxMarkedSeq {
		return parts[1], 0, false
	}
	return parts[1], seq, parts[3] != ""
}

// ident quotes a name for a statement.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal quotes a string for a statement. It is safe because standard_conforming_strings is on and the encoding is UTF-8 on
// every connection of the admin; the server refuses a string that is not UTF-8.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
