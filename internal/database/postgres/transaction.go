// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// maxTries limits how often a transaction is repeated after another one disturbed it ("tuple concurrently updated").
const maxTries = 5

// change runs fn in one transaction of the admin's connection, while no other rekey changes the logins of this username. It
// sets the isolation level explicitly: under a stricter one the marker would be read as of before the wait.
func (s *session) change(ctx context.Context, wanted credential.Change, doing string, fn func(context.Context, pgx.Tx) error) error {
	var err error
	for range maxTries {
		err = s.withAdmin(ctx, wanted.Ref, func(ctx context.Context, conn *pgx.Conn) error { return s.changeOnce(ctx, wanted, conn, fn) })
		if !disturbed(err) {
			break
		}
	}
	return s.endpoint.statementFault(err, doing)
}

func (s *session) changeOnce(ctx context.Context, wanted credential.Change, conn *pgx.Conn, fn func(context.Context, pgx.Tx) error) error {
	// Whether a transaction is sampled for the log is decided when it starts.
	if _, err := conn.Exec(ctx, unsampledStatement); err != nil {
		return err
	}
	return inTransaction(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, quietStatement); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.pg_advisory_xact_lock($1)", lockKey(s.target.Username)); err != nil {
			return err
		}
		// No other rekey changes these logins until this transaction ends or the server aborts it.
		if err := wanted.Confirm(ctx); err != nil {
			return err
		}
		return fn(ctx, tx)
	})
}

// disturbed reports whether another transaction changed the same row of the catalog. The whole transaction was rolled back,
// so it can be repeated.
func disturbed(err error) bool {
	return err != nil && fault.ReasonOf(err, "") == "" && diagnose(err, nil).code == "XX000"
}

func inTransaction(ctx context.Context, conn *pgx.Conn, fn func(pgx.Tx) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		rollback, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = tx.Rollback(rollback) // after an error the connection is dropped, which also rolls back
		return err
	}
	return tx.Commit(ctx)
}

// Settings that keep our statements out of the server's log, and out of pg_stat_statements if it is loaded, until the
// transaction ends: a pooler may give the connection to other clients. The statements contain only verifiers, so rekey continues
// if the server does not allow it to change the settings.
const (
	quietStatement = `SELECT pg_catalog.set_config(name, value, true)
FROM (VALUES ('log_statement', 'none'), ('log_min_error_statement', 'panic'), ('log_min_duration_statement', '-1'),
	('log_min_duration_sample', '-1'), ('pg_stat_statements.track_utility', 'off')) AS quiet (name, value)
WHERE pg_catalog.has_parameter_privilege(name, 'SET')`
	unsampledStatement = `SELECT pg_catalog.set_config(name, '0', false)
FROM (VALUES ('log_transaction_sample_rate')) AS quiet (name)
WHERE pg_catalog.has_parameter_privilege(name, 'SET')`
)

// queryer is a connection or a transaction.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// role is what the catalog records about a login.
type role struct {
	exists    bool
	oid       uint32
	superuser bool
	canLogin  bool
	owner     string // named by the marker
	seq       int64
	retired   bool // version seq was retired
	limit     int  // of connections; -1 is none
	// redirected is true if a setting for the credential's database overrides the role that the login acts as. Stage looks
	// it up.
	redirected bool
}

// marker returns the marker.
func (r role) marker() credential.Marker {
	return credential.Marker{Exists: r.exists, Owner: r.owner, Seq: r.seq, Open: r.canLogin && !r.retired}
}

const roleQuery = `SELECT r.oid, r.rolsuper, r.rolcanlogin, r.rolconnlimit, coalesce(d.description, '')
FROM pg_catalog.pg_roles r
LEFT JOIN pg_catalog.pg_shdescription d ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass
WHERE r.rolname = $1`

func readRole(ctx context.Context, from queryer, name string) (role, error) {
	r := role{exists: true}
	var comment string
	err := from.QueryRow(ctx, roleQuery, name).Scan(&r.oid, &r.superuser, &r.canLogin, &r.limit, &comment)
	if errors.Is(err, pgx.ErrNoRows) {
		return role{}, nil
	}
	if err != nil {
		return role{}, err
	}
	r.owner, r.seq, r.retired = parseMarker(comment)
	return r, nil
}

// checkMark refuses a login that is not ours.
func checkMark(r role, login string, ref credential.Ref) error {
	switch {
	case !r.exists || r.owner == ref.Owner():
		return nil
	case r.owner == "":
		return fault.Permanent(fault.LoginExists, fmt.Errorf("checking login %q: it exists without rekey's marker, so rekey did not create it: choose another username, or drop it", login))
	}
	return fault.Permanent(fault.Fenced, fmt.Errorf("checking login %q: its marker names another owner, %q (cluster/namespace/name): choose another username, or hand the logins over with the annotation rekey.dev/take-over-from if that one is gone", login, r.owner))
}
