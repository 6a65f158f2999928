// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/password"
)

// Retire implements credential.Source: it closes the login of ref's slot unless a later version uses it, and records that in
// its marker, so that a Stage of version ref that arrives later is refused. A missing login is skipped.
func (s *session) Retire(ctx context.Context, change credential.Change) error {
	ref := change.Ref
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	login, err := login(s.target, ref)
	if err != nil {
		return err
	}
	doing := fmt.Sprintf("retiring login %q", login)
	closed := false
	err = s.change(ctx, change, doing, func(ctx context.Context, tx pgx.Tx) error {
		closed, err = retire(ctx, tx, ref, login)
		return err
	})
	if err != nil || !closed {
		return s.namePrivilege(ctx, ref, err)
	}
	return s.checkRetired(ctx, ref, login)
}

func retire(ctx context.Context, tx pgx.Tx, ref credential.Ref, login string) (closed bool, err error) {
	before, err := readRole(ctx, tx, login)
	if err != nil || !before.exists {
		return false, err
	}
	if err := ours(before, login, ref); err != nil || before.seq > ref.Seq {
		return false, err
	}
	if err := exec(ctx, tx, "ALTER ROLE "+ident(login)+" NOLOGIN PASSWORD NULL"); err != nil {
		return false, err
	}
	after, err := readRole(ctx, tx, login)
	if err != nil {
		return false, err
	}
	if err := ours(after, login, ref); err != nil {
		return false, err
	}
	if after.seq != before.seq {
		// Another process changed the login in spite of the lock that every rekey takes: roll back and retry.
		return false, fault.Transient(fault.Fenced, fmt.Errorf("retiring login %q: its marker changed meanwhile", login))
	}
	if err := exec(ctx, tx, "COMMENT ON ROLE "+ident(login)+" IS "+literal(retiredMarkerText(ref))); err != nil {
		return false, err
	}
	return true, nil
}

// ours refuses a login without our marker. A login with another owner's marker is that owner's live login.
func ours(r role, login string, ref credential.Ref) error {
	switch {
	case !r.exists || r.owner == ref.Owner():
		return nil
	case r.owner == "":
		return fault.Permanent(fault.Fenced, fmt.Errorf("retiring login %q: it does not carry rekey's marker, so it is left as it is: find out who created it or removed the marker, and close it manually only if it is not in use", login))
	}
	return fault.Permanent(fault.Fenced, fmt.Errorf("retiring login %q: its marker names another owner, %q, so the login stays open, and must not be dropped here", login, r.owner))
}

// checkRetired checks the catalog, and then attempts to log in, unless the spec asks for no failed logins. The password is
// made up and unknown to the server, so that it may be sent by any method.
func (s *session) checkRetired(ctx context.Context, ref credential.Ref, login string) error {
	var now role
	err := s.withAdmin(ctx, ref, func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		now, err = readRole(ctx, conn, login)
		return err
	})
	if err != nil {
		return s.endpoint.statementFault(err, fmt.Sprintf("checking that login %q is closed", login))
	}
	still := fault.Transient(fault.StillAccepted, fmt.Errorf("retiring login %q on %s: the server still accepts it: find out what changes it, or what answers at this address", login, s.endpoint.address()))
	if now.canLogin && now.owner == ref.Owner() && now.seq == ref.Seq {
		return still
	}
	if s.target.Server.NegativeControl == database.ControlAtFirst {
		return nil // the catalog shows it; an attempt would be logged as a failed login
	}
	wrong, err := password.New(32, password.Alphanumeric)
	if err != nil {
		return fmt.Errorf("checking that login %q is closed: %w", login, err)
	}
	conn, err := s.endpoint.connect(ctx, attempt{username: login, database: s.target.Database, application: verifyName(ref), password: wrong, anyMethod: true})
	if err == nil {
		hangUp(ctx, conn)
		return still
	}
	if f := diagnose(err, nil); !f.refused() && !f.barred() {
		return s.clientFault(f, login)
	}
	return nil
}
