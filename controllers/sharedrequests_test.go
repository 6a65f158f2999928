// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/test/fixture"
)

// slowReader answers a Get when the test lets it, or never.
type slowReader struct {
	client.Client

	asked  atomic.Int64
	answer chan error
}

func newSlowReader() *slowReader {
	r := &slowReader{answer: make(chan error)}
	r.Client = interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
			r.asked.Add(1)
			o.SetUID("cluster-uid")
			select {
			case err := <-r.answer:
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	return r
}

// remoteIssuer asks the reader whether it can sign.
type remoteIssuer struct{ reader client.Client }

func (remoteIssuer) Keys() []issuer.Key { return nil }

func (r remoteIssuer) Open(context.Context, issuer.Config) (*issuer.Authority, error) {
	return &issuer.Authority{Issuer: r}, nil
}

func (r remoteIssuer) Check(ctx context.Context, _ time.Time) error {
	return r.reader.Get(ctx, client.ObjectKey{Name: "health"}, &corev1.Secret{})
}

func (remoteIssuer) Issue(context.Context, issuer.Request) (issuer.Chain, error) {
	return issuer.Chain{}, errors.New("nothing is issued")
}

// askers are the places where many reconciles wait for one response of the API server or of an issuer: calling one returns its result.
func askers(reader client.Client, passing *clocktesting.FakePassiveClock) map[string]func(context.Context) error {
	cluster := kube.NewClusterID(reader, passing, nil)
	keys := &authorities{live: reader, openers: fixture.Issuers(), clock: passing, cluster: cluster}
	remote := &authorities{live: reader, openers: map[v1alpha1.AuthorityType]issuer.Opener{v1alpha1.AuthorityTypeKeyPair: remoteIssuer{reader}}, clock: passing, cluster: cluster}
	object := fixture.Authority(func(a *v1alpha1.CertificateAuthority) {
		a.Namespace, a.UID = "shop", "uid"
		fixture.SetKeyPair(&a.Spec, "of-a-user") // unlike one that rekey creates, it is read without the cluster's UID
	})
	return map[string]func(context.Context) error{
		"the cluster's UID": func(ctx context.Context) error { _, err := cluster.Get(ctx); return err },
		"the key pair of an authority": func(ctx context.Context) error {
			_, _, err := keys.load(ctx, partsOfAuthority(v1alpha1.AuthorityKindNamespaced, object))
			return err
		},
		"whether an authority can sign": func(ctx context.Context) error {
			_, unready, err := remote.load(ctx, partsOfAuthority(v1alpha1.AuthorityKindNamespaced, object))
			return errors.Join(unready, err)
		},
	}
}

// A missing response holds up each caller only for its own patience, and all callers get the failure.
func TestAMissingAnswerStopsNoOtherReconcile(t *testing.T) {
	t.Parallel()
	for name := range askers(nil, nil) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				reader := newSlowReader()
				ask := askers(reader, clocktesting.NewFakePassiveClock(time.Now()))[name]
				begun := time.Now()
				var reconciles sync.WaitGroup
				for i := range 20 {
					reconciles.Go(func() {
						// Every other one has less time than the request gets.
						patience := reconcileTimeout
						if i%2 == 1 {
							patience = time.Second
						}
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						if err := ask(ctx); err == nil {
							t.Error("an answer came that was never given")
						}
						if took := time.Since(begun); i%2 == 1 && took > time.Second {
							t.Errorf("a reconcile that had one second waited for %s", took)
						}
					})
				}
				reconciles.Wait()
				if took := time.Since(begun); took > authorityPatience+2*time.Second {
					t.Errorf("the last reconcile waited for %s", took)
				}
				if asked := reader.asked.Load(); asked > 3 {
					t.Errorf("20 reconciles sent %d requests", asked)
				}
			})
		})
	}
}

// An issuer is asked once for the identities that are reconciled at about the same time, and again later.
func TestAnIssuerIsAskedOnceForManyIdentities(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		passing, reader := clocktesting.NewFakePassiveClock(time.Now()), newSlowReader()
		ask := askers(reader, passing)["whether an authority can sign"]
		for round, answer := range []error{nil, errors.New("sealed"), nil} {
			go func() { reader.answer <- answer }()
			for range 10 {
				if err := ask(t.Context()); (err == nil) != (answer == nil) {
					t.Errorf("round %d: %v, want %v", round, err, answer)
				}
			}
			if asked := reader.asked.Load(); asked != int64(round+1) {
				t.Errorf("round %d: %d requests", round, asked)
			}
			passing.SetTime(passing.Now().Add(authorityAge))
		}
	})
}

func TestTheClusterUIDIsRequestedOnceAndRarelyAfterAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		passing, reader := clocktesting.NewFakePassiveClock(time.Now()), newSlowReader()
		cluster := kube.NewClusterID(reader, passing, nil)
		ask := func(ctx context.Context) (string, error) { return cluster.Get(ctx) }
		many := func(want string, asks int64) {
			t.Helper()
			before := reader.asked.Load()
			for range 10 {
				if uid, err := ask(t.Context()); uid != want || (err == nil) != (want != "") {
					t.Errorf("%q, %v", uid, err)
				}
			}
			if asked := reader.asked.Load() - before; asked != asks {
				t.Errorf("%d requests were sent, want %d", asked, asks)
			}
		}
		fails := func(err error) { go func() { reader.answer <- err }() }

		// A reconcile that ends during its request says nothing about the API server.
		ended, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		if _, err := ask(ended); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a reconcile that ended: %v", err)
		}
		fails(errors.New("the API server is down"))
		many("", 1)
		passing.SetTime(passing.Now().Add(clusterPause))
		fails(errors.New("the API server is down"))
		many("", 1)

		// While one repeats the request, the others continue without a response.
		passing.SetTime(passing.Now().Add(clusterPause))
		go func() { _, _ = ask(t.Context()) }()
		synctest.Wait()
		begun := time.Now()
		many("", 0)
		if took := time.Since(begun); took > 0 {
			t.Errorf("reconciles waited for %s", took)
		}
		reader.answer <- nil
		synctest.Wait()
		many("cluster-uid", 0)
	})
}

// clusterPause is how long a failed request for the cluster's UID is not repeated.
const clusterPause = 5 * time.Second

// A failure does not last if the clock is set back.
func TestAFailureToReadTheClusterEndsWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	passing := clocktesting.NewFakePassiveClock(time.Now())
	fails := true
	reader := interceptor.NewClient(fake.NewClientBuilder().WithObjects(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem, UID: "cluster-uid"}}).Build(),
		interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
			if fails {
				return fmt.Errorf("down")
			}
			return c.Get(ctx, key, o, options...)
		}})
	cluster := kube.NewClusterID(reader, passing, nil)
	if uid, err := cluster.Get(t.Context()); err == nil || uid != "" {
		t.Error("it is known before it was read")
	}
	fails = false
	passing.SetTime(passing.Now().Add(-time.Hour))
	if uid, err := cluster.Get(t.Context()); err != nil || uid != "cluster-uid" {
		t.Errorf("%q (%v) an hour before the failure", uid, err)
	}
}
