// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// Remove implements credential.Remover: it drops the login of ref's slot if it carries our marker, whatever the version. The
// login normally owns nothing, because it acts as the owner; what it does own in the credential's database goes to the
// owner. Open sessions stay open.
func (s *session) Remove(ctx context.Context, change credential.Change) error {
	ref := change.Ref
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	login, err := login(s.target, ref)
	if err != nil {
		return err
	}
	doing := fmt.Sprintf("dropping login %q", login)
	err = s.change(ctx, change, doing, func(ctx context.Context, tx pgx.Tx) error {
		found, err := readRole(ctx, tx, login)
		if err != nil || !found.exists || found.owner != ref.Owner() {
			return err
		}
		holds, err := dependents(ctx, tx, found)
		if err != nil {
			return err
		}
		if len(holds) == 0 {
			return exec(ctx, tx, "DROP ROLE "+ident(login))
		}
		if err := s.judgeDependents(login, holds); err != nil {
			return err
		}
		return s.endpoint.statementFault(s.dropWithObjects(ctx, ref, login), doing)
	})
	return s.namePrivilege(ctx, ref, err)
}

// dependents counts the objects that prevent a login from being dropped, by database; "" stands for objects of the whole
// server.
func dependents(ctx context.Context, from queryer, found role) (map[string]int, error) {
	rows, err := from.Query(ctx, `SELECT coalesce(d.datname, ''), count(*) FROM pg_catalog.pg_shdepend s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid
WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = $1 GROUP BY 1`, found.oid)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	holds := map[string]int{}
	for rows.Next() {
		var database string
		var count int
		if err := rows.Scan(&database, &count); err != nil {
			return nil, err
		}
		holds[database] = count
	}
	return holds, rows.Err()
}

func (s *session) judgeDependents(login string, holds map[string]int) error {
	var elsewhere []string
	for database, count := range holds {
		if database != s.target.Database && database != "" {
			elsewhere = append(elsewhere, fmt.Sprintf("%d in database %q", count, database))
		}
	}
	if len(elsewhere) == 0 {
		return nil
	}
	return fault.Permanent(fault.RemoteFailed, fmt.Errorf("dropping login %q: objects depend on it, %s: in that database, run REASSIGN OWNED BY %s TO %s and DROP OWNED BY %s",
		login, strings.Join(elsewhere, ", "), ident(login), ident(s.target.Owner), ident(login)))
}

// dropWithObjects reassigns what the login owns to the owner and drops it, in one transaction in the credential's database.
// The caller's transaction still holds the lock; it has not changed the login.
func (s *session) dropWithObjects(ctx context.Context, ref credential.Ref, login string) error {
	conn, err := s.endpoint.connectAdmin(ctx, s.target.Database, applicationName(ref))
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	name, owner, admin := ident(login), ident(s.target.Owner), ident(s.endpoint.server.Admin.Username)
	err = inTransaction(ctx, conn, func(tx pgx.Tx) error {
		member, err := actsAs(ctx, tx, s.target.Owner)
		if err != nil {
			return err
		}
		// Reassigning objects requires the privileges of both roles. The admin has them in this transaction only: the
		// membership in the login disappears with the login.
		statements := []string{"GRANT " + name + " TO " + admin}
		if !member {
			statements = append(statements, "GRANT "+owner+" TO "+admin)
		}
		statements = append(statements, "REASSIGN OWNED BY "+name+" TO "+owner, "DROP OWNED BY "+name, "DROP ROLE "+name)
		if !member {
			statements = append(statements, s.revoke(tx))
		}
		return exec(ctx, tx, statements...)
	})
	if f := diagnose(err, nil); err != nil && fault.ReasonOf(err, "") == "" && f.kind == failedServer && (f.code == "42501" || f.code == "2BP01") {
		return fault.Permanent(fault.PrivilegeMissing, fmt.Errorf("dropping login %q: objects in database %q depend on it, and the admin may not give them away (SQLSTATE %s): as a superuser in that database, run REASSIGN OWNED BY %s TO %s and DROP OWNED BY %s",
			login, s.target.Database, f.code, name, owner, name))
	}
	return err
}

// revoke returns the statement that removes the membership in the owner; an admin option granted before stays.
func (s *session) revoke(tx pgx.Tx) string {
	owner, admin := ident(s.target.Owner), ident(s.endpoint.server.Admin.Username)
	if version(tx.Conn()) >= 16 {
		return "REVOKE " + owner + " FROM " + admin + " GRANTED BY " + admin
	}
	return "REVOKE " + owner + " FROM " + admin
}

// actsAs reports whether the admin has the privileges of a role.
func actsAs(ctx context.Context, from queryer, name string) (bool, error) {
	var has bool
	err := from.QueryRow(ctx, "SELECT pg_catalog.pg_has_role($1, 'USAGE')", name).Scan(&has)
	return has, err
}
