// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/password"
	"github.com/rekey/rekey/test/workload/login"
)

// What config/samples expects of its database.
const (
	adminRole    = "rekey"
	ownerRole    = "orders_owner"
	databaseName = "orders"
	databaseHost = "orders-db.rekey-samples" // A Service that leads to our server.
)

// database is a PostgreSQL on this machine that pods reach too.
type database struct {
	*pgtest.Server
	admin credential.Sensitive // The password of adminRole.
}

// startDatabase follows the sample's instructions to the owner of a database. The server's log holds every statement, so no
// statement contains a password.
func (e *environment) startDatabase(ctx context.Context) error {
	server, err := pgtest.Start(ctx, pgtest.Options{Version: 18, Listen: e.cluster.state["HOST_IP"], Names: []string{databaseHost}})
	if err != nil {
		return err
	}
	e.database = &database{Server: server}
	if e.database.admin, err = password.New(32, password.Alphanumeric); err != nil {
		return err
	}
	verifier, err := scram.Verifier(e.database.admin)
	if err != nil {
		return err
	}
	err = server.Exec(ctx, "postgres",
		"CREATE ROLE "+ownerRole+" NOLOGIN",
		"CREATE DATABASE "+databaseName+" OWNER "+ownerRole,
		"CREATE ROLE "+adminRole+" LOGIN CREATEROLE PASSWORD '"+verifier+"'",
		"GRANT "+ownerRole+" TO "+adminRole+" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
	)
	if err != nil {
		return err
	}
	return server.Exec(ctx, databaseName,
		"CREATE TABLE calls (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT now())",
		"ALTER TABLE calls OWNER TO "+ownerRole,
	)
}

// errRefused means that the server itself refused a login.
var errRefused = errors.New("the server refused the login")

// logIn logs in once with the contents of a Secret: a new connection, no retry. It returns the session's user.
func (d *database) logIn(ctx context.Context, secret map[string][]byte) (string, error) {
	config, err := login.Config(secret, "e2e")
	if err != nil {
		return "", err
	}
	// Service names resolve in the cluster only; the certificate is verified for the name anyway.
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{d.Host}, nil }
	config.Port = uint16(d.Port)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return "", fmt.Errorf("%w %s: %s (SQLSTATE %s)", errRefused, config.User, said.Message, said.Code)
	}
	if err != nil {
		return "", fmt.Errorf("logging in as %s: %w", config.User, err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var session, current string
	if err := conn.QueryRow(ctx, "INSERT INTO calls DEFAULT VALUES RETURNING session_user, current_user").Scan(&session, &current); err != nil {
		return "", fmt.Errorf("running a statement as %s: %w", config.User, err)
	}
	if session != string(secret["username"]) || current != ownerRole {
		return "", fmt.Errorf("session_user is %s, current_user %s; the Secret has %s and the owner is %s", session, current, secret["username"], ownerRole)
	}
	return session, nil
}

// logins returns the roles with the prefix, sorted.
func (d *database) logins(t *testing.T, prefix string) []string {
	t.Helper()
	conn, err := d.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), "SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)", prefix)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}
