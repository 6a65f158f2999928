// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/test/bench/results"
	"github.com/rekey/rekey/test/fixture"
)

const (
	databaseNamespace = "data"
	databaseAdmin     = "fleet_admin"
	databaseOwner     = "fleet_owner"
	adminPassword     = "admin-password-of-the-bench"
	postgresVersion   = 18
)

// rotations rotates n credentials at once, round after round, each beside a bare loop of the same SQL.
func rotations(t *testing.T, n, rounds int) *results.Database {
	t.Helper()
	server := pgtest.StartFor(t, pgtest.Options{Version: postgresVersion, Settings: map[string]string{"max_connections": "200", "shared_buffers": "64MB"}})
	s, stop := startAPIServer(t, nil)
	defer stop()
	prepareDatabase(t, s, server)
	o := startRekey(t, s.kubeconfig(t, "rekey"), "--allow-loopback")
	defer o.stop(t)
	path := "/apis/rekey.dev/v1alpha1/namespaces/" + databaseNamespace + "/databasecredentials"
	w := s.applier.watch(t, "databasecredentials", n)
	if err := s.applier.send(t.Context(), credentials(t, path, n)); err != nil {
		t.Fatal(err)
	}
	w.all(t, 1)
	o.quiet(t)
	fleet := rotating{s: s, o: o, w: w, path: path, n: n}
	// The first rotation creates the second login of each credential, which later ones do not.
	fleet.rotate(t)
	fleet.retire(t)
	passwords := map[string]string{}
	out := &results.Database{N: n}
	for range rounds {
		s.passwords(t, passwords)
		logged := len(server.LogText())
		out.Rekey = append(out.Rekey, fleet.rotate(t).Seconds())
		s.passwords(t, passwords)
		sessions := sessionsOf(t, server.LogText()[logged:])
		out.Loop = append(out.Loop, replay(t, server, sessions, passwords).Seconds())
		out.Connections, out.Statements = float64(len(sessions))/float64(n), float64(statementsIn(sessions))/float64(n)
		fleet.retire(t)
	}
	return out
}

// rotating holds credentials that are rotated all at once.
type rotating struct {
	s     *apiServer
	o     *operator
	w     *watcher
	path  string
	n     int
	round int
}

// rotate requests new passwords and waits until the last one is published.
func (r *rotating) rotate(t *testing.T) time.Duration {
	t.Helper()
	r.round++
	begun := time.Now()
	if err := r.s.applier.send(t.Context(), annotations(r.path, r.n, v1alpha1.AnnotationRotate, r.round)); err != nil {
		t.Fatal(err)
	}
	took := r.w.all(t, int32(r.round+1)).Sub(begun)
	r.o.quiet(t)
	return took
}

// retire ends the overlaps: the next rotation needs the other login.
func (r *rotating) retire(t *testing.T) {
	t.Helper()
	if err := r.s.applier.send(t.Context(), annotations(r.path, r.n, v1alpha1.AnnotationRetirePrevious, r.round)); err != nil {
		t.Fatal(err)
	}
	r.s.retired(t)
	r.o.quiet(t)
}

func prepareDatabase(t *testing.T, s *apiServer, server *pgtest.Server) {
	t.Helper()
	if err := server.CreateAdmin(t.Context(), databaseAdmin, adminPassword, databaseOwner); err != nil {
		t.Fatal(err)
	}
	in := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: databaseNamespace, Name: name}
	}
	secret := &corev1.Secret{ObjectMeta: in("admin"), StringData: map[string]string{"username": databaseAdmin, "password": adminPassword, "host": server.Address()}}
	secret.Labels = map[string]string{v1alpha1.LabelAllow: "true"}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: databaseNamespace}},
		secret,
		&corev1.ConfigMap{ObjectMeta: in("trust"), Data: map[string]string{"ca.crt": string(server.Authority.PEM)}},
		fixture.Policy(func(p *v1alpha1.RotationPolicy) { p.ObjectMeta = in("daily") }),
		fixture.Server(func(o *v1alpha1.DatabaseServer) {
			o.ObjectMeta, o.Spec.Address, o.Spec.TLS = in("fleet"), server.Address(), fixture.Verified("trust")
			o.Spec.AdminSecretRef.Name = "admin"
			fixture.Allow(o, "app_*", databaseOwner)
		}),
	} {
		if err := s.client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func credentials(t *testing.T, path string, n int) []request {
	t.Helper()
	out := make([]request, 0, n)
	for i := range n {
		body, err := json.Marshal(fixture.Credential(name(i), func(c *v1alpha1.DatabaseCredential) {
			c.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "DatabaseCredential"}
			c.Namespace, c.Spec.ServerRef.Name = databaseNamespace, "fleet"
			fixture.SetLogin(c, "postgres", strings.ReplaceAll(name(i), "-", "_"), databaseOwner)
		}))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, request{http.MethodPost, path, "application/json", body})
	}
	return out
}

// annotations returns the requests that give every credential a new value of the annotation.
func annotations(path string, n int, annotation string, value int) []request {
	body := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"%d"}}}`, annotation, value)
	out := make([]request, 0, n)
	for i := range n {
		out = append(out, request{http.MethodPatch, path + "/" + name(i), "application/merge-patch+json", body})
	}
	return out
}

// passwords adds the current passwords in the Secrets, by login.
func (s *apiServer) passwords(t *testing.T, out map[string]string) {
	t.Helper()
	var list corev1.SecretList
	if err := s.client.List(t.Context(), &list, client.InNamespace(databaseNamespace)); err != nil {
		t.Fatal(err)
	}
	for _, secret := range list.Items {
		if secret.Type == "servicebinding.io/postgresql" {
			out[string(secret.Data["username"])] = string(secret.Data["password"])
		}
	}
	out[databaseAdmin] = adminPassword
}

// retired waits until no credential has a previous login.
func (s *apiServer) retired(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < patience; <-tick.C {
		var list v1alpha1.DatabaseCredentialList
		if err := s.client.List(t.Context(), &list, client.InNamespace(databaseNamespace)); err != nil {
			t.Fatal(err)
		}
		left := 0
		for _, credential := range list.Items {
			if credential.Status.Previous != nil || meta.FindStatusCondition(credential.Status.Conditions, v1alpha1.ConditionPreviousInUse) != nil {
				left++
			}
		}
		if left == 0 {
			return
		}
	}
	t.Fatal("the previous logins are not retired")
}

// replay sends what the sessions sent, over as many connections at once as rekey has workers.
func replay(t *testing.T, server *pgtest.Server, sessions []session, passwords map[string]string) time.Duration {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(server.Authority.PEM)
	next, failed := make(chan session), make(chan error, len(sessions))
	begun := time.Now()
	done := make(chan struct{})
	for range connections {
		go func() {
			for s := range next {
				if err := s.replay(t.Context(), server, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server.Host, RootCAs: roots}, passwords); err != nil {
					failed <- err
				}
			}
			done <- struct{}{}
		}()
	}
	for _, s := range sessions {
		next <- s
	}
	close(next)
	for range connections {
		<-done
	}
	took := time.Since(begun)
	select {
	case err := <-failed:
		t.Fatalf("%d of %d sessions of the bare loop failed, the first: %v", len(failed)+1, len(sessions), err)
	default:
	}
	return took
}

func (s session) replay(ctx context.Context, server *pgtest.Server, trust *tls.Config, passwords map[string]string) error {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=%s application_name=loop sslmode=disable", server.Host, server.Port, s.user, s.database))
	if err != nil {
		return err
	}
	config.TLSConfig, config.Password = trust, passwords[s.user]
	if s.refused {
		config.Password = "a-wrong-password-of-32-characters"
	}
	connection, err := pgconn.ConnectConfig(ctx, config)
	if s.refused {
		if err == nil {
			return fmt.Errorf("%s could log in with a wrong password", s.user)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close(ctx) }()
	for _, statement := range s.statements {
		if statement.parameters == nil {
			err = connection.Exec(ctx, statement.sql).Close()
		} else {
			_, err = connection.ExecParams(ctx, statement.sql, statement.parameters, nil, nil, nil).Close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", statement.sql, err)
		}
	}
	return nil
}
