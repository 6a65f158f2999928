// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/fault"
)

// Stage implements credential.Source: when it returns, the login of ref's slot exists, acts as the owner, has the proposed
// password, and carries our marker. The proposed material must hold username, password and verifier.
func (s *session) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	ref, proposed := change.Ref, change.Material
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	login, err := allowedLogin(s.target, ref)
	if err != nil {
		return credential.Staged{}, err
	}
	if err := checkProposed(login, proposed); err != nil {
		return credential.Staged{}, err
	}
	doing := fmt.Sprintf("staging login %q", login)
	err = s.change(ctx, change, doing, func(ctx context.Context, tx pgx.Tx) error {
		return s.stage(ctx, tx, ref, login, proposed.String(credential.KeyVerifier))
	})
	if err != nil {
		return credential.Staged{}, s.namePrivilege(ctx, ref, err)
	}
	return credential.Staged{Material: proposed.Clone()}, nil
}

func checkProposed(login string, proposed credential.Material) error {
	switch {
	case proposed.String(credential.KeyUsername) != login:
		return fault.Permanent(fault.LedgerInvalid, fmt.Errorf("staging login %q: the material is for another login", login))
	case proposed[credential.KeyPassword].IsEmpty():
		return fault.Permanent(fault.LedgerInvalid, fmt.Errorf("staging login %q: the material has no password", login))
	case !scram.IsVerifier(proposed.String(credential.KeyVerifier)):
		// The server would silently accept it as the password itself.
		return fault.Permanent(fault.LedgerInvalid, fmt.Errorf("staging login %q: the material has no well-formed SCRAM-SHA-256 verifier", login))
	}
	return nil
}

// stage first alters the login and then reads the marker: the change makes every other transaction on this login wait or
// fail, so that the marker cannot change between reading and committing.
func (s *session) stage(ctx context.Context, tx pgx.Tx, ref credential.Ref, login, verifier string) error {
	if err := checkOwner(ctx, tx, s.target.Owner); err != nil {
		return err
	}
	if err := s.checkSiblings(ctx, tx, ref); err != nil {
		return err
	}
	before, err := readRole(ctx, tx, login)
	if err != nil {
		return err
	}
	if before.exists {
		if before.redirected, err = isRedirected(ctx, tx, login, s.target.Database); err != nil {
			return err
		}
	}
	// An early check, so that nothing is attempted on another owner's login. The second check decides.
	if err := fence(before, login, ref); err != nil {
		return err
	}
	if err := s.alter(ctx, tx, before, login, verifier); err != nil {
		return err
	}
	after, err := readRole(ctx, tx, login)
	if err != nil {
		return err
	}
	if before.exists { // a login created by this transaction has no marker yet
		if err := fence(after, login, ref); err != nil {
			return err
		}
	}
	return exec(ctx, tx, "COMMENT ON ROLE "+ident(login)+" IS "+literal(markerText(ref)))
}

// fence refuses a login that is not ours, that carries a later version, or on which this version was already retired.
func fence(r role, login string, ref credential.Ref) error {
	if err := checkMark(r, login, ref); err != nil {
		return err
	}
	if r.seq == ref.Seq && r.retired {
		return fault.Permanent(fault.Fenced, fmt.Errorf("checking login %q: version %d was retired there already: another rekey, or a restored cluster, is ahead", login, ref.Seq))
	}
	if r.seq > ref.Seq {
		return fault.Permanent(fault.Fenced, fmt.Errorf("checking login %q: it carries version %d already, and this is version %d: another rekey, or a restored cluster, is ahead", login, r.seq, ref.Seq))
	}
	return nil
}

func (s *session) alter(ctx context.Context, tx pgx.Tx, before role, login, verifier string) error {
	name, owner := ident(login), ident(s.target.Owner)
	if !before.exists {
		if !s.target.Create {
			return fault.Blocked(fault.LoginNotFound, fmt.Errorf("checking login %q: it does not exist, and create is Never: set create to Missing", login))
		}
		if err := exec(ctx, tx, "CREATE ROLE "+name); err != nil {
			return err
		}
	}
	member, err := isMember(ctx, tx, version(tx.Conn()), s.target.Owner, login)
	if err != nil {
		return err
	}
	var statements []string
	if !member {
		statements = append(statements, "GRANT "+owner+" TO "+name+s.grantOptions(tx))
	}
	// A VALID UNTIL in the past would keep blocking the login, because PASSWORD alone does not reset it. A connection limit
	// of 0 would not admit any client either; any other limit is an administrator's decision.
	options := " LOGIN PASSWORD " + literal(verifier) + " VALID UNTIL 'infinity'"
	if before.exists && before.limit == 0 {
		options += " CONNECTION LIMIT -1"
	}
	statements = append(statements, "ALTER ROLE "+name+options, "ALTER ROLE "+name+" SET role = "+literal(s.target.Owner))
	if before.exists && before.redirected {
		statements = append(statements, "ALTER ROLE "+name+" IN DATABASE "+ident(s.target.Database)+" RESET role")
	}
	return exec(ctx, tx, statements...)
}

// isMember reports whether the login is a member of the owner, with every option of a membership.
func isMember(ctx context.Context, from queryer, major int, owner, login string) (bool, error) {
	options := ""
	if major >= 16 {
		options = " AND m.set_option AND m.inherit_option"
	}
	var member bool
	err := from.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles o ON o.oid = m.roleid
JOIN pg_catalog.pg_roles l ON l.oid = m.member WHERE o.rolname = $1 AND l.rolname = $2`+options+`)`, owner, login).Scan(&member)
	return member, err
}

// isRedirected reports whether a setting for this one database overrides the role that the login acts as.
func isRedirected(ctx context.Context, from queryer, login, database string) (bool, error) {
	var found bool
	err := from.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles r, pg_catalog.pg_database d WHERE r.rolname = $1 AND d.datname = $2 AND `+roleSetting+`d.oid) IS NOT NULL)`,
		login, database).Scan(&found)
	return found, err
}

func (s *session) grantOptions(tx pgx.Tx) string {
	if version(tx.Conn()) >= 16 {
		return " WITH SET TRUE, INHERIT TRUE"
	}
	return ""
}

func exec(ctx context.Context, tx pgx.Tx, statements ...string) error {
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return nil
}

// version returns the server's major version; 0 if it does not report it.
func version(conn *pgx.Conn) int {
	major := 0
	for _, c := range conn.PgConn().ParameterStatus("server_version") {
		if c < '0' || c > '9' {
			break
		}
		major = major*10 + int(c-'0')
	}
	return major
}

// namePrivilege names the missing privilege in an error that reports one, if it can be found out. It returns any other error,
// and nil, unchanged.
func (s *session) namePrivilege(ctx context.Context, ref credential.Ref, cause error) error {
	if fault.ReasonOf(cause, "") != fault.PrivilegeMissing {
		return cause
	}
	err := s.withAdmin(ctx, ref, func(ctx context.Context, conn *pgx.Conn) error {
		return s.checkPrivileges(ctx, conn)
	})
	if _, ok := errors.AsType[*lackError](err); ok {
		return err
	}
	return cause
}
