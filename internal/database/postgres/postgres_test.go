// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/netguard"
	"github.com/rekey/rekey/internal/password"
)

const (
	testDatabase = "orders"
	testOwner    = "orders_owner"
	testAdmin    = "rotator"
	// The admin's password is a canary too: the tests search the server's log for it.
	testAdminPassword = "Canary-admin-6Zt9wQ2xLm4R"
)

// Lines of pg_hba.conf: database, user, address.
const (
	allUsers = "all"
	trustAll = "host all " + allUsers + " all trust"
)

// lab is one server of a version, shared by the tests of this binary.
type lab struct {
	*pgtest.Server
	usernames atomic.Int64
}

var labs = map[int]func() (*lab, error){}

func TestMain(m *testing.M) {
	var started []*lab
	var mu sync.Mutex
	for _, version := range pgtest.Versions {
		labs[version] = sync.OnceValues(func() (*lab, error) {
			l, err := newLab(context.Background(), pgtest.Options{Version: version, Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
			if err == nil {
				mu.Lock()
				started = append(started, l)
				mu.Unlock()
			}
			return l, err
		})
	}
	code := m.Run()
	for _, l := range started {
		l.Stop()
	}
	os.Exit(code)
}

// newLab starts a server with an admin, an owner and a database, set up as the documentation describes.
func newLab(ctx context.Context, options pgtest.Options) (*lab, error) {
	server, err := pgtest.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	l := &lab{Server: server}
	if err := l.furnish(ctx); err != nil {
		server.Stop()
		return nil, err
	}
	return l, nil
}

func (l *lab) furnish(ctx context.Context) error {
	verifier, err := scram.Verifier(credential.SensitiveString(testAdminPassword))
	if err != nil {
		return err
	}
	statements := []string{
		"CREATE ROLE " + testAdmin + " LOGIN CREATEROLE PASSWORD '" + verifier + "'",
		"CREATE ROLE " + testOwner,
		"CREATE DATABASE " + testDatabase + " OWNER " + testOwner,
	}
	if l.Version >= 16 {
		statements = append(statements, "GRANT "+testOwner+" TO "+testAdmin+" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
	}
	return l.Exec(ctx, "postgres", statements...)
}

// labOf returns the shared server of a version.
func labOf(t *testing.T, version int) *lab {
	t.Helper()
	l, err := labs[version]()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// onEvery runs a test on every version in parallel: each has its own server.
func onEvery(t *testing.T, test func(t *testing.T, l *lab)) {
	t.Helper()
	for _, version := range pgtest.Versions {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			t.Parallel()
			test(t, labOf(t, version))
		})
	}
}

// own starts a server for one test only.
func own(t *testing.T, options pgtest.Options) *lab {
	t.Helper()
	l, err := newLab(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return l
}

func (l *lab) server() database.Server {
	return database.Server{
		Host: "localhost", Port: l.Port, TLS: database.TLSVerifyFull, CA: l.Authority.PEM, AllowLoopback: true,
		Admin:            database.Admin{Username: testAdmin, Password: credential.SensitiveString(testAdminPassword)},
		AllowedUsernames: []string{"app*"}, AllowedOwners: []string{testOwner},
	}
}

func (l *lab) target() database.Target {
	return database.Target{
		Server: l.server(), Database: testDatabase, Username: fmt.Sprintf("app%d", l.usernames.Add(1)), Owner: testOwner, Create: true,
	}
}

// ipv4 resolves localhost to the address that the test servers listen on.
func ipv4(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }

// viaIPv4 returns a new dialer that resolves every host to 127.0.0.1.
func viaIPv4() *netguard.Dialer { return &netguard.Dialer{Resolve: ipv4} }

func testEngine() database.Engine { return New(Options{Dialer: viaIPv4()}) }

// open returns a session that is closed when the test ends.
func open(t *testing.T, target database.Target) *session {
	t.Helper()
	opened, err := testEngine().Open(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(opened.Close)
	s, ok := opened.(*session)
	if !ok {
		t.Fatal("not a session of this package")
	}
	return s
}

func testRef(seq int64, slot string) credential.Ref {
	return credential.Ref{Cluster: "c0ffee", Namespace: "shop", Name: "orders", Seq: seq, Slot: slot}
}

func propose(t *testing.T, target database.Target, slot string) credential.Material {
	t.Helper()
	login, err := scram.Login(loginName(target, slot), 32, password.WithSymbols)
	if err != nil {
		t.Fatal(err)
	}
	return login
}

func wantFault(t *testing.T, err error, class fault.Class, reason fault.Reason, words ...string) {
	t.Helper()
	if fault.Classify(err) != class || fault.ReasonOf(err, "") != reason {
		t.Errorf("got %s %s (%v), want %s %s", fault.Classify(err), fault.ReasonOf(err, ""), err, class, reason)
		return
	}
	if class == fault.ClassNone {
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not contain %q", err, word)
		}
	}
}

func mustExec(t *testing.T, l *lab, statements ...string) {
	t.Helper()
	if err := l.Exec(t.Context(), "postgres", statements...); err != nil {
		t.Fatal(err)
	}
}

func mustStage(t *testing.T, s *session, r credential.Ref) credential.Material {
	t.Helper()
	got, err := s.Stage(t.Context(), credential.Change{Ref: r, Material: propose(t, s.target, r.Slot)})
	if err != nil {
		t.Fatal(err)
	}
	return got.Material
}

func wantAnswer(t *testing.T, s *session, r credential.Ref, with credential.Material, want credential.Answer) {
	t.Helper()
	got, err := s.Verify(t.Context(), r, with)
	if got != want {
		t.Errorf("verifying %s: %s (%v), want %s", r, got, err, want)
	}
}

// client logs in as an application does, with its own driver configuration.
func (l *lab) client(ctx context.Context, database, login, password, application string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d sslmode=require", l.Port))
	if err != nil {
		return nil, err
	}
	config.User, config.Password, config.Database = login, password, database
	config.RuntimeParams["application_name"] = application
	return pgx.ConnectConfig(ctx, config)
}

func harness(l *lab) databasetest.Harness {
	return databasetest.Harness{
		Engine: testEngine(),
		Fresh:  func(*testing.T) database.Target { return l.target() },
		Foreign: func(t *testing.T, target database.Target, login, password string) {
			t.Helper()
			verifier, err := scram.Verifier(credential.SensitiveString(password))
			if err != nil {
				t.Fatal(err)
			}
			mustExec(t, l, "CREATE ROLE "+ident(login)+" LOGIN PASSWORD "+literal(verifier)+" IN ROLE "+ident(target.Owner))
		},
		Accepts: func(t *testing.T, target database.Target, login, password string) bool {
			t.Helper()
			conn, err := l.client(t.Context(), target.Database, login, password, "accepts")
			if err != nil {
				return false
			}
			hangUp(context.Background(), conn)
			return true
		},
		Connect: func(t *testing.T, target database.Target, login, password, client string) func() {
			t.Helper()
			conn, err := l.client(t.Context(), target.Database, login, password, client)
			if err != nil {
				t.Fatal(err)
			}
			return func() { hangUp(context.Background(), conn) }
		},
		Outage: func(t *testing.T) func() {
			t.Helper()
			l.Halt()
			return func() {
				if err := l.Restart(context.WithoutCancel(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
		},
		Open: func(t *testing.T) func() {
			t.Helper()
			if err := l.SetHBA(t.Context(), "host all rotator all scram-sha-256", trustAll); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := l.SetHBA(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		},
		Cripple: map[string]func(*testing.T, database.Target, string){
			"NOLOGIN": func(t *testing.T, _ database.Target, login string) {
				t.Helper()
				mustExec(t, l, "ALTER ROLE "+ident(login)+" NOLOGIN")
			},
			"not a member": func(t *testing.T, target database.Target, login string) {
				t.Helper()
				mustExec(t, l, "REVOKE "+ident(target.Owner)+" FROM "+ident(login)+map[bool]string{true: " GRANTED BY rotator"}[l.Version >= 16])
			},
			"no connection": func(t *testing.T, _ database.Target, login string) {
				t.Helper()
				mustExec(t, l, "ALTER ROLE "+ident(login)+" CONNECTION LIMIT 0")
			},
		},
		Block: func(t *testing.T, target database.Target) func() {
			t.Helper()
			mustExec(t, l, "ALTER DATABASE "+ident(target.Database)+" ALLOW_CONNECTIONS false")
			return func() { mustExec(t, l, "ALTER DATABASE "+ident(target.Database)+" ALLOW_CONNECTIONS true") }
		},
		Log: l.LogText,
	}
}

func TestPostgreSQLKeepsTheContract(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		databasetest.Run(t, harness(l))
		if strings.Contains(l.LogText(), testAdminPassword) {
			t.Error("the admin's password is in the server's log")
		}
	})
}

// until polls until the condition holds.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("waiting for %s: timed out", what)
		case <-tick.C:
		}
	}
}
