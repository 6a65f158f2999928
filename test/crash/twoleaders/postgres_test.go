// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
)

var servers = pgtest.Shared{Options: pgtest.Options{Settings: map[string]string{"max_connections": "200"}}}

var bases atomic.Int64

const adminPassword = "admin-password-of-the-test"

// realDatabase is a PostgreSQL database.
type realDatabase struct {
	t      *testing.T
	server *pgtest.Server
	name   string
	conn   *pgx.Conn
	// tried caches login attempts by the catalog's content at that time: while the content is unchanged, so is the result.
	tried map[string]bool
}

func aRealDatabase(t *testing.T) databaseServer {
	t.Helper()
	r := &realDatabase{t: t, server: servers.Of(t, 15), name: fmt.Sprintf("twoleaders%d", bases.Add(1)), tried: map[string]bool{}}
	conn, err := r.server.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	r.conn = conn
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return r
}

// engine stops before each statement that changes something, if trace is set.
func (r *realDatabase) engine(trace func(string)) database.Engine {
	options := postgres.Options{}
	if trace != nil {
		options.Tracer = tracer(trace)
	}
	return postgres.New(options)
}

type tracer func(string)

// impatient holds the timeouts of the product's connections, scaled to one fifth: a process that waits for the lock aborts
// several times before the server aborts the idle transaction.
const impatient = "SET lock_timeout = '1s'; SET idle_in_transaction_session_timeout = '2s'"

// TraceQueryStart implements pgx.QueryTracer.
func (f tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, "begin") {
		// An error here occurs again in the statement itself.
		_, _ = conn.PgConn().Exec(ctx, impatient).ReadAll()
	}
	for _, verb := range []string{"commit", "ALTER ROLE", "COMMENT", "DROP ROLE"} {
		if strings.HasPrefix(data.SQL, verb) {
			f(verb)
		}
	}
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (f tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *realDatabase) prepare(*twoLeaders) {
	if err := r.server.CreateAdmin(r.t.Context(), r.name+"_admin", adminPassword, r.name+"_owner"); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realDatabase) configure(admin *corev1.Secret, object *v1alpha1.DatabaseServer) {
	admin.StringData = map[string]string{"username": r.name + "_admin", "password": adminPassword, "host": r.server.Address()}
	object.Spec.Address = r.server.Address()
	object.Spec.TLS = v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeRequire}
	// The result for these roles must not change while another play on the same server creates its own.
	username, owner := r.base()
	fixture.Allow(object, username+"*", owner)
}

func (r *realDatabase) base() (username, owner string) { return r.name + "_app", r.name + "_owner" }

func (r *realDatabase) login(name string) state {
	var out state
	err := r.conn.QueryRow(context.WithoutCancel(r.t.Context()), "SELECT true, rolcanlogin, coalesce(rolpassword, '') FROM pg_authid WHERE rolname = $1", name).
		Scan(&out.exists, &out.open, &out.secret)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		r.t.Error(err)
	}
	return out
}

func (r *realDatabase) accepts(name, password string) bool {
	key := fmt.Sprint(name, password, r.login(name))
	if known, ok := r.tried[key]; ok {
		return known
	}
	config := r.conn.Config().Copy()
	config.User, config.Password = name, password
	ctx := context.WithoutCancel(r.t.Context())
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		_ = conn.Close(ctx)
	}
	r.tried[key] = err == nil
	return err == nil
}

func TestTwoProcessesOnARealDatabaseDoNoHarm(t *testing.T) {
	playEach(t, "lives on PostgreSQL", seeds(t, size.Number(3, 5)), func(t *testing.T, seed uint64) {
		t.Helper()
		d := newTwoLeaders(t, setup{seed: seed, lags: seed%2 == 0, database: aRealDatabase})
		orderly(d, life(policyFor(seed)), 6)
	})
}

// When statements are effects, the old leader is also suspended between ALTER and COMMIT, with its transaction open.
func TestAnOldLeaderInTheMiddleOfATransactionDoesNoHarm(t *testing.T) {
	base := setup{database: aRealDatabase, statements: true}
	played := 0
	for _, phase := range []int{1, 2, 7}[:size.Number(1, 3)] {
		for effect := 0; ; effect++ {
			f := failover{kind: "DatabaseCredential", policy: v1alpha1.DeletionDelete, phase: phase, effect: effect, only: "statement "}
			more := true
			t.Run(fmt.Sprintf("phase-%d-statement-%d", phase, effect), func(t *testing.T) { more = f.play(t, base) })
			if !more {
				break
			}
			played++
		}
	}
	t.Logf("suspended at %d statements", played)
}
