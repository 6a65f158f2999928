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

// Verify implements credential.Source: a login as the application makes it. The answer is Accepted only when the login
// acts as the owner and a wrong password is refused; it is Rejected only when the refusal is final.
func (s *session) Verify(ctx context.Context, ref credential.Ref, given credential.Material) (credential.Answer, error) {
	// Two calls' time: a server may delay each refusal, and a refusal is confirmed by another one.
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

// refusal is why a login cannot do its work: the server's answer, or, if it got in, the role that its session acts as.
type refusal struct {
	failure          *failure
	session, current string
}

// try logs in with the password. It returns nil where the login can do its work, and an error where that was not found out.
func (s *session) try(ctx context.Context, ref credential.Ref, login string, password credential.Sensitive) (*refusal, error) {
	conn, err := s.endpoint.connect(ctx, attempt{
		username: login, database: s.target.Database, application: verifyName(ref), password: password,
		// A role's own statement_timeout may be too short for a question.
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
			"set auth_delay.milliseconds lower there", login, s.endpoint.address(), f.text))
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

// confirmRefusal decides between Rejected and Unknown. Our change whose client died can still commit: so no
// connection of the admin for this credential may be left, and then the login must be refused once more. This is the one
// place where Verify looks through the admin's connection, and it can only turn Rejected into Unknown.
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

// unsettled are the connections of the admin for one credential that are left, other than this one.
type unsettled struct {
	count int
	pid   int32         // of the oldest
	age   time.Duration // of the oldest; zero where the server does not say
}

// unsettledQuery counts what can still change a login: any session may use our application_name, but only the admin's sessions
// can be ours. It asks as the session's own user, which may see all of its sessions.
const unsettledQuery = `SELECT count(*), coalesce((array_agg(pid ORDER BY backend_start))[1], 0), coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - min(backend_start)), 0)::float8
FROM pg_catalog.pg_stat_activity WHERE application_name = $1 AND usename = session_user AND pid <> pg_catalog.pg_backend_pid()`

// longestChange is how long our change can be under way after its client died: the server ends it.
const longestChange = statementTimeout + sessionTimeout

// Our connection that was closed just before is shown a moment longer: the server waits for it to go, this often and this
// long each time, in seconds.
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

// fault asks to wait, or for help if a connection is older than any of our own can become.
func (u unsettled) fault(login, address string) error {
	if u.age > longestChange {
		return fault.Transient(fault.LockTimeout, fmt.Errorf("login %q was refused on %s, but another session of the admin for this credential has been open for more than %s: end it with SELECT pg_terminate_backend(%d)",
			login, address, longestChange, u.pid))
	}
	return fault.Pending(statementTimeout, fmt.Errorf("login %q was refused, but a change of it is still under way on %s: waiting for it to end", login, address))
}
