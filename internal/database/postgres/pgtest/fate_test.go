// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pgtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
)

func TestAServerCanFreezeCrashAndBeRestored(t *testing.T) {
	ctx := t.Context()
	server, err := pgtest.Start(ctx, pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	run := func(statements ...string) {
		t.Helper()
		if err := server.Exec(ctx, "postgres", statements...); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := server.KeyPair()
	if err != nil || len(pair.Certificate) == 0 {
		t.Fatalf("the certificate: %v", err)
	}

	run("CREATE TABLE seen (n int)", "INSERT INTO seen VALUES (1)")
	server.Freeze()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := server.Exec(short, "postgres", "SELECT 1"); err == nil {
		t.Error("a frozen server answers")
	}
	server.Thaw()
	run("DO $$ BEGIN ASSERT (SELECT count(*) FROM seen) = 1; END $$")

	if _, err := server.Copy(); err == nil {
		t.Error("a running server was copied")
	}
	server.Halt()
	kept, err := server.Copy()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	run("INSERT INTO seen VALUES (2)", "CHECKPOINT")
	server.Crash()
	if err := server.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	run("DO $$ BEGIN ASSERT (SELECT count(*) FROM seen) = 2; END $$")

	server.Halt()
	if err := server.Restore(kept); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	run("DO $$ BEGIN ASSERT (SELECT count(*) FROM seen) = 1; END $$")
}
