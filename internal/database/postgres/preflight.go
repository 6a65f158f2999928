// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
)

// facts are what the server reports about itself and about the admin.
type facts struct {
	version                         string
	readOnly, superuser, createRole bool
	quiet, allStats                 bool
	major, number                   int // 15, and 150018
}

const factsQuery = `SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
	pg_catalog.pg_is_in_recovery() OR pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool,
	r.rolsuper, r.rolcreaterole,
	pg_catalog.has_parameter_privilege('log_statement', 'SET') AND pg_catalog.has_parameter_privilege('log_min_error_statement', 'SET')
		AND pg_catalog.has_parameter_privilege('log_min_duration_statement', 'SET')
		AND (pg_catalog.has_parameter_privilege('log_min_duration_sample', 'SET') OR pg_catalog.current_setting('log_min_duration_sample') = '-1')
		AND (pg_catalog.has_parameter_privilege('log_transaction_sample_rate', 'SET') OR pg_catalog.current_setting('log_transaction_sample_rate') = '0'),
	pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user`

// readFacts also refuses servers that cannot be served at all: too old, or read only.
func readFacts(ctx context.Context, conn *pgx.Conn) (facts, error) {
	f := facts{major: version(conn)}
	if f.major < minVersion {
		return f, judgeVersion(f.major * 10000) // before a query that it may not understand
	}
	err := conn.QueryRow(ctx, factsQuery).Scan(&f.version, &f.number, &f.readOnly, &f.superuser, &f.createRole, &f.quiet, &f.allStats)
	if err != nil {
		return f, err
	}
	f.version, _, _ = strings.Cut(f.version, " ") // without the packager's suffix
	if err := judgeVersion(f.number); err != nil {
		return f, err
	}
	if f.readOnly {
		return f, fault.Blocked(fault.ServerReadOnly, errors.New("checking the server: it is a standby, or set to read only: point address at the primary, or reset default_transaction_read_only"))
	}
	return f, nil
}

// lackError lists the statements that grant the admin what it lacks.
type lackError struct{ statements []string }

func (e *lackError) Error() string {
	return "checking the admin's privileges: some are missing: run as a superuser: " + strings.Join(e.statements, "; ")
}

func lacking(statements []string) error {
	if len(statements) == 0 {
		return nil
	}
	return fault.Permanent(fault.PrivilegeMissing, &lackError{statements})
}

// Check implements database.Engine.
func (e *engine) Check(ctx context.Context, on database.Server) (database.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, e.options.CallTimeout)
	defer cancel()
	server, err := newServer(on)
	if err != nil {
		return database.Report{}, err
	}
	to, err := newEndpoint(server, e.options)
	if err != nil {
		return database.Report{}, err
	}
	conn, err := to.connectMaintenance(ctx, "rekey-check", server.Databases...)
	if err != nil {
		return database.Report{}, err
	}
	defer hangUp(ctx, conn)
	f, err := readFacts(ctx, conn)
	if err != nil {
		return database.Report{Version: f.version}, to.statementFault(err, "checking the server")
	}
	report := database.Report{Version: f.version, Notes: notes(server, f)}
	more, statements, err := checkOwners(ctx, conn, f, server)
	if err != nil {
		return report, to.statementFault(err, "checking the allowed owners")
	}
	report.Notes = append(report.Notes, more...)
	slices.Sort(report.Notes)
	return report, lacking(append(f.lacks(server.Admin.Username), statements...))
}

// lacks returns what the admin needs to change any login at all.
func (f facts) lacks(admin string) []string {
	if f.superuser || f.createRole {
		return nil
	}
	return []string{"ALTER ROLE " + ident(admin) + " CREATEROLE"}
}

// notes returns the findings that an operator should know although they block nothing.
func notes(server server, f facts) []string {
	var out []string
	admin := ident(server.Admin.Username)
	switch {
	case f.superuser:
		out = append(out, "The admin is a superuser: a role with CREATEROLE is enough.")
	case f.major < 16:
		out = append(out, "Before PostgreSQL 16, CREATEROLE is nearly a superuser: it may change the password of every role that is not a superuser.")
	}
	if note := untested(f.number); note != "" {
		out = append(out, note)
	}
	if !f.quiet {
		out = append(out, "The server may log SCRAM verifiers: GRANT SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement, log_min_duration_sample, log_transaction_sample_rate TO "+admin+".")
	}
	if !f.allStats {
		out = append(out, "Sessions are shown without their address and start time: GRANT pg_read_all_stats TO "+admin+".")
	}
	switch {
	case server.TLS == database.TLSDisable:
		out = append(out, "Connections are not encrypted: tls.mode is Disable.")
	case server.TLS == database.TLSRequire && len(server.CA) == 0:
		out = append(out, "The server's certificate is not verified: tls.mode is Require.")
	case server.TLS != database.TLSVerifyFull:
		out = append(out, "The name in the server's certificate is not verified: tls.mode is "+string(server.TLS)+".")
	}
	slices.Sort(out)
	return out
}

// Preflight implements credential.Preflighter.
func (s *session) Preflight(ctx context.Context, ref credential.Ref) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := checkNames(s.target); err != nil {
		return err
	}
	err := s.withAdmin(ctx, ref, func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := readFacts(ctx, conn); err != nil {
			return err
		}
		if err := checkOwner(ctx, conn, s.target.Owner); err != nil {
			return err
		}
		if err := s.checkDatabase(ctx, conn); err != nil {
			return err
		}
		if err := s.checkLogins(ctx, conn, ref); err != nil {
			return err
		}
		return s.checkPrivileges(ctx, conn)
	})
	return s.endpoint.statementFault(err, "checking what the credential needs")
}

const ownerQuery = `WITH RECURSIVE above (oid) AS (
	SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = $1
	UNION
	SELECT m.roleid FROM pg_catalog.pg_auth_members m JOIN above ON m.member = above.oid
)
SELECT r.rolname, r.rolsuper, r.rolcreaterole, r.rolreplication, r.rolbypassrls, pg_catalog.starts_with(r.rolname::pg_catalog.text, 'pg_') FROM above JOIN pg_catalog.pg_roles r USING (oid) ORDER BY 1`

// checkOwner refuses an owner that does not exist, or that would let a login do more than use its database. It checks the
// owner and every role that it is a direct or indirect member of. All predefined roles count: each of them reaches beyond
// the data of one database, and later versions add more.
func checkOwner(ctx context.Context, from queryer, owner string) error {
	rows, err := from.Query(ctx, ownerQuery, owner)
	if err != nil {
		return err
	}
	defer rows.Close()
	found := false
	for rows.Next() {
		found = true
		var name string
		flags := make([]bool, 5)
		if err := rows.Scan(&name, &flags[0], &flags[1], &flags[2], &flags[3], &flags[4]); err != nil {
			return err
		}
		for i, what := range []string{"is a superuser", "has CREATEROLE", "has REPLICATION", "has BYPASSRLS", "is a predefined role and reaches beyond one database"} {
			if flags[i] {
				return fault.Permanent(fault.OwnerForbidden, fmt.Errorf("checking owner %q: it is or is a member of role %q, which %s: choose an owner without such rights", owner, name, what))
			}
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if !found {
		return fault.Blocked(fault.OwnerNotFound, fmt.Errorf("checking owner %q: there is no such role: CREATE ROLE %s", owner, ident(owner)))
	}
	return nil
}

func (s *session) checkDatabase(ctx context.Context, conn *pgx.Conn) error {
	database, owner := s.target.Database, s.target.Owner
	var open, admitted bool
	err := conn.QueryRow(ctx, "SELECT datallowconn, pg_catalog.has_database_privilege($2, oid, 'CONNECT') FROM pg_catalog.pg_database WHERE datname = $1", database, owner).Scan(&open, &admitted)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fault.Blocked(fault.DatabaseNotFound, fmt.Errorf("checking database %q: it does not exist: CREATE DATABASE %s", database, ident(database)))
	case err != nil:
		return err
	case !open:
		return fault.Blocked(fault.LoginForbidden, fmt.Errorf("checking database %q: it does not admit connections: ALTER DATABASE %s ALLOW_CONNECTIONS true", database, ident(database)))
	case !admitted:
		return fault.Blocked(fault.LoginForbidden, fmt.Errorf("checking database %q: the owner cannot connect to it: GRANT CONNECT ON DATABASE %s TO %s", database, ident(database), ident(owner)))
	}
	return nil
}

// checkLogins requires that both logins are absent or ours.
func (s *session) checkLogins(ctx context.Context, conn *pgx.Conn, ref credential.Ref) error {
	for _, slot := range []string{slotA, slotB} {
		name := loginName(s.target, slot)
		found, err := readRole(ctx, conn, name)
		if err != nil {
			return err
		}
		if found.superuser {
			return fault.Permanent(fault.UsernameForbidden, fmt.Errorf("checking login %q: it is a superuser: choose another username", name))
		}
		if handed := found.owner != "" && found.owner == credential.Former(ctx); !handed {
			if err := checkMark(found, name, ref); err != nil {
				return err
			}
		}
		if !found.exists && !s.target.Create {
			return fault.Blocked(fault.LoginNotFound, fmt.Errorf("checking login %q: it does not exist, and create is Never: set create to Missing", name))
		}
	}
	return nil
}

// checkPrivileges names what the admin lacks to serve this credential. From PostgreSQL 16 on, CREATEROLE applies only to
// roles on which the admin has the admin option.
func (s *session) checkPrivileges(ctx context.Context, conn *pgx.Conn) error {
	f, err := readFacts(ctx, conn)
	if err != nil {
		return err
	}
	admin := s.endpoint.server.Admin.Username
	statements := f.lacks(admin)
	for _, name := range []string{s.target.Owner, loginName(s.target, slotA), loginName(s.target, slotB)} {
		lack, err := lacksAdminOption(ctx, conn, f, admin, name)
		if err != nil {
			return err
		}
		statements = append(statements, lack...)
	}
	return lacking(statements)
}
