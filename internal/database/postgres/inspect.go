// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
)

// Marker implements credential.MarkerReader.
func (s *session) Marker(ctx context.Context, ref credential.Ref) (credential.Marker, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	login, err := login(s.target, ref)
	if err != nil {
		return credential.Marker{}, err
	}
	var found role
	err = s.withAdmin(ctx, ref, func(ctx context.Context, conn *pgx.Conn) error {
		var err error
		found, err = readRole(ctx, conn, login)
		return err
	})
	if err != nil {
		return credential.Marker{}, s.endpoint.statementFault(err, fmt.Sprintf("reading the marker of login %q", login))
	}
	return found.marker(), nil
}

// The session user is the login, even while it acts as the owner. Addresses and times are NULL for an admin that is not in
// pg_read_all_stats. Our own sessions that verify the credential do not count as its users.
const sessionsQuery = `WITH open AS (
	SELECT backend_start, coalesce(nullif(application_name, ''), pg_catalog.host(client_addr), 'unnamed') AS client
	FROM pg_catalog.pg_stat_activity
	WHERE usename = $1 AND application_name <> $2 AND leader_pid IS NULL
)
SELECT count(*), min(backend_start), ARRAY(SELECT DISTINCT client FROM open ORDER BY client LIMIT 5) FROM open`

// Sessions implements credential.SessionCounter.
func (s *session) Sessions(ctx context.Context, ref credential.Ref) (credential.Sessions, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	login, err := login(s.target, ref)
	if err != nil {
		return credential.Sessions{}, err
	}
	var found credential.Sessions
	var oldest *time.Time
	err = s.withAdmin(ctx, ref, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, sessionsQuery, login, verifyName(ref)).Scan(&found.Count, &oldest, &found.Clients)
	})
	if err != nil {
		return credential.Sessions{}, s.endpoint.statementFault(err, fmt.Sprintf("counting the sessions of login %q", login))
	}
	if oldest != nil {
		found.Oldest = oldest.UTC()
	}
	return found, nil
}
