// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/password"
	"github.com/rekey/rekey/test/workload/login"
)

const (
	admin = "rekey"
	owner = "crash_owner"
	// guests owns the objects that guests leave behind. On PostgreSQL 15 the admin is not a member of it, and becomes one
	// briefly to reassign objects.
	guests       = "crash_guests"
	databaseName = "crash"
	anything     = "crash_*"
)

// database is a PostgreSQL server with the roles and databases that rekey needs.
type database struct {
	*pgtest.Server
	password credential.Sensitive // the admin's
}

func startDatabase(ctx context.Context, version int) (*database, error) {
	server, err := pgtest.Start(ctx, pgtest.Options{Version: version, Settings: map[string]string{
		"log_connections": "off", "log_disconnections": "off", "max_connections": "100",
	}})
	if err != nil {
		return nil, err
	}
	d := &database{Server: server}
	if d.password, err = password.New(32, password.Alphanumeric); err != nil {
		return d, err
	}
	verifier, err := scram.Verifier(d.password)
	if err != nil {
		return d, err
	}
	grant := "GRANT " + owner + " TO " + admin + " WITH ADMIN OPTION"
	if version >= 16 {
		grant = "GRANT " + owner + ", " + guests + " TO " + admin + " WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"
	}
	if err := d.Exec(ctx, "postgres", "CREATE ROLE "+owner+" NOLOGIN", "CREATE ROLE "+guests+" NOLOGIN",
		"CREATE ROLE "+admin+" LOGIN CREATEROLE PASSWORD '"+verifier+"'", grant, "CREATE DATABASE "+databaseName+" OWNER "+owner); err != nil {
		return d, err
	}
	return d, d.Exec(ctx, databaseName, "GRANT CREATE ON SCHEMA public TO "+guests)
}

// errRefused means that the server itself rejected the login.
var errRefused = errors.New("refused")

// session logs in with the credential in a Secret, over a new connection and without retries.
func session(ctx context.Context, secret map[string][]byte) (*pgx.Conn, error) {
	config, err := login.Config(secret, "crash")
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return nil, fmt.Errorf("%w: %s (SQLSTATE %s)", errRefused, said.Message, said.Code)
	}
	return conn, err
}

// logIn logs in with the credential in a Secret, and verifies that the session acts as the owner.
func logIn(ctx context.Context, secret map[string][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := session(ctx, secret)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var who, acting string
	if err := conn.QueryRow(ctx, "SELECT session_user, current_user").Scan(&who, &acting); err != nil {
		return err
	}
	if who != string(secret["username"]) || acting != owner {
		return fmt.Errorf("the session user is %s and the current user is %s; the Secret names %s and the owner is %s", who, acting, secret["username"], owner)
	}
	return nil
}

// role is a login with its marker.
type role struct {
	name, mark string
	canLogIn   bool
}

// roles returns all roles except PostgreSQL's own and those of this test.
func (d *database) roles(ctx context.Context) ([]role, error) {
	conn, err := d.Connect(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT rolname, coalesce(shobj_description(oid, 'pg_authid'), ''), rolcanlogin FROM pg_roles "+
		"WHERE NOT starts_with(rolname, 'pg_') AND rolname NOT IN ('"+pgtest.Superuser+"', '"+admin+"', '"+owner+"', '"+guests+"') ORDER BY 1")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (role, error) {
		var r role
		err := row.Scan(&r.name, &r.mark, &r.canLogIn)
		return r, err
	})
}
