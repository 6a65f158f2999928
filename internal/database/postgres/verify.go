// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/password"
)

// Verify implements credential.Source: it logs in as the application does. The answer is Accepted only if the login acts as
// the owner and a wrong password is refused; it is Rejected only if the refusal is final.
func (s *session) Verify(ctx context.Context, ref credential.Ref, given credential.Material) (credential.Answer, error) {
	// Twice the time of a call: a server may delay each refusal, and a refusal is confirmed by a second one.
	ctx, cancel := context.WithTimeout(ctx, 2*s.timeout)
	defer cancel()
	login, err := login(s.target, ref)
	if err != nil {
		return credential.Unknown, err
	}
	if given.String(credential.KeyUsername) != login || given[credential.KeyPassword].IsEmpty() {
		return credential.Unknown, fault.Permanent(fault.LedgerInvalid, fmt.Errorf("verifying login %q: the material is for another login, or has no password", login))
	}
	found, err := s.try(ctx, ref, login, given[credential.KeyPassword])
	if err != nil {
		return credential.Unknown, err
	}
	if found != nil {
		return s.confirmRefusal(ctx, ref, login, given)
	}
	if s.target.Server.NegativeControl == database.ControlAtFirst && !credential.IsFirst(ctx) {
		return credential.Accepted, nil
	}
	if err := s.tryWrong(ctx, ref, login); err != nil {
		return credential.Unknown, err
	}
	return credential.Accepted, nil
}

// refusal is why a login cannot be used: the server's answer, or, if the login succeeded, the role that its session acts as.
type refusal struct {
	failure          *failure
	session, current string
}

// try logs in with the password. It returns nil if the login can be used, and an error if that could not be determined.
func (s *session) try(ctx context.Context, ref credential.Ref, login string, password credential.Sensitive) (*refusal, error) {
	conn, err := s.endpoint.connect(ctx, attempt{
		username: login, database: s.target.Database, application: verifyName(ref), password: password,
		// A role's own statement_timeout may be too short for a query.
		parameters: map[string]string{"client_encoding": "UTF8", "statement_timeout": milliseconds(statementTimeout)},
	})
	if err != nil {
		f := diagnose(err, nil)
		if !f.final() {
			return nil, s.clientFault(f, login)
		}
		return &refusal{failure: f}, nil
	}
	defer hangUp(ctx, conn)
	session, current, err := actingAs(ctx, conn)
	if err != nil {
		return nil, s.clientFault(diagnose(err, nil), login)
	}
	if session != login || current != s.target.Owner {
		return &refusal{session: session, current: current}, nil
	}
	return nil, nil //nolint:nilnil // nil is "nothing was refused"
}

// actingAs returns the session's user and current role. The query contains no function and no cast, so that a search_path of
// the owner has nothing to redirect, and it uses the simple protocol, which every pooler passes on.
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

// tryWrong is the negative control: a made-up password must be refused, or a successful login would prove nothing. It runs
// only once because some servers lock accounts out.
func (s *session) tryWrong(ctx context.Context, ref credential.Ref, login string) error {
	wrong, err := password.New(32, password.Alphanumeric)
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
	case f.kind == failedRefusal:
		return fault.Transient(fault.ServerUnreachable, fmt.Errorf("verifying login %q on %s: the right password was accepted, but a deliberately wrong one was not refused within %s: "+
			"lower auth_delay.milliseconds there", login, s.endpoint.address(), f.text))
	case f.kind == failedImpostor:
		// The server completed the exchange although our proof was wrong. It could not prove itself in turn only because the
		// password is made up.
		return s.notEnforced(login)
	}
	return s.clientFault(f, login)
}

func (s *session) notEnforced(login string) error {
	return fault.Permanent(fault.AuthenticationNotEnforced,
		fmt.Errorf("verifying login %q on %s: a wrong password was accepted too, so a login proves nothing: use scram-sha-256 in pg_hba.conf", login, s.endpoint.address()))
}

// confirmRefusal decides between Rejected and Unknown. Our change can still commit after its client died, so the admin must
// have no connection left for this credential, and then the login must be refused once more. This is the only place where
// Verify uses the admin's connection, and it can only turn Rejected into Unknown.
func (s *session) confirmRefusal(ctx context.Context, ref credential.Ref, login string, given credential.Material) (credential.Answer, error) {
	open, err := s.unsettled(ctx, ref, 0)
	for try := 0; err == nil && open.count > 0 && try < closingTries; try++ {
		open, err = s.unsettled(ctx, ref, closingPause)
	}
	if err != nil {
		return credential.Unknown, fmt.Errorf("login %q was refused, but rekey cannot determine whether a change is still under way: %w", login, err)
	}
	if open.count > 0 {
		return credential.Unknown, open.fault(login, s.endpoint.address())
	}
	found, err := s.try(ctx, ref, login, given[credential.KeyPassword])
	if err != nil || found == nil {
		return credential.Unknown, err
	}
	return s.judge(ctx, ref, login, *found)
}

// unsettled describes the remaining admin connections for one credential, other than this one.
type unsettled struct {
	count int
	pid   int32         // of the oldest
	age   time.Duration // of the oldest; zero if the server does not report it
}

// unsettledQuery counts the sessions that can still change a login: any session may use our application_name, but only the
// admin's sessions can be ours. It filters by the session's own user, which may see all of its own sessions.
const unsettledQuery = `SELECT count(*), coalesce((array_agg(pid ORDER BY backend_start))[1], 0), coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - min(backend_start)), 0)::float8
FROM pg_catalog.pg_stat_activity WHERE application_name = $1 AND usename = session_user AND pid <> pg_catalog.pg_backend_pid()`

// longestChange is how long our change can keep running after its client died: then the server terminates it.
const longestChange = statementTimeout + sessionTimeout

// The server shows our own connection for a moment after it was closed. The query polls for it to disappear, this often and
// this long each time, in seconds.
const (
	closingTries = 3
	closingPause = 0.2
)

func (s *session) unsettled(ctx context.Context, ref credential.Ref, pause float64) (unsettled, error) {
	var left unsettled
	err := s.withAdmin(ctx, ref, func(ctx context.Context, conn *pgx.Conn) error {
		return inTransaction(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL ROLE NONE"); err != nil {
				return err
			}
			if pause > 0 {
				if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_sleep($1)", pause); err != nil {
					return err
				}
			}
			var seconds float64
			err := tx.QueryRow(ctx, unsettledQuery, applicationName(ref)).Scan(&left.count, &left.pid, &seconds)
			left.age = time.Duration(seconds * float64(time.Second))
			return err
		})
	})
	return left, s.endpoint.statementFault(err, "looking for changes under way")
}

// fault asks to wait, or for help if a connection is older than our own can become.
func (u unsettled) fault(login, address string) error {
	if u.age > longestChange {
		return fault.Transient(fault.LockTimeout, fmt.Errorf("login %q was refused on %s, but another session of the admin for this credential has been open for more than %s: end it with SELECT pg_terminate_backend(%d)",
			login, address, longestChange, u.pid))
	}
	return fault.Pending(statementTimeout, fmt.Errorf("login %q was refused, but a change of it is still under way on %s: waiting for it to end", login, address))
}
