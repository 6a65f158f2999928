// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

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

// Names in the database, as the samples use them.
const (
	adminRole    = "rekey"
	ownerRole    = "orders_owner"
	databaseName = "orders"
)

// database is the PostgreSQL of the demo.
type database struct {
	*pgtest.Server
	admin credential.Sensitive // password of adminRole
}

// startDatabase starts PostgreSQL on the address and creates what the sample needs: an admin, an owner, a database. Its
// log holds every statement, so no statement carries a password.
func startDatabase(ctx context.Context, listen string) (*database, error) {
	server, err := pgtest.Start(ctx, pgtest.Options{Listen: listen})
	if err != nil {
		return nil, fmt.Errorf("starting PostgreSQL: %w", err)
	}
	d := &database{Server: server}
	if err := d.prepare(ctx); err != nil {
		d.Stop()
		return nil, err
	}
	return d, nil
}

func (d *database) prepare(ctx context.Context) error {
	var err error
	if d.admin, err = password.New(32, password.Alphanumeric); err != nil {
		return fmt.Errorf("generating the admin's password: %w", err)
	}
	verifier, err := scram.Verifier(d.admin)
	if err != nil {
		return fmt.Errorf("generating the admin's password: %w", err)
	}
	if err := d.Exec(ctx, "postgres",
		"CREATE ROLE "+ownerRole+" NOLOGIN",
		"CREATE ROLE "+adminRole+" LOGIN CREATEROLE PASSWORD '"+verifier+"'",
		"GRANT "+ownerRole+" TO "+adminRole+" WITH ADMIN OPTION",
		"CREATE DATABASE "+databaseName+" OWNER "+ownerRole,
	); err != nil {
		return fmt.Errorf("preparing PostgreSQL: %w", err)
	}
	if err := d.Exec(ctx, databaseName,
		"CREATE TABLE calls (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT now())",
		"ALTER TABLE calls OWNER TO "+ownerRole,
	); err != nil {
		return fmt.Errorf("preparing PostgreSQL: %w", err)
	}
	return nil
}

// try logs in as an independent client would, with what a Secret once held. It returns the server's verdict in its own
// words, or an error if the server did not answer.
func try(ctx context.Context, secret map[string][]byte) (accepted bool, words string, err error) {
	config, err := login.Config(secret, "demo-client")
	if err != nil {
		return false, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	var refusal *pgconn.PgError
	switch {
	case errors.As(err, &refusal):
		return false, fmt.Sprintf("%s: %s (SQLSTATE %s)", refusal.Severity, refusal.Message, refusal.Code), nil
	case err != nil:
		return false, "", fmt.Errorf("logging in: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var session string
	if err := conn.QueryRow(ctx, "SELECT session_user").Scan(&session); err != nil {
		return false, "", fmt.Errorf("asking who is logged in: %w", err)
	}
	return true, "session_user is " + session, nil
}
