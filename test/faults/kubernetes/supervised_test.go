// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

// cutter ends open watches: the API server checks rights only when a watch starts.
type cutter struct {
	mu   sync.Mutex
	open []context.CancelFunc
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range c.open {
		end()
	}
	c.open = nil
}

type cutting struct {
	*cutter
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (c cutting) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Query().Get("watch") != "true" {
		return c.next.RoundTrip(request)
	}
	ctx, end := context.WithCancel(request.Context())
	c.mu.Lock()
	c.open = append(c.open, end)
	c.mu.Unlock()
	return c.next.RoundTrip(request.WithContext(ctx))
}

// supervised is an operator with its lease and the rights of an account. It is restarted when it exits, like under a kubelet.
type supervised struct {
	*world.World
	t        *testing.T
	account  *account
	cutter   *cutter
	login    *v1alpha1.DatabaseCredential
	identity *v1alpha1.ClientIdentity
	objects  []client.Object

	mu       sync.Mutex
	log      strings.Builder
	registry *prometheus.Registry
	ready    healthz.Checker
	starts   int
}

func newSupervised(t *testing.T) *supervised {
	t.Helper()
	k := &supervised{World: world.New(t, nil), t: t, cutter: &cutter{}, login: aCredential("orders"), identity: fixture.ClientIdentity("app")}
	k.account = newAccount(t, k.Client, k.Namespace, roleOfKinds, roleOfTenant, roleOfElection)
	k.objects = []client.Object{anAuthority(), aPolicy(), aServer(), k.identity, k.login}
	return k
}

// run starts the operator, and restarts it when it exits, until the test ends.
func (k *supervised) run() {
	k.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(k.t.Context()))
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := k.once(ctx); err != nil {
				k.record("the process exited: " + err.Error())
			}
		}
	})
	k.t.Cleanup(func() { cancel(); done.Wait() })
}

func (k *supervised) record(line string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.log.WriteString(line + "\n")
}

func (k *supervised) once(ctx context.Context) error {
	scheme, err := world.Scheme()
	if err != nil {
		return err
	}
	config := world.APIServer()
	config.Impersonate, config.QPS = k.account.user, -1
	apiClock, rights, registry := kube.NewAPIClock(clock.RealClock{}), access.New(clock.RealClock{}), prometheus.NewRegistry()
	config.Wrap(apiClock.Wrap)
	config.Wrap(rights.Wrap)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return cutting{k.cutter, next} })
	lease, renew, retry := 12*time.Second, 9*time.Second, time.Second
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Logger: funcr.NewJSON(k.record, funcr.Options{}), Cache: controllers.CacheOptions([]string{k.Namespace}, k.Namespace, rights),
		Client:         client.Options{Cache: &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}},
		Metrics:        metricsserver.Options{BindAddress: "0"},
		Controller:     ctrlconfig.Controller{SkipNameValidation: new(true)},
		LeaderElection: true, LeaderElectionID: "rekey.rekey.dev", LeaderElectionNamespace: k.Namespace, LeaderElectionReleaseOnCancel: true,
		LeaseDuration: &lease, RenewDeadline: &renew, RetryPeriod: &retry,
	})
	if err != nil {
		return err
	}
	flush, err := controllers.Setup(ctx, mgr, controllers.Options{
		Namespaces: []string{k.Namespace}, OperatorNamespace: k.Namespace, Workers: 4, Clock: clock.RealClock{}, Skew: apiClock.Off, AllowLoopback: true,
		Engines: map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: k.Engine}, Issuers: fixture.Issuers(), Registry: registry, Rights: rights,
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	k.registry, k.ready = registry, kube.CachesFilled(mgr.GetCache(), k.Namespace, rights)
	k.starts++
	k.mu.Unlock()
	err = mgr.Start(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	flush(last)
	return err
}

// metric reports whether the metrics show the right as missing.
func (k *supervised) metric(g grant) bool {
	k.mu.Lock()
	registry := k.registry
	k.mu.Unlock()
	if registry == nil {
		return false
	}
	families, err := registry.Gather()
	if err != nil {
		k.record("the metrics are unreadable: " + err.Error())
		return false
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, label := range metric.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if family.GetName() == "rekey_permission_missing" && labels["verb"] == g.verb && labels["resource"] == g.right("").Name() {
				return true
			}
		}
	}
	return false
}

func (k *supervised) logged(words ...string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return with(strings.Split(k.log.String(), "\n"), words...)
}

func (k *supervised) unready() string {
	k.mu.Lock()
	ready := k.ready
	k.mu.Unlock()
	if ready == nil {
		return "it has not started"
	}
	if err := ready(httptest.NewRequestWithContext(k.t.Context(), http.MethodGet, "/readyz", nil)); err != nil {
		return err.Error()
	}
	return ""
}

// served waits until all objects are ready, except those of a kind that the process cannot list.
func (k *supervised) served(clean bool, but ...string) {
	k.t.Helper()
	for _, o := range k.objects {
		if slices.Contains(but, strings.ToLower(world.KindOf(o))) {
			continue
		}
		until(k.t, func() bool {
			if k.Client.Get(k.Ctx, client.ObjectKeyFromObject(o), o) != nil {
				return false
			}
			return isReady(o) && (!clean || healthy(o) && !strings.Contains(describe(o), "rekey may not"))
		}, func() string { return world.KindOf(o) + " is not served:" + describe(o) })
	}
}

func (k *supervised) begin() {
	k.t.Helper()
	k.Create(append([]client.Object{fixture.AdminSecret()}, k.objects...)...)
}

func (k *supervised) rotates(revision int64) {
	k.t.Helper()
	until(k.t, func() bool {
		if k.Client.Get(k.Ctx, client.ObjectKeyFromObject(k.login), k.login) != nil {
			return false
		}
		metav1.SetMetaDataAnnotation(&k.login.ObjectMeta, v1alpha1.AnnotationRotate, fmt.Sprint("to ", revision))
		return k.Client.Update(k.Ctx, k.login) == nil
	}, func() string { return "the annotation could not be set" })
	until(k.t, func() bool {
		return k.Client.Get(k.Ctx, client.ObjectKeyFromObject(k.login), k.login) == nil && k.login.Status.Revision == revision
	}, func() string { return fmt.Sprintf("revision %d is not reached:%s", revision, describe(k.login)) })
}

// repeatEvent causes the same Event three times within a minute.
func (k *supervised) repeatEvent() {
	k.t.Helper()
	for range 3 {
		for _, suspended := range []bool{true, false} {
			until(k.t, func() bool {
				if k.Client.Get(k.Ctx, client.ObjectKeyFromObject(k.identity), k.identity) != nil {
					return false
				}
				k.identity.Spec.Suspend = suspended
				return k.Client.Update(k.Ctx, k.identity) == nil
			}, func() string { return "the identity could not be suspended" })
			until(k.t, func() bool {
				return k.Client.Get(k.Ctx, client.ObjectKeyFromObject(k.identity), k.identity) == nil &&
					strings.Contains(describe(k.identity), v1alpha1.ConditionSuspended+"=") == suspended
			}, func() string { return "the identity does not report whether it is suspended:" + describe(k.identity) })
		}
	}
}
