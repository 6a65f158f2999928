// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/fault"
)

// minVersion is the oldest major version that the suites run on.
const minVersion = 15

// minors of a major version. The broken minor does not apply ALTER ROLE ... SET role at login, which AlternatingUsers relies
// on: a regression of the releases of 14 November 2024, fixed in those of 21 November (PostgreSQL 17.2, "Release Notes").
// From promised on it works; minors older than broken are not tested.
var minors = map[int]struct{ broken, promised int }{
	15: {9, 10},
	16: {5, 6},
	17: {1, 2},
}

// judgeVersion refuses a version that cannot be served, by its server_version_num.
func judgeVersion(number int) error {
	major, minor := number/10000, number%10000
	known, listed := minors[major]
	switch {
	case major < minVersion:
		return fault.Permanent(fault.ServerUnsupported, fmt.Errorf("checking the server: it is PostgreSQL %d: version %d or later is needed", major, minVersion))
	case listed && minor == known.broken:
		return fault.Permanent(fault.ServerUnsupported, fmt.Errorf("checking the server: PostgreSQL %d.%d does not apply ALTER ROLE ... SET role at login, so logins would not act as their owner: update it to %d.%d or later",
			major, minor, major, known.promised))
	}
	return nil
}

// untested returns a note if a version is older than the supported ones; empty otherwise.
func untested(number int) string {
	major, minor := number/10000, number%10000
	known, listed := minors[major]
	if !listed || minor >= known.promised {
		return ""
	}
	return fmt.Sprintf("PostgreSQL %d.%d is not tested with rekey: update it to %d.%d or later.", major, minor, major, known.promised)
}

// checkVersion refuses a connection to a server with an unsupported version.
func checkVersion(ctx context.Context, conn *pgx.Conn) error {
	var number int
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4").Scan(&number); err != nil {
		return err
	}
	return judgeVersion(number)
}
