// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
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
	"github.com/rekey/rekey/internal/credential/sourcetest"
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

// testServer and testTarget have their settings decoded, so that a test can change them. place encodes them.
type (
	testServer = server
	testTarget = target
)

func place(of testTarget) databasetest.Place {
	out := databasetest.Place{Server: encoded(of.Server), Target: of.Target}
	out.Target.Settings = encode(of.settings)
	return out
}

func encoded(of testServer) database.Server {
	out := of.Server
	out.Settings = encode(of.serverSettings)
	for _, name := range of.Databases {
		out.Credentials = append(out.Credentials, encode(settings{Database: name}))
	}
	return out
}

func encode(block any) []byte {
	out, err := json.Marshal(block)
	if err != nil {
		panic(err)
	}
	return out
}

// decoded is the reverse of place.
func decoded(t *testing.T, at databasetest.Place) testTarget {
	t.Helper()
	out, err := newTarget(at.Server, at.Target)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (l *lab) server() testServer {
	return testServer{
		Server: database.Server{
			Host: "localhost", Port: l.Port, TLS: database.TLSVerifyFull, CA: l.Authority.PEM, AllowLoopback: true,
			Admin:            database.Admin{Username: testAdmin, Password: credential.SensitiveString(testAdminPassword)},
			AllowedUsernames: []string{"app*"},
		},
		serverSettings: serverSettings{AllowedOwners: []string{testOwner}},
	}
}

func (l *lab) target() testTarget {
	return testTarget{
		Server:   l.server(),
		settings: settings{Database: testDatabase, Owner: testOwner},
		Target: database.Target{
			Username: fmt.Sprintf("app%d", l.usernames.Add(1)), Strategy: database.AlternatingUsers, Create: true, PasswordLength: 32, PasswordAlphabet: string(password.WithSymbols),
		},
	}
}

// ipv4 resolves localhost to the address that the test servers listen on.
func ipv4(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }

// viaIPv4 returns a new dialer that resolves every host to 127.0.0.1.
func viaIPv4() *netguard.Dialer { return &netguard.Dialer{Resolve: ipv4} }

func testEngine() database.Engine { return New(Options{Dialer: viaIPv4()}) }

// open returns a session that is closed when the test ends.
func open(t *testing.T, target testTarget) *session {
	t.Helper()
	at := place(target)
	opened, err := testEngine().Open(t.Context(), at.Server, at.Target)
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

func propose(t *testing.T, target testTarget, slot string) credential.Material {
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
		Powers: sourcetest.Powers{Remover: true, MarkerReader: true, Heir: true, SessionCounter: true, Preflighter: true},
		Fresh:  func(*testing.T) databasetest.Place { return place(l.target()) },
		Forbid: func(at databasetest.Place) (databasetest.Place, fault.Reason) {
			at.Server.Settings = encode(serverSettings{AllowedOwners: []string{"nobody_at_all"}})
			return at, fault.OwnerForbidden
		},
		Damaged: map[string]func(credential.Material) credential.Material{
			"no verifier": func(m credential.Material) credential.Material { return m.With(credential.KeyVerifier, nil) },
		},
		Foreign: func(t *testing.T, at databasetest.Place, login, password string) {
			t.Helper()
			target := decoded(t, at)
			verifier, err := scram.Verifier(credential.SensitiveString(password))
			if err != nil {
				t.Fatal(err)
			}
			mustExec(t, l, "CREATE ROLE "+ident(login)+" LOGIN PASSWORD "+literal(verifier)+" IN ROLE "+ident(target.Owner))
		},
		Accepts: func(t *testing.T, at databasetest.Place, login, password string) bool {
			t.Helper()
			conn, err := l.client(t.Context(), decoded(t, at).Database, login, password, "accepts")
			if err != nil {
				return false
			}
			hangUp(context.Background(), conn)
			return true
		},
		Connect: func(t *testing.T, at databasetest.Place, login, password, client string) func() {
			t.Helper()
			conn, err := l.client(t.Context(), decoded(t, at).Database, login, password, client)
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
		Cripple: map[string]func(*testing.T, databasetest.Place, string){
			"NOLOGIN": func(t *testing.T, _ databasetest.Place, login string) {
				t.Helper()
				mustExec(t, l, "ALTER ROLE "+ident(login)+" NOLOGIN")
			},
			"not a member": func(t *testing.T, at databasetest.Place, login string) {
				t.Helper()
				target := decoded(t, at)
				mustExec(t, l, "REVOKE "+ident(target.Owner)+" FROM "+ident(login)+map[bool]string{true: " GRANTED BY rotator"}[l.Version >= 16])
			},
			"no connection": func(t *testing.T, _ databasetest.Place, login string) {
				t.Helper()
				mustExec(t, l, "ALTER ROLE "+ident(login)+" CONNECTION LIMIT 0")
			},
		},
		Block: func(t *testing.T, at databasetest.Place) func() {
			t.Helper()
			target := decoded(t, at)
			mustExec(t, l, "ALTER DATABASE "+ident(target.Database)+" ALLOW_CONNECTIONS false")
			return func() { mustExec(t, l, "ALTER DATABASE "+ident(target.Database)+" ALLOW_CONNECTIONS true") }
		},
		Log: l.LogText,
	}
}

func TestPostgreSQLSatisfiesTheContract(t *testing.T) {
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

// openOn opens a session of an engine.
func openOn(ctx context.Context, engine database.Engine, target testTarget) (database.Session, error) {
	at := place(target)
	return engine.Open(ctx, at.Server, at.Target)
}
