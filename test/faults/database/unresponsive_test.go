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
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/test/world"
)

// lock takes locks as the superuser, until the function that it gives is called.
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

// S9, I8, I10: somebody holds the login in a transaction that does not end. The server gives up on our statement by itself,
// the reason and where to look are told, and nothing of ours stays in the way of others.
func TestALockThatSomebodyHoldsIsToldAndOutlived(t *testing.T) {
	t.Parallel()
	s := newScene(t, sharedServer(t, 18), postgres.Options{})
	s.liveUntil(3)
	login := s.credential.Spec.Username + "_a"
	release := s.lock("ALTER ROLE " + login + " CONNECTION LIMIT 50")
	s.Step(interval)
	begun := time.Now()
	s.pass()
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("a pass took %s: the server's own timeouts do not apply", took)
	}
	if !s.said(string(fault.LockTimeout), login, s.wire.address(), "pg_locks") {
		t.Errorf("no condition says who is waited for:%s", s.describe())
	}
	s.sql("DO $$ BEGIN ASSERT NOT EXISTS (SELECT FROM pg_stat_activity WHERE usename = '" + s.admin + "' AND state <> 'idle'); END $$")
	release()
	s.until("the rotation", recovery, func() bool { return s.credential.Status.Revision == 3 && s.quiet() })
	s.checkKnown()
}

// S9, I1, I8: the catalog of roles is locked, so that nobody at all can log in.
func TestALockedCatalogIsToldAndOutlived(t *testing.T) {
	t.Parallel()
	s := newScene(t, ownServer(t, pgtest.Options{}), impatient)
	s.liveOn(life[0])
	release := s.lock("LOCK TABLE pg_catalog.pg_authid IN ACCESS EXCLUSIVE MODE")
	s.down = true
	life[1].begin(s)
	for range 3 {
		s.Step(s.pass().RequeueAfter)
	}
	if !s.said(string(fault.ServerUnreachable), s.wire.address(), "no answer in time") {
		release()
		t.Errorf("no condition says what is wrong:%s", s.describe())
	}
	release()
	s.down = false
	s.until("the rotation", recovery, func() bool { return life[1].done(s) })
	s.checkAfter(life[1])
}

// crowd is how many credentials wait for the frozen server, and watchers how many of them can be looked after at once.
const (
	crowd    = 30
	watchers = 2
	patience = 3 * time.Second
)

// R24, S9: a server that was stopped in the middle does not keep the credentials of another one waiting, however many of its
// own wait for it; when it goes on, so do they.
func TestAFrozenServerDoesNotStopTheOthers(t *testing.T) {
	frozen := newScene(t, ownServer(t, pgtest.Options{}), impatient)
	healthy := newScene(t, sharedServer(t, 15), impatient)
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
	frozen.eventually("somebody to wait for the frozen server", func() bool {
		frozen.wire.mu.Lock()
		defer frozen.wire.mu.Unlock()
		return frozen.wire.accepted > 0
	})
	healthy.Create(healthy.database, healthy.credential)
	begun := time.Now()
	ready := func(of *scene, credential *v1alpha1.DatabaseCredential) bool {
		of.Get(credential)
		of.credential = credential
		return of.condition(v1alpha1.ConditionReady) == "True/Published"
	}
	frozen.eventually("the credential of the other server", func() bool { return ready(healthy, healthy.credential) })
	if took, alone := time.Since(begun), crowd*patience/watchers; took > alone/2 {
		t.Errorf("the credential of the other server took %s, where one round of those that wait takes %s", took, alone)
	}
	frozen.server.Thaw()
	for _, one := range waiting {
		frozen.eventually(one.Name+" after the server went on", func() bool { return ready(frozen, one) })
	}
}

// startManager runs rekey as main.go does, in these namespaces.
func startManager(t *testing.T, namespaces ...string) {
	t.Helper()
	scheme, err := world.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	apiClock := controllers.NewAPIClock(clock.RealClock{})
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
		Namespaces: namespaces, OperatorNamespace: namespaces[0], Workers: watchers, Clock: clock.RealClock{}, APIClock: apiClock, AllowLoopback: true,
		Engines:  map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: postgres.New(postgres.Options{ConnectTimeout: patience})},
		KeyPairs: ca.KeyPairs{}, Registry: prometheus.NewRegistry(), Version: "test",
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
