// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
)

// server is a real one, shared: every play has logins of its own.
var server struct {
	sync.Mutex
	running *pgtest.Server
}

var bases atomic.Int64

func stopServers() {
	if server.running != nil {
		server.running.Stop()
	}
}

const adminPassword = "admin-password-of-the-test"

// realDatabase is a PostgreSQL.
type realDatabase struct {
	t      *testing.T
	server *pgtest.Server
	name   string
	conn   *pgx.Conn
	// tried are logins that were tried with what the catalog held then: while that is the same, so is the answer.
	tried map[string]bool
}

func aRealDatabase(t *testing.T) databaseServer {
	t.Helper()
	server.Lock()
	defer server.Unlock()
	if server.running == nil {
		running, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Settings: map[string]string{"max_connections": "200"}})
		if err != nil {
			t.Fatal(err)
		}
		server.running = running
	}
	r := &realDatabase{t: t, server: server.running, name: fmt.Sprintf("twoleaders%d", bases.Add(1)), tried: map[string]bool{}}
	conn, err := r.server.Connect(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	r.conn = conn
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return r
}

// engine stops before the statements that change something, where trace is given.
func (r *realDatabase) engine(trace func(string)) database.Engine {
	options := postgres.Options{}
	if trace != nil {
		options.Tracer = tracer(trace)
	}
	return postgres.New(options)
}

type tracer func(string)

// impatient are the bounds that every connection of the product has, in the same proportion and a fifth as long: whoever
// waits for the lock gives up several times before the server ends the transaction that stands still.
const impatient = "SET lock_timeout = '1s'; SET idle_in_transaction_session_timeout = '2s'"

// TraceQueryStart implements pgx.QueryTracer.
func (f tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(data.SQL, "begin") {
		// What fails here fails again in the statement that is to come.
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

func (r *realDatabase) ready(*twoLeaders) {
	admin, owner := r.name+"_admin", r.name+"_owner"
	if err := r.server.Exec(r.t.Context(), "postgres", fmt.Sprintf("CREATE ROLE %s LOGIN CREATEROLE PASSWORD '%s'", admin, adminPassword),
		fmt.Sprintf("CREATE ROLE %s NOLOGIN", owner)); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realDatabase) dress(admin *corev1.Secret, object *v1alpha1.DatabaseServer) {
	admin.StringData = map[string]string{"username": r.name + "_admin", "password": adminPassword, "host": r.server.Address()}
	object.Spec.Address = r.server.Address()
	object.Spec.TLS = v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeRequire}
	// What it is told of roles must not change because another play on the same server makes its own.
	username, owner := r.base()
	object.Spec.AllowedUsernames = []v1alpha1.RolePattern{v1alpha1.RolePattern(username + "*")}
	object.Spec.AllowedOwners = []v1alpha1.RolePattern{v1alpha1.RolePattern(owner)}
}

func (r *realDatabase) base() (username, owner string) { return r.name + "_app", r.name + "_owner" }

func (r *realDatabase) login(name string) state {
	var out state
	err := r.conn.QueryRow(context.WithoutCancel(r.t.Context()), "SELECT true, rolcanlogin, coalesce(rolpassword, '') FROM pg_authid WHERE rolname = $1", name).
		Scan(&out.there, &out.open, &out.secret)
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

func TestTwoProcessesOnARealDatabase(t *testing.T) {
	each(t, "lives on PostgreSQL", seeds(t, sized(3, 5)), func(t *testing.T, seed uint64) {
		t.Helper()
		d := newTwoLeaders(t, setup{seed: seed, lags: seed%2 == 0, database: aRealDatabase})
		orderly(d, life(policyFor(seed)), 6)
	})
}

// With statements as effects the old leader also stands between ALTER and COMMIT, with its transaction open.
func TestAnOldLeaderInTheMiddleOfATransaction(t *testing.T) {
	base := setup{database: aRealDatabase, statements: true}
	played := 0
	for _, phase := range []int{1, 2, 7}[:sized(1, 3)] {
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
	t.Logf("stopped at %d statements", played)
}
