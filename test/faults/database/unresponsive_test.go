// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

// lock takes locks as the superuser, and returns a function that releases them.
func (s *scene) lock(statements string) (release func()) {
	s.t.Helper()
	conn, err := s.server.Connect(s.Ctx, "postgres")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(s.Ctx, "BEGIN; "+statements); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		if _, err := conn.Exec(s.Ctx, "ROLLBACK"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// S9, I8, I10: a user locks the login in a transaction that does not end. The server cancels rekey's statement on its own,
// rekey reports the reason and where to look, and leaves nothing open that blocks others.
func TestALockHeldByAnotherUserIsReportedAndSurvived(t *testing.T) {
	t.Parallel()
	s := newScene(t, servers.Of(t, 18), postgres.Options{})
	s.playBefore(3)
	login := s.credential.Spec.Username + "_a"
	release := s.lock("ALTER ROLE " + login + " CONNECTION LIMIT 50")
	s.Step(interval)
	s.reconcile()
	if !s.reported(string(fault.LockTimeout), login, s.proxy.address(), "pg_locks") {
		t.Errorf("no condition names who holds the lock:%s", s.describe())
	}
	s.sql("DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = '" + s.admin + "' AND state <> 'idle'); END $$")
	release()
	s.until("the rotation", recovery, func() bool { return s.credential.Status.Revision == 3 && s.quiet() })
	s.checkKnown()
}

// S9, I1, I8: the catalog of roles is locked, so that all logins fail.
func TestALockedCatalogIsReportedAndSurvived(t *testing.T) {
	t.Parallel()
	s := newScene(t, pgtest.StartFor(t, pgtest.Options{}), impatient)
	s.play(life[0])
	release := s.lock("LOCK TABLE pg_catalog.pg_authid IN ACCESS EXCLUSIVE MODE")
	s.down = true
	life[1].begin(s)
	for range 3 {
		s.Step(s.reconcile().RequeueAfter)
	}
	if !s.reported(string(fault.ServerUnreachable), s.proxy.address(), "no answer in time") {
		release()
		t.Errorf("no condition reports the cause:%s", s.describe())
	}
	release()
	s.down = false
	s.until("the rotation", recovery, func() bool { return life[1].done(s) })
	s.checkAfter(life[1])
}

// crowd is the number of credentials that wait for the frozen server, and workers how many of them rekey reconciles at once.
const (
	crowd    = 30
	workers  = 2
	patience = 3 * time.Second
)

// R24, S9: a server that is suspended does not delay the credentials of another server, however many of its own wait for it;
// when it resumes, so do they.
func TestAFrozenServerDoesNotBlockTheOthers(t *testing.T) {
	frozen := newScene(t, pgtest.StartFor(t, pgtest.Options{}), impatient)
	healthy := newScene(t, servers.Of(t, 15), impatient)
	frozen.server.Freeze()
	frozen.Create(frozen.database)
	var waiting []*v1alpha1.DatabaseCredential
	for i := range crowd {
		one := frozen.credential.DeepCopy()
		one.Name, one.Spec.SecretName = fmt.Sprintf("orders-%d", i), v1alpha1.ObjectName(fmt.Sprintf("orders-db-%d", i))
		one.Spec.Username = fmt.Sprintf("%s_app%d", frozen.base, i)
		frozen.Create(one)
		waiting = append(waiting, one)
	}
	startManager(t, frozen.Namespace, healthy.Namespace)
	frozen.eventually("a credential to wait for the frozen server", func() bool {
		frozen.proxy.mu.Lock()
		defer frozen.proxy.mu.Unlock()
		return frozen.proxy.accepted > 0
	})
	healthy.Create(healthy.database, healthy.credential)
	started := time.Now()
	ready := func(of *scene, credential *v1alpha1.DatabaseCredential) bool {
		of.Get(credential)
		of.credential = credential
		return of.condition(v1alpha1.ConditionReady) == "True/Published"
	}
	frozen.eventually("the credential of the other server", func() bool { return ready(healthy, healthy.credential) })
	if took, alone := time.Since(started), crowd*patience/workers; took > alone/2 {
		t.Errorf("the credential of the other server took %s, but one round of the waiting ones takes %s", took, alone)
	}
	frozen.server.Thaw()
	for _, one := range waiting {
		frozen.eventually(one.Name+" after the server resumed", func() bool { return ready(frozen, one) })
	}
}

// startManager runs rekey in these namespaces, in the same way as main.go.
func startManager(t *testing.T, namespaces ...string) {
	t.Helper()
	scheme, err := world.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	apiClock := kube.NewAPIClock(clock.RealClock{})
	config := world.APIServer()
	config.Wrap(apiClock.Wrap)
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Logger: logr.Discard(), Cache: controllers.CacheOptions(namespaces, namespaces[0], nil),
		Client:  client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}},
		Metrics: metricsserver.Options{BindAddress: "0"}, Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = controllers.Setup(t.Context(), mgr, controllers.Options{
		Namespaces: namespaces, OperatorNamespace: namespaces[0], Workers: workers, Clock: clock.RealClock{}, Skew: apiClock.Off, AllowLoopback: true,
		Engines: map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: postgres.New(postgres.Options{ConnectTimeout: patience})},
		Issuers: fixture.Issuers(), Registry: prometheus.NewRegistry(), Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
