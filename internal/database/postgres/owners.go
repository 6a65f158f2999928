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

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/wildcard"
)

const (
	// maxOwnersLooked limits how many roles that match a pattern are checked, and maxOwnersNamed how many a note names.
	maxOwnersLooked = 200
	maxOwnersNamed  = 5
)

// checkOwners checks the allowed owners in the catalog. An owner listed by name must be harmless and, from PostgreSQL 16 on,
// the admin must be able to grant it. Harmful roles that match a pattern are only noted: credentials that name them are
// refused.
func checkOwners(ctx context.Context, conn *pgx.Conn, f facts, server server) (notes, statements []string, err error) {
	for _, pattern := range server.AllowedOwners {
		if strings.Contains(pattern, "*") {
			continue
		}
		switch err := checkOwner(ctx, conn, pattern); {
		case fault.ReasonOf(err, "") == fault.OwnerNotFound:
			notes = append(notes, fmt.Sprintf("Owner %q is allowed, but does not exist: CREATE ROLE %s NOLOGIN.", pattern, ident(pattern)))
			continue
		case err != nil:
			return nil, nil, err
		}
		lack, err := lacksAdminOption(ctx, conn, f, server.Admin.Username, pattern)
		if err != nil {
			return nil, nil, err
		}
		statements = append(statements, lack...)
	}
	harmful, err := harmfulOwners(ctx, conn, server)
	if err != nil {
		return nil, nil, err
	}
	if len(harmful) > 0 {
		notes = append(notes, "These roles match allowedOwners, but are refused because they are too powerful: "+strings.Join(harmful, ", ")+".")
	}
	return notes, statements, nil
}

// lacksAdminOption returns the statement that allows the admin to grant the role, if it cannot grant it yet.
func lacksAdminOption(ctx context.Context, conn *pgx.Conn, f facts, admin, name string) ([]string, error) {
	if f.major < 16 || f.superuser {
		return nil, nil
	}
	var may bool
	err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') FROM pg_catalog.pg_roles WHERE rolname = $1", name).Scan(&may)
	if errors.Is(err, pgx.ErrNoRows) || may {
		return nil, nil // the admin has the option on what it creates
	}
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("GRANT %s TO %s WITH ADMIN TRUE, INHERIT FALSE, SET FALSE", ident(name), ident(admin))}, nil
}

// harmfulOwners names some of the roles that match a pattern but that the catalog shows to be harmful.
func harmfulOwners(ctx context.Context, conn *pgx.Conn, server server) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT rolname FROM pg_catalog.pg_roles ORDER BY 1")
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return system(name, server.Admin.Username) || slices.Contains(server.AllowedOwners, name) || !wildcard.MatchAny(server.AllowedOwners, name)
	})
	var out []string
	for _, name := range names[:min(len(names), maxOwnersLooked)] {
		err := checkOwner(ctx, conn, name)
		switch {
		case fault.ReasonOf(err, "") == fault.OwnerForbidden:
			out = append(out, fmt.Sprintf("%q", name))
		case err != nil && fault.ReasonOf(err, "") != fault.OwnerNotFound:
			return nil, err
		}
		if len(out) == maxOwnersNamed {
			break
		}
	}
	return out, nil
}
