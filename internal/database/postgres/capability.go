// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// capability is what the catalog records about a login, and about the database that it is for.
type capability struct {
	canLogin, member bool
	limit, sessions  int    // of the login's connections; -1 means no limit
	actsAs           string // the role setting that applies in the database; empty if none
	actsAsHere       bool   // set for this database
	database         bool   // the database exists
	open, connect    bool   // it admits connections, and those of this login
	room, inUse      int    // of connections to the database
}

// roleSetting selects the role that a login acts as by its own settings: everywhere (database 0), or in one database.
const roleSetting = `(SELECT pg_catalog.substr(c.setting, 6) FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) AS c (setting)
	WHERE s.setrole = r.oid AND pg_catalog.starts_with(c.setting, 'role=') AND s.setdatabase = `

const capabilityQuery = `SELECT r.rolcanlogin, r.rolconnlimit, (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid = r.oid),
	coalesce(` + roleSetting + `d.oid), ` + roleSetting + `0), ''), ` + roleSetting + `d.oid) IS NOT NULL,
	d.oid IS NOT NULL, coalesce(d.datallowconn, false), coalesce(pg_catalog.has_database_privilege(r.oid, d.oid, 'CONNECT'), false),
	coalesce(d.datconnlimit, -1), (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid = d.oid)
FROM pg_catalog.pg_roles r LEFT JOIN pg_catalog.pg_database d ON d.datname = $2 WHERE r.rolname = $1`

func readCapability(ctx context.Context, conn *pgx.Conn, login, owner, database string) (capability, error) {
	var c capability
	err := conn.QueryRow(ctx, capabilityQuery, login, database).Scan(&c.canLogin, &c.limit, &c.sessions, &c.actsAs, &c.actsAsHere,
		&c.database, &c.open, &c.connect, &c.room, &c.inUse)
	if err != nil {
		return c, err
	}
	c.member, err = isMember(ctx, conn, version(conn), owner, login)
	return c, err
}

// lost returns what was taken from the login, and the statements that restore it; empty if the login has all that Stage
// grants.
func (c capability) lost(login, owner, database string) string {
	var out []string
	name := ident(login)
	if !c.canLogin {
		out = append(out, "it has NOLOGIN (ALTER ROLE "+name+" LOGIN)")
	}
	if c.limit == 0 {
		out = append(out, "its connection limit is 0 (ALTER ROLE "+name+" CONNECTION LIMIT -1)")
	}
	if !c.member {
		out = append(out, fmt.Sprintf("it is not a member of %q (GRANT %s TO %s)", owner, ident(owner), name))
	}
	switch {
	case c.actsAs == owner:
	case c.actsAsHere:
		out = append(out, fmt.Sprintf("a setting makes it act as %q (ALTER ROLE %s IN DATABASE %s RESET role)", c.actsAs, name, ident(database)))
	default:
		out = append(out, fmt.Sprintf("no setting makes it act as its owner (ALTER ROLE %s SET role = %s)", name, literal(owner)))
	}
	return strings.Join(out, "; ")
}

// barred returns why no client can use the database as this login, if Stage does not fix the cause; nil otherwise.
func (c capability) barred(login, owner, database string) error {
	name := ident(database)
	switch {
	case !c.database:
		return fault.Blocked(fault.DatabaseNotFound, fmt.Errorf("database %q does not exist: CREATE DATABASE %s", database, name))
	case c.room == -2:
		return fault.Blocked(fault.DatabaseNotFound, fmt.Errorf("database %q is invalid, because dropping it was interrupted: drop it, and CREATE DATABASE %s", database, name))
	case !c.open:
		return fault.Blocked(fault.LoginForbidden, fmt.Errorf("database %q does not admit connections: ALTER DATABASE %s ALLOW_CONNECTIONS true", database, name))
	case c.room == 0:
		return fault.Blocked(fault.LoginForbidden, fmt.Errorf("the connection limit of database %q is 0: ALTER DATABASE %s CONNECTION LIMIT -1", database, name))
	case !c.connect:
		return fault.Blocked(fault.LoginForbidden, fmt.Errorf("login %q cannot connect to database %q: GRANT CONNECT ON DATABASE %s TO %s", login, database, name, ident(owner)))
	}
	return nil
}

// crowded returns which connection limit is exhausted, from the catalog or else from the way the login was refused.
func (c capability) crowded(refused *failure, login, database string) error {
	text := refused.crowded(login, database)
	switch {
	case c.limit > 0 && c.sessions >= c.limit:
		text = fmt.Sprintf("all %d connections that login %q may have are in use: ALTER ROLE %s CONNECTION LIMIT -1 (SQLSTATE 53300)", c.limit, login, ident(login))
	case c.room > 0 && c.inUse >= c.room:
		text = fmt.Sprintf("all %d connections that database %q admits are in use: ALTER DATABASE %s CONNECTION LIMIT -1 (SQLSTATE 53300)", c.room, database, ident(database))
	}
	return fault.Transient(fault.ServerNotReady, errors.New(text))
}

// judge decides what a confirmed refusal means. A refused password is Rejected. So is a login that lacks what Stage grants:
// the error is transient, and staging the version again fixes it. A login that cannot work for a reason that Stage does not
// fix is Rejected with an error that names who must do what. Any other cause, such as a line in pg_hba.conf for our address,
// or all connections in use, proves nothing about the login.
func (s *session) judge(ctx context.Context, ref credential.Ref, login string, found refusal) (credential.Answer, error) {
	if found.failure != nil && found.failure.refused() {
		return credential.Rejected, nil
	}
	owner, database, doing := s.target.Owner, s.target.Database, s.loggingIn(login)
	var c capability
	var unsupported error
	err := s.withAdmin(ctx, ref, func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		if c, err = readCapability(ctx, conn, login, owner, database); err != nil {
			return err
		}
		unsupported = checkVersion(ctx, conn)
		if fault.ReasonOf(unsupported, "") == "" {
			return unsupported
		}
		return nil
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return credential.Rejected, fault.Transient(fault.LoginForbidden, fmt.Errorf("%s: there is no such login", doing))
	case err != nil:
		return credential.Unknown, s.endpoint.statementFault(err, fmt.Sprintf("looking up what login %q lacks", login))
	}
	if lost := c.lost(login, owner, database); lost != "" {
		return credential.Rejected, fault.Transient(fault.LoginForbidden, fmt.Errorf("%s: it cannot do its work: %s", doing, lost))
	}
	if err := c.barred(login, owner, database); err != nil {
		return credential.Rejected, fmt.Errorf("%s: %w", doing, err)
	}
	switch {
	case found.failure == nil && unsupported != nil:
		return credential.Rejected, unsupported
	case found.failure == nil:
		return credential.Rejected, fault.Permanent(fault.LoginForbidden, fmt.Errorf("%s: the session belongs to %q and acts as %q instead of %q: look for what changes the role at login, such as a pooler or an event trigger ON login",
			doing, found.session, found.current, owner))
	case found.failure.code == "53300":
		return credential.Unknown, fmt.Errorf("%s: %w", doing, c.crowded(found.failure, login, database))
	}
	return credential.Unknown, s.clientFault(found.failure, login)
}
