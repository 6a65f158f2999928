// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/material"
)

// Verify implements credential.Source: a login as the application makes it. The answer is Accepted only when the login
// acts as the owner and a wrong password is refused; it is Rejected only when the refusal is final.
func (s *session) Verify(ctx context.Context, ref credential.Ref, given credential.Material) (credential.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	login, err := login(s.target, ref)
	if err != nil {
		return credential.Unknown, err
	}
	if given.String(credential.KeyUsername) != login || given[credential.KeyPassword].IsEmpty() {
		return credential.Unknown, fault.Permanent(fault.LedgerInvalid, fmt.Errorf("verifying login %q: the material is for another login, or has no password", login))
	}
	refused, err := s.try(ctx, ref, login, given[credential.KeyPassword])
	if err != nil {
		return credential.Unknown, err
	}
	if refused {
		return s.confirmRefusal(ctx, ref, login, given)
	}
	if err := s.tryWrong(ctx, ref, login); err != nil {
		return credential.Unknown, err
	}
	return credential.Accepted, nil
}

// try logs in with the password, and tells whether exactly that was refused.
func (s *session) try(ctx context.Context, ref credential.Ref, login string, password credential.Sensitive) (refused bool, err error) {
	conn, err := s.endpoint.connect(ctx, attempt{
		username: login, database: s.target.Database, application: verifyName(ref), password: password, parameters: map[string]string{"client_encoding": "UTF8"},
	})
	if err != nil {
		if f := diagnose(err, nil); !f.refused() {
			return false, s.clientFault(f, login)
		}
		return true, nil
	}
	defer hangUp(ctx, conn)
	session, current, err := actingAs(ctx, conn)
	if err != nil {
		return false, s.clientFault(diagnose(err, nil), login)
	}
	if session != login || current != s.target.Owner {
		return false, fault.Permanent(fault.LoginForbidden,
			fmt.Errorf("logging in to %s as %q: the session is of %q and acts as %q, where it must act as %q: look for a setting of role: ALTER ROLE %s IN DATABASE %s RESET role",
				s.endpoint.address(), login, session, current, s.target.Owner, ident(login), ident(s.target.Database)))
	}
	return false, nil
}

// actingAs asks who the session is. There is no function and no cast in the question, so that a search_path of the owner
// has nothing to redirect, and it goes by the simple protocol, which every pooler passes on.
func actingAs(ctx context.Context, conn *pgx.Conn) (session, current string, err error) {
	results, err := conn.PgConn().Exec(ctx, "SELECT session_user, current_user").ReadAll()
	if err != nil {
		return "", "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 2 {
		return "", "", &failure{kind: failedNetwork}
	}
	row := results[0].Rows[0]
	return string(row[0]), string(row[1]), nil
}

// tryWrong is the negative control: a password that nobody knows must be refused, or a login would prove nothing. It is
// tried once, for the sake of servers that lock out.
func (s *session) tryWrong(ctx context.Context, ref credential.Ref, login string) error {
	wrong, err := material.Password(32, material.Alphanumeric)
	if err != nil {
		return fmt.Errorf("verifying login %q: %w", login, err)
	}
	conn, err := s.endpoint.connect(ctx, attempt{username: login, database: s.target.Database, application: verifyName(ref), password: wrong})
	if err == nil {
		hangUp(ctx, conn)
		return s.notEnforced(login)
	}
	f := diagnose(err, nil)
	switch {
	case f.refused():
		return nil
	case f.kind == failedImpostor:
		// It went on to the end with a wrong proof; that it could not prove itself in turn is because nobody knows this password.
		return s.notEnforced(login)
	}
	return s.clientFault(f, login)
}

func (s *session) notEnforced(login string) error {
	return fault.Permanent(fault.AuthenticationNotEnforced,
		fmt.Errorf("verifying login %q on %s: a wrong password was accepted too, so that a login proves nothing: use scram-sha-256 in pg_hba.conf", login, s.endpoint.address()))
}

// confirmRefusal decides between Rejected and Unknown. A change of ours whose client died can still come true: so no
// connection of the admin for this credential may be left, and then the login must be refused once more. This is the one
// place where Verify looks through the admin's connection, and it can only turn Rejected into Unknown.
func (s *session) confirmRefusal(ctx context.Context, ref credential.Ref, login string, given credential.Material) (credential.Answer, error) {
	settled, err := s.settled(ctx, ref)
	if err != nil {
		return credential.Unknown, fmt.Errorf("login %q was refused, but whether a change is still under way cannot be told: %w", login, err)
	}
	if !settled {
		return credential.Unknown, fault.Pending(statementTimeout, fmt.Errorf("login %q was refused, but a change of it is still under way on %s: waiting for it to end", login, s.endpoint.address()))
	}
	refused, err := s.try(ctx, ref, login, given[credential.KeyPassword])
	if err != nil || !refused {
		return credential.Unknown, err
	}
	return credential.Rejected, nil
}

// settled tells whether no other connection of the admin for this credential is left.
func (s *session) settled(ctx context.Context, ref credential.Ref) (bool, error) {
	var left int
	err := s.withAdmin(ctx, ref, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT count(*) FROM pg_catalog.pg_stat_activity
WHERE application_name = $1 AND pid <> pg_catalog.pg_backend_pid()`, applicationName(ref)).Scan(&left)
	})
	return left == 0, s.endpoint.statementFault(err, "looking for changes under way")
}
