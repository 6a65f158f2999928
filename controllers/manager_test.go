// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/test/fixture"
)

// managed is a namespace served by the whole manager, with the real clock, as main.go starts it.
type managed struct {
	*world
	registry *prometheus.Registry
	ready    healthz.Checker
	// stop stops the manager, and waits until it has stopped.
	stop func()
}

func startManaged(t *testing.T, log logr.Logger) *managed {
	t.Helper()
	w := newWorld(t)
	return startManagedAs(t, w, log, rest.ImpersonationConfig{}, w.namespace)
}

// startManagedAs runs the manager as an account, for a list of namespaces. The operator's own is that of the world.
func startManagedAs(t *testing.T, w *world, log logr.Logger, user rest.ImpersonationConfig, namespaces ...string) *managed {
	t.Helper()
	m := &managed{world: w, registry: prometheus.NewRegistry()}
	apiClock := kube.NewAPIClock(clock.RealClock{})
	config := *apiServer
	config.Impersonate = user
	rights := access.New(clock.RealClock{})
	config.Wrap(apiClock.Wrap)
	config.Wrap(rights.Wrap)
	config.QPS = -1
	// Only this test's namespaces: other tests run in parallel.
	mgr, err := ctrl.NewManager(&config, ctrl.Options{
		Scheme: testScheme(t), Logger: log, Cache: CacheOptions(namespaces, m.namespace, rights),
		Client:     client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}},
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.ready = kube.CachesFilled(mgr.GetCache(), m.namespace, rights)
	_, err = Setup(t.Context(), mgr, Options{
		Namespaces: namespaces, OperatorNamespace: m.namespace, Workers: 4, Clock: clock.RealClock{}, Skew: apiClock.Off,
		Engines: map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: m.database}, Issuers: fixture.Issuers(),
		Registry: m.registry, Version: "test", Rights: rights,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(m.stop)
	return m
}

// becomes waits until the object has the condition.
func (m *managed) becomes(o client.Object, kind, want string) {
	m.t.Helper()
	m.until(func() bool { m.get(o); m.checkStatus(o); return condition(o, kind) == want }, func() string {
		return kindOf(o) + " " + o.GetName() + " has not become " + want + ":" + describeConditions(o)
	})
}

// follows waits until the object, whose spec was just edited, has the condition. Its status may be that of the earlier spec meanwhile.
func (m *managed) follows(o client.Object, kind, want string) {
	m.t.Helper()
	m.until(func() bool { m.get(o); return condition(o, kind) == want }, func() string {
		return kindOf(o) + " " + o.GetName() + " has not become " + want + ":" + describeConditions(o)
	})
	m.checkStatus(o)
}

func (m *managed) until(holds func() bool, otherwise func() string) {
	m.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < time.Minute; <-tick.C {
		if holds() {
			return
		}
	}
	m.t.Fatal(otherwise())
}

func TestAChangeWakesTheObjectsThatWaitForIt(t *testing.T) {
	m := startManaged(t, logr.Discard())
	identity, policy := aClientIdentity(), aPolicy()
	identity.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: "daily"}
	m.create(identity)
	m.becomes(identity, v1alpha1.ConditionReady, "False/PolicyNotFound")
	m.create(policy)
	m.becomes(identity, v1alpha1.ConditionReady, "False/AuthorityNotFound")
	m.create(anAuthority())
	m.becomes(identity, v1alpha1.ConditionReady, "True/Published")

	// A deleted Secret is reissued at once.
	before := m.secret("app-mtls")
	if err := m.client.Delete(m.ctx, before); err != nil {
		t.Fatal(err)
	}
	m.until(func() bool {
		now := &corev1.Secret{}
		return m.client.Get(m.ctx, client.ObjectKeyFromObject(before), now) == nil && now.UID != before.UID
	}, func() string { return "the deleted Secret was not recreated" })

	// The policy counts its users.
	m.until(func() bool { m.get(policy); return ptr.Deref(policy.Status.Users, 0) == 1 }, func() string { return "the policy does not count its user" })
	m.becomes(policy, v1alpha1.ConditionReady, "True/Accepted")

	// A server that becomes available wakes the credentials that wait for it.
	credential := aCredential()
	m.create(credential)
	m.becomes(credential, v1alpha1.ConditionReady, "False/ServerNotFound")
	m.create(anAdminSecret(), aServer())
	m.becomes(credential, v1alpha1.ConditionReady, "True/Published")

	// An edited Secret is repaired, and nothing rotates.
	login := m.secret("orders-db")
	edited := login.DeepCopy()
	edited.Data["password"] = []byte("edited-by-hand")
	if err := m.client.Update(m.ctx, edited); err != nil {
		t.Fatal(err)
	}
	m.until(func() bool { return string(m.secret("orders-db").Data["password"]) == string(login.Data["password"]) },
		func() string { return "the edited Secret was not repaired" })
}

func TestWithNothingDueThereAreNoWrites(t *testing.T) {
	m := startManaged(t, logr.Discard())
	identity, credential := aClientIdentity(), aCredential()
	m.create(anAuthority(), identity, aPolicy(), anAdminSecret(), aServer(), credential)
	m.becomes(identity, v1alpha1.ConditionReady, "True/Published")
	m.becomes(credential, v1alpha1.ConditionReady, "True/Published")
	versions := func() string {
		m.get(identity)
		m.get(credential)
		return strings.Join([]string{identity.ResourceVersion, credential.ResourceVersion,
			m.secret("app-mtls").ResourceVersion, m.secret("orders-db").ResourceVersion}, " ")
	}
	before := versions()
	// A new process beside the first one reconciles everything, and finds nothing to write.
	startBeside(t, m)
	if writes := m.written(); len(writes) > 0 {
		t.Errorf("a second process wrote %v", writes)
	}
	if after := versions(); after != before {
		t.Errorf("resource versions went from %s to %s", before, after)
	}
}

// startBeside makes a second set of controllers reconcile every object once.
func startBeside(t *testing.T, m *managed) {
	t.Helper()
	m.clock.SetTime(time.Now())
	m.restart()
	m.written()
	for _, o := range []client.Object{&v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{Namespace: m.namespace, Name: "app"}},
		&v1alpha1.DatabaseCredential{ObjectMeta: metav1.ObjectMeta{Namespace: m.namespace, Name: "orders"}}} {
		m.settle(o, 3)
	}
}

func TestMetricsAreCleanAndVanishWithTheirObjects(t *testing.T) {
	m := startManaged(t, logr.Discard())
	identity, credential := aClientIdentity(), aCredential()
	identity.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	m.create(anAuthority(), identity, aPolicy(), anAdminSecret(), aServer(), credential)
	m.becomes(identity, v1alpha1.ConditionReady, "True/Published")
	m.becomes(credential, v1alpha1.ConditionReady, "True/Published")
	has := func(words ...string) bool {
		families, err := m.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				lines = append(lines, family.GetName()+" "+metric.String())
			}
		}
		return with(lines, words...)
	}
	m.until(func() bool {
		return has("rekey_credential_not_after_timestamp_seconds", `"app"`) && has("rekey_credential_last_rotation_timestamp_seconds", `"orders"`) &&
			has("rekey_authority_not_after_timestamp_seconds", `"internal"`) && has("rekey_resource_condition", `"Verified"`, `"LoggedIn"`) &&
			has("rekey_step_attempts_total", `"Commit"`, `"success"`) && has("rekey_build_info", `"test"`)
	}, func() string { return "a metric is missing" })
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	if err := m.client.Delete(m.ctx, identity); err != nil {
		t.Fatal(err)
	}
	m.until(func() bool { return !has(`"app"`) }, func() string { return "the metrics of a deleted object stay" })
}

func TestAStopLetsAReconcileFinish(t *testing.T) {
	logged := &lines{}
	m := startManaged(t, funcr.New(logged.add, funcr.Options{}))
	credential := aCredential()
	m.create(aPolicy(), anAdminSecret(), aServer(), credential)
	m.becomes(credential, v1alpha1.ConditionReady, "True/Published")
	// The server is slow, and the manager is stopped in the middle.
	entered, leave := make(chan struct{}), make(chan struct{})
	m.database.Before("Stage", func() { close(entered); <-leave })
	m.edit(credential, func() { credential.Annotations = map[string]string{v1alpha1.AnnotationRotate: "now"} })
	<-entered
	stopped := make(chan struct{})
	go func() { m.stop(); close(stopped) }()
	select {
	case <-stopped:
		t.Fatal("the manager did not wait for the reconcile")
	case <-time.After(500 * time.Millisecond):
	}
	close(leave)
	<-stopped
	m.get(credential)
	if credential.Status.Revision != 2 {
		t.Errorf("revision %d after the stop, want 2: the reconcile was interrupted:%s", credential.Status.Revision, describeConditions(credential))
	}
	if text := logged.String(); strings.Contains(text, "Reconciling failed") {
		t.Errorf("the log reports a failure that did not happen: %s", text)
	}
}
