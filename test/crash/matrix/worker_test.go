// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"flag"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

const (
	// workers play lives in parallel, each in its own namespace.
	workers = 8

	adminPassword = "admin-password-of-the-matrix"
	adminLogin    = "matrix_admin"
	ownerRole     = "matrix_owner"

	// Every life in a worker's namespace can refer to these.
	sharedAdmin     = "shared-admin"
	sharedAuthority = "shared"
	sharedServer    = "shared"
	sharedPolicy    = "daily"
)

var (
	update = flag.Bool("update", false, "write the results to testdata/matrix.json instead of comparing them with it; needs REKEY_SIZE=full")
	only   = flag.String("order", "", "test only this fault, as a failure names it: step/fault/fate")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(world.Main(m, servers.Stop))
}

// servers are quick: logging and encryption are tested elsewhere, and here thousands of logins must be fast.
var servers = pgtest.Shared{
	Options: pgtest.Options{Plain: true, Settings: map[string]string{
		"log_statement": "none", "log_connections": "off", "log_disconnections": "off", "max_connections": "100", "autovacuum": "off"}},
	Prepare: func(ctx context.Context, server *pgtest.Server) error {
		return server.CreateAdmin(ctx, adminLogin, adminPassword, ownerRole)
	},
}

// worker plays one life after the other in a namespace, with a ready authority, server and policy.
type worker struct {
	*world.World
	server *pgtest.Server
	engine database.Engine
	// conn is a superuser's connection, to see the server's real state.
	conn *pgx.Conn
}

func newWorker(t *testing.T, server *pgtest.Server) *worker {
	t.Helper()
	w := &worker{server: server, engine: postgres.New(postgres.Options{})}
	w.World = world.New(t, w.engine)
	var err error
	if w.conn, err = server.Connect(t.Context(), "postgres"); err != nil {
		t.Fatal("connecting as the superuser:", err)
	}
	t.Cleanup(func() { _ = w.conn.Close(context.WithoutCancel(t.Context())) })
	authority := anAuthority(sharedAuthority, sharedAuthority+"-secret")
	database := aServer(sharedServer, server.Address())
	policy := aPolicy(sharedPolicy)
	w.Create(fixture.AdminSecret(func(s *corev1.Secret) {
		s.Name = sharedAdmin
		s.StringData = map[string]string{"username": adminLogin, "password": adminPassword, "host": server.Address()}
	}), authority, database, policy)
	p := w.Start("beginning", world.Options{})
	for _, o := range []client.Object{authority, database, policy} {
		if settled, err := p.Settle(o, 10); !settled {
			t.Fatalf("%T did not settle: %v", o, err)
		}
	}
	return w
}

// newWorkers creates the workers for one version of PostgreSQL.
func newWorkers(t *testing.T, version int) []*worker {
	t.Helper()
	server := servers.Of(t, version)
	out := make([]*worker, workers)
	for i := range out {
		out[i] = newWorker(t, server)
	}
	return out
}

// share distributes the jobs to the workers, and returns when all are done.
func share[J any](all []*worker, jobs []J, do func(*worker, J)) {
	queue := make(chan J, len(jobs))
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	var done sync.WaitGroup
	for _, w := range all {
		done.Go(func() {
			for j := range queue {
				do(w, j)
			}
		})
	}
	done.Wait()
}

func (w *worker) create(o client.Object) error {
	if _, everywhere := o.(*v1alpha1.ClusterCertificateAuthority); !everywhere {
		o.SetNamespace(w.Namespace)
	}
	return w.Client.Create(w.Ctx, o)
}

// accepts reports whether the server accepts a login with the Secret.
func (w *worker) accepts(secret *corev1.Secret) error {
	conn, err := pgx.Connect(w.Ctx, string(secret.Data["uri"]))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(w.Ctx) }()
	var who string
	return conn.QueryRow(w.Ctx, "SELECT session_user").Scan(&who)
}
