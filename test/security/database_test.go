// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/database/scram"
)

// admins are the logins that a server can have for rekey, from the least to the most powerful, and what each one can keep out of
// the server's own records.
var admins = []string{"plain", "granted", "super"}

// database is a PostgreSQL that logs everything it receives.
type database struct {
	*pgtest.Server
	t *testing.T
	// passwords of the admins.
	passwords map[string]string
	activity  *book
}

// settings make a server log everything. passwordcheck checks passwords, and would refuse a weak one sent in clear text.
var settings = map[string]string{
	"shared_preload_libraries": "pg_stat_statements,passwordcheck", "pg_stat_statements.track": "all", "pg_stat_statements.max": "10000",
	"track_activity_query_size": "16384", "log_min_messages": "debug2", "log_min_error_statement": "debug5", "log_min_duration_statement": "0",
	"log_error_verbosity": "verbose", "log_lock_waits": "on", "deadlock_timeout": "200ms",
}

func startDatabase(t *testing.T, version int) *database {
	t.Helper()
	server, err := pgtest.Start(t.Context(), pgtest.Options{Version: version, Settings: settings,
		HBA: append([]string{"host all refused_app_a,refused_app_b all reject",
			"host all trusted_app_a,trusted_app_b all trust", "host all clear all password"}, pgtest.DefaultHBA...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	d := &database{Server: server, t: t, passwords: map[string]string{}, activity: &book{}}
	verifier := func(name string) string {
		d.passwords[name] = "Admin-" + name + "-" + rand.Text()
		text, err := scram.Verifier(credential.SensitiveString(d.passwords[name]))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	statements := []string{
		"CREATE EXTENSION pg_stat_statements", "CREATE ROLE orders_owner", "CREATE DATABASE orders OWNER orders_owner",
		"CREATE ROLE taken_app_a LOGIN",
		"CREATE ROLE weak LOGIN PASSWORD '" + verifier("weak") + "'",
		"CREATE ROLE plain LOGIN CREATEROLE PASSWORD '" + verifier("plain") + "'",
		"CREATE ROLE granted LOGIN CREATEROLE PASSWORD '" + verifier("granted") + "'",
		"CREATE ROLE super LOGIN SUPERUSER PASSWORD '" + verifier("super") + "'",
		"CREATE ROLE clear LOGIN CREATEROLE PASSWORD '" + verifier("clear") + "'",
		"CREATE ROLE limited LOGIN CREATEROLE CONNECTION LIMIT 0 PASSWORD '" + verifier("limited") + "'",
		"CREATE ROLE fixed LOGIN CREATEROLE PASSWORD '" + verifier("fixed") + "'", "ALTER ROLE fixed SET default_transaction_read_only = on",
		"GRANT SET ON PARAMETER log_statement, log_min_error_statement, log_min_duration_statement, pg_stat_statements.track_utility TO granted",
	}
	if version >= 16 {
		statements = append(statements, "GRANT orders_owner TO plain, granted WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
	}
	if err := server.Exec(t.Context(), "postgres", statements...); err != nil {
		t.Fatal(err)
	}
	d.sample()
	return d
}

// sample reads pg_stat_activity continuously, as a monitor does.
func (d *database) sample() {
	conn, err := d.Connect(d.t.Context(), "postgres")
	if err != nil {
		d.t.Fatal(err)
	}
	// Its own queries would fill the log.
	if _, err := conn.Exec(d.t.Context(), "SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_messages = 'warning'; SET pg_stat_statements.track = 'none'"); err != nil {
		d.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		for ctx.Err() == nil {
			rows, err := conn.Query(ctx, "SELECT coalesce(usesysid::text, '') || ' ' || application_name || ': ' || query FROM pg_stat_get_activity(NULL) WHERE pid <> pg_backend_pid() AND query <> ''")
			if err != nil {
				return
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				return
			}
			for _, line := range lines {
				d.activity.note(line)
			}
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	d.t.Cleanup(sync.OnceFunc(func() { cancel(); <-done }))
}

// statements returns the contents of pg_stat_statements.
func (d *database) statements() string {
	d.t.Helper()
	conn, err := d.Connect(d.t.Context(), "postgres")
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = conn.Close(d.t.Context()) }()
	rows, err := conn.Query(d.t.Context(), "SELECT query FROM pg_stat_statements")
	if err != nil {
		d.t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// lock locks a login, so that no other session can change it, until the returned function is called.
func (d *database) lock(login string) (release func()) {
	d.t.Helper()
	conn, err := d.Connect(d.t.Context(), "postgres")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, statement := range []string{"BEGIN", "ALTER ROLE " + login + " CONNECTION LIMIT 50"} {
		if _, err := conn.Exec(d.t.Context(), statement); err != nil {
			d.t.Fatal(err)
		}
	}
	return sync.OnceFunc(func() { _ = conn.Close(context.WithoutCancel(d.t.Context())) })
}

// adminSecret is the admin Secret that a user creates for a server.
func adminSecret(name, username, password, host string) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: name, Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		Data:       map[string][]byte{"username": []byte(username), "password": []byte(password), "host": []byte(host)},
	}
}

// serverManifest is a DatabaseServer with its CA in the Secret or ConfigMap ca.
func serverManifest(name, address, secret, ca string) string {
	tls := "{mode: Require}"
	if ca != "" {
		tls = "{mode: VerifyFull, caRef: {kind: " + strings.Replace(ca, "/", ", name: ", 1) + "}}"
	}
	return fmt.Sprintf(`---
apiVersion: rekey.dev/v1alpha1
kind: DatabaseServer
metadata: {name: %s, namespace: %s}
spec: {engine: PostgreSQL, address: %q, tls: %s, adminSecretRef: {name: %s}, allowedUsernames: ["*_app*"], postgresql: {allowedOwners: [orders_owner]}}
`, name, tenant, address, tls, secret)
}

func credentialManifest(name, server, username, more string) string {
	return fmt.Sprintf(`---
apiVersion: rekey.dev/v1alpha1
kind: DatabaseCredential
metadata: {name: %s, namespace: %s}
spec: {serverRef: {name: %s}, postgresql: {database: orders, owner: orders_owner}, username: %s, strategy: AlternatingUsers, rotationPolicyRef: {name: brisk}, secretName: %s-db, password: {length: 40, alphabet: WithSymbols}%s}
`, name, tenant, server, username, name, more)
}
