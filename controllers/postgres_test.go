// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
)

// versions of PostgreSQL on which every test runs.
var versions = []int{15, 18}

const adminPassword = "admin-password-of-the-test"

var servers = pgtest.Shared{Options: pgtest.Options{Settings: map[string]string{"log_statement": "all"}}}

// pgWorld is a world with a real server, and with its own admin and owner.
type pgWorld struct {
	*world
	server       *pgtest.Server
	base         string
	admin, owner string
	object       *v1alpha1.DatabaseServer
	credential   *v1alpha1.DatabaseCredential
}

func newPGWorld(t *testing.T, server *pgtest.Server) *pgWorld {
	t.Helper()
	w := &pgWorld{world: newWorld(t), server: server}
	w.engines = map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: postgres.New(postgres.Options{})}
	w.restart()
	w.base = strings.ReplaceAll(w.namespace, "-", "_")
	w.admin, w.owner = w.base+"_admin", w.base+"_owner"
	if err := server.CreateAdmin(t.Context(), w.admin, adminPassword, w.owner); err != nil {
		t.Fatal(err)
	}
	secret := anAdminSecret()
	secret.StringData = map[string]string{"username": w.admin, "password": adminPassword, "host": server.Address()}
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "orders-ca"}, Data: map[string]string{"ca.crt": string(server.Authority.PEM)}}
	w.object = aServer()
	w.object.Spec.Address = server.Address()
	w.object.Spec.TLS = fixture.Verified("orders-ca")
	fixture.Allow(w.object, w.base+"_*", w.base+"_*", "pg_*")
	w.credential = aCredential()
	fixture.SetLogin(w.credential, "postgres", w.base+"_app", w.owner)
	w.create(aPolicy(), secret, bundle)
	return w
}

func (w *pgWorld) sql(statements ...string) {
	w.t.Helper()
	if err := w.server.Exec(w.ctx, "postgres", statements...); err != nil {
		w.t.Fatal(err)
	}
}

// accepted reports whether the server accepts a client with the Secret's contents.
func (w *pgWorld) accepted(secret *corev1.Secret) bool {
	w.t.Helper()
	config, err := pgconn.ParseConfig(string(secret.Data["uri"]) + "&sslrootcert=" + w.authorityFile())
	if err != nil {
		w.t.Fatal(err)
	}
	connection, err := pgconn.ConnectConfig(w.ctx, config)
	if err != nil {
		return false
	}
	_ = connection.Close(w.ctx)
	return true
}

func databaseFailures(version int) map[string]func(w *pgWorld) aFailure {
	grantBack := func(w *pgWorld) func(*world, client.Object) {
		return func(*world, client.Object) { w.sql(fmt.Sprintf("ALTER ROLE %s CREATEROLE", w.admin)) }
	}
	out := map[string]func(w *pgWorld) aFailure{
		"the admin's password is wrong": func(w *pgWorld) aFailure {
			return aFailure{reason: "AdminRejected", words: []string{w.server.Address(), "orders-admin", w.admin},
				arrange: func(*world) client.Object {
					secret := w.secret("orders-admin")
					w.edit(secret, func() { secret.Data["password"] = []byte("wrong-password-of-the-test") })
					w.create(w.object)
					return w.object
				},
				repair: func(*world, client.Object) {
					secret := w.secret("orders-admin")
					w.edit(secret, func() { secret.Data["password"] = []byte(adminPassword) })
				}}
		},
		"the admin may not create roles": func(w *pgWorld) aFailure {
			return aFailure{reason: "PrivilegeMissing", stalled: true, words: []string{"ALTER ROLE", w.admin, "CREATEROLE"},
				arrange: func(*world) client.Object {
					w.sql(fmt.Sprintf("ALTER ROLE %s NOCREATEROLE", w.admin))
					w.create(w.object)
					return w.object
				}, repair: grantBack(w)}
		},
		"the owner is too powerful": func(w *pgWorld) aFailure {
			return aFailure{reason: "OwnerForbidden", stalled: true, words: []string{w.owner},
				arrange: func(*world) client.Object {
					w.sql(fmt.Sprintf("GRANT pg_execute_server_program TO %s", w.owner))
					ready(w.world, w.object)
					w.create(w.credential)
					return w.credential
				},
				repair: func(*world, client.Object) { w.sql(fmt.Sprintf("REVOKE pg_execute_server_program FROM %s", w.owner)) }}
		},
		"another user created the login": func(w *pgWorld) aFailure {
			login := w.base + "_app_b"
			return aFailure{reason: "LoginExists", stalled: true, words: []string{login},
				arrange: func(*world) client.Object {
					w.sql(fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD 'theirs'", login))
					ready(w.world, w.object)
					w.create(w.credential)
					return w.credential
				},
				repair: func(*world, client.Object) { w.sql("DROP ROLE " + login) }}
		},
		"the server's certificate is not trusted": func(w *pgWorld) aFailure {
			return aFailure{reason: "ServerCertificateInvalid", stalled: true, words: []string{w.server.Address()},
				arrange: func(*world) client.Object {
					other, err := pgtest.NewAuthority()
					if err != nil {
						w.t.Fatal(err)
					}
					w.bundle(string(other.PEM))
					w.create(w.object)
					return w.object
				},
				repair: func(*world, client.Object) { w.bundle(string(w.server.Authority.PEM)) }}
		},
	}
	if version >= 16 {
		out["the admin may not grant the owner"] = func(w *pgWorld) aFailure {
			return aFailure{reason: "PrivilegeMissing", stalled: true, words: []string{"GRANT", w.owner, w.admin, "WITH ADMIN TRUE"},
				arrange: func(*world) client.Object {
					w.sql(fmt.Sprintf("REVOKE %s FROM %s", w.owner, w.admin))
					ready(w.world, w.object)
					w.create(w.credential)
					return w.credential
				},
				repair: func(*world, client.Object) { w.sql(fmt.Sprintf("GRANT %s TO %s WITH ADMIN OPTION", w.owner, w.admin)) }}
		}
	}
	return out
}

// authorityFile holds the CA certificate of the server.
func (w *pgWorld) authorityFile() string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "ca.crt")
	if err := os.WriteFile(path, w.server.Authority.PEM, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// bundle changes the CA certificates.
func (w *pgWorld) bundle(text string) {
	w.t.Helper()
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "orders-ca"}}
	w.edit(object, func() { object.Data["ca.crt"] = text })
}

func TestEveryFailureOfARealServerIsReportedOnceAndRecovers(t *testing.T) {
	for _, version := range versions {
		server := servers.Of(t, version)
		for name, failure := range databaseFailures(version) {
			t.Run(fmt.Sprintf("%d/%s", version, name), func(t *testing.T) {
				w := newPGWorld(t, server)
				failure(w).run(t, w.world)
			})
		}
	}
}

func TestAnUnsuitableServerIsRefusedWithAReason(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(ctx context.Context, s *pgtest.Server) (*pgtest.Server, error)
		reason string
		words  []string
	}{
		"it is down": {
			change: func(_ context.Context, s *pgtest.Server) (*pgtest.Server, error) { s.Halt(); return s, nil },
			reason: "ServerUnreachable", words: []string{"check that the server runs"},
		},
		"it is a standby": {
			change: func(ctx context.Context, s *pgtest.Server) (*pgtest.Server, error) { return s.Standby(ctx) },
			reason: "ServerReadOnly", words: []string{"standby"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := pgtest.StartFor(t, pgtest.Options{})
			w := newPGWorld(t, server)
			changed, err := tc.change(t.Context(), server)
			if err != nil {
				t.Fatal(err)
			}
			if changed != server {
				defer changed.Stop()
				w.object.Spec.Address = changed.Address()
				secret := w.secret("orders-admin")
				w.edit(secret, func() { secret.Data["host"] = []byte(changed.Address()) })
			}
			w.create(w.object)
			w.reconcile(w.object)
			w.reconcile(w.object)
			w.wantCondition(w.object, v1alpha1.ConditionReady, "False/"+tc.reason)
			if events := w.events(); len(events) != 1 || !with(events, append(tc.words, "Warning "+tc.reason)...) {
				t.Errorf("Events: %q", events)
			}
		})
	}
}

// rotated returns a world with a credential that was rotated once, and its Secret before and after.
func rotated(t *testing.T, server *pgtest.Server) (w *pgWorld, first, second *corev1.Secret) {
	t.Helper()
	w = newPGWorld(t, server)
	ready(w.world, w.object, w.credential)
	w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
	first = w.secret("orders-db")
	w.step(25 * time.Hour)
	w.settle(w.credential, 5)
	return w, first, w.secret("orders-db")
}

func TestALoginRotatesOnARealServer(t *testing.T) {
	for _, version := range versions {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			w, first, second := rotated(t, servers.Of(t, version))
			if !w.accepted(first) || !w.accepted(second) {
				t.Fatalf("during the overlap: old accepted %v, new accepted %v", w.accepted(first), w.accepted(second))
			}
			w.step(2 * time.Hour)
			w.settle(w.credential, 5)
			if w.accepted(first) || !w.accepted(second) {
				t.Errorf("after the overlap: old accepted %v, new accepted %v; %s", w.accepted(first), w.accepted(second), describeConditions(w.credential))
			}
			for _, secret := range []*corev1.Secret{first, second} {
				if strings.Contains(w.server.LogText(), string(secret.Data["password"])) {
					t.Error("the server's log shows a password")
				}
			}
		})
	}
}

func TestADeletedLedgerIsRebuiltFromTheSecret(t *testing.T) {
	w := newPGWorld(t, servers.Of(t, 15))
	ready(w.world, w.object, w.credential)
	published := w.secret("orders-db")
	ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, w.credential.Name))
	if err := w.client.Delete(w.ctx, ledger); err != nil {
		t.Fatal(err)
	}
	w.settle(w.credential, 5)
	w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
	if now := w.secret("orders-db"); string(now.Data["password"]) != string(published.Data["password"]) || !w.accepted(now) {
		t.Error("the loss of the ledger changed the login")
	}
	w.secret(ledger.Name)
}

func TestALedgerThatNamesAForeignLoginIsNotTrusted(t *testing.T) {
	w, _, second := rotated(t, servers.Of(t, 15))
	ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, w.credential.Name))
	mine := ledger.DeepCopy().Data
	w.edit(ledger, func() {
		for key, value := range ledger.Data {
			ledger.Data[key] = []byte(strings.ReplaceAll(string(value), `"slot":"b"`, `"slot":"c"`))
		}
	})
	w.events()
	w.settle(w.credential, 3)
	w.wantCondition(w.credential, "Stalled", "True/LedgerInvalid")
	if events := w.events(); len(events) != 1 || !with(events, "Warning LedgerInvalid") {
		t.Errorf("Events: %q", events)
	}
	if !w.accepted(second) {
		t.Error("the published login was harmed")
	}
	w.edit(ledger, func() { ledger.Data = mine })
	w.step(time.Hour)
	w.settle(w.credential, 3)
	w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
}

func TestADatabaseFromBeforeTheRotationGetsThePublishedLoginBack(t *testing.T) {
	w, _, second := rotated(t, servers.Of(t, 15))
	login := string(second.Data["username"])
	// As in the backup: the login before the rotation, with its marker.
	w.sql("DROP ROLE " + login)
	if w.accepted(second) {
		t.Fatal("the login is still accepted")
	}
	w.step(90 * time.Minute)
	for range 8 {
		w.reconcile(w.credential)
		w.step(time.Minute)
	}
	if !w.accepted(second) {
		t.Errorf("the published login was not restored:%s", describeConditions(w.credential))
	}
	w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
	if now := w.secret("orders-db"); string(now.Data["password"]) != string(second.Data["password"]) {
		t.Error("the Secret was changed")
	}
}

func TestAServerThatAcceptsAnyPasswordProvesNothing(t *testing.T) {
	server := pgtest.StartFor(t, pgtest.Options{})
	w := newPGWorld(t, server)
	if err := server.SetHBA(t.Context(), "hostssl all "+pgtest.Superuser+","+w.admin+" all scram-sha-256", "hostssl postgres all all trust"); err != nil { //nolint:dupword // columns
		t.Fatal(err)
	}
	ready(w.world, w.object)
	w.create(w.credential)
	for range 4 {
		w.reconcile(w.credential)
		w.step(time.Minute)
	}
	w.wantCondition(w.credential, v1alpha1.ConditionReady, "False/AuthenticationNotEnforced")
	w.wantCondition(w.credential, v1alpha1.ConditionStalled, "True/AuthenticationNotEnforced")
	if events := w.events(); len(events) != 1 || !with(events, "Warning AuthenticationNotEnforced", "pg_hba") {
		t.Errorf("Events: %q", events)
	}
	if err := server.SetHBA(t.Context(), pgtest.DefaultHBA...); err != nil {
		t.Fatal(err)
	}
	w.step(time.Hour)
	w.settle(w.credential, 5)
	w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
}

func TestAnAddressIsPublishedOnlyAfterTheLoginWasProvenThere(t *testing.T) {
	w := newPGWorld(t, servers.Of(t, 15))
	ready(w.world, w.object, w.credential)
	before := w.secret("orders-db")
	move := func(address string) {
		w.edit(w.object, func() { w.object.Spec.Address = address })
		secret := w.secret("orders-admin")
		w.edit(secret, func() { secret.Data["host"] = []byte(address) })
		for range 3 {
			w.step(6 * time.Minute)
			w.reconcile(w.credential)
		}
	}
	move("127.0.0.1:1")
	if now := w.secret("orders-db"); string(now.Data["port"]) != string(before.Data["port"]) || now.ResourceVersion != before.ResourceVersion {
		t.Errorf("the Secret has port %s, where nothing listens", now.Data["port"])
	}
	w.wantCondition(w.credential, v1alpha1.ConditionVerified, "Unknown/ServerUnreachable")
	w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
	move(fmt.Sprintf("localhost:%d", w.server.Port))
	if now := w.secret("orders-db"); string(now.Data["host"]) != "localhost" || !w.accepted(now) {
		t.Errorf("the Secret has host %s after the login was proven at localhost:%s", now.Data["host"], describeConditions(w.credential))
	}
}
