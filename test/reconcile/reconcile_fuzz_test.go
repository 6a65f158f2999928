// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/canary"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

const namespace = "tenant"

// begun is the start time of every run: what a run does depends on the bytes, and on random keys.
var begun = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// laboratory is shared by all runs of a process.
type laboratory struct {
	scheme   *runtime.Scheme
	checkers map[string]checker
	kinds    []string
	good     map[string][][]byte
}

func newLaboratory(tb testing.TB) *laboratory {
	tb.Helper()
	ctrl.SetLogger(logr.Discard())
	scheme, err := world.Scheme()
	if err != nil {
		tb.Fatal(err)
	}
	l := &laboratory{scheme: scheme, checkers: checkers(tb)}
	l.kinds = slices.Sorted(maps.Keys(l.checkers))
	crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: "CA", KeyAlgorithm: "ECDSA-P256", Lifetime: 1000 * time.Hour}, begun)
	if err != nil {
		tb.Fatal(err)
	}
	short, other, err := ca.NewSelfSigned(ca.Root{CommonName: "Other", KeyAlgorithm: "Ed25519", Lifetime: time.Hour}, begun.Add(-50*time.Minute))
	if err != nil {
		tb.Fatal(err)
	}
	ledger, err := secretstore.EncodeLedger(secretstore.Ledger{LastSeq: 4, Current: &secretstore.Record{
		Version:  rotation.Version{Seq: 4, Slot: "b", Stage: rotation.Current, Fingerprint: "password/32/Alphanumeric", ProposedAt: begun, CommittedAt: begun, PublishedAt: begun},
		Material: credential.Material{"username": credential.SensitiveString("orders_app_b"), "password": credential.SensitiveString("Ledger-password-81mTnB5s"), "verifier": credential.SensitiveString("x")},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	l.good = map[string][][]byte{
		"tls.crt": {crt, short}, "tls.key": {key.Reveal(), other.Reveal()}, "ca.crt": {crt, short}, "tls-combined.pem": {append(key.Reveal(), crt...)},
		"username": {[]byte("rotator"), []byte("orders_app_a"), []byte("postgres")}, "password": {[]byte("Admin-password-hW3kQz81"), []byte("Other-password-9Zt7wQ2x\n")},
		"host": {[]byte("db.data:5432"), []byte("elsewhere:1")}, "version": {ledger["version"], []byte("2")}, "state": {ledger["state"]},
		"current": {ledger["current"]}, "pending": {ledger["current"]}, "previous": {ledger["current"]},
	}
	return l
}

// run is one random world.
type run struct {
	*testing.T
	*laboratory
	ctx         context.Context
	client      client.WithWatch
	objects     []client.Object
	clock       *clocktesting.FakePassiveClock
	reconcilers map[string]reconcile.Reconciler
	writes      int
	said        []string
}

// Eventf implements events.EventRecorder.
func (r *run) Eventf(_, _ runtime.Object, _, _, _, note string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(note, args...))
}

func (r *run) begin(c *chance) {
	stored := []client.Object{&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "cluster"}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{"app": "app"}}}}
	taken := map[string]bool{}
	keep := func(object client.Object) {
		if key := fmt.Sprintf("%T %s", object, client.ObjectKeyFromObject(object)); !taken[key] {
			taken[key] = true
			stored = append(stored, object)
		}
	}
	for range 1 + c.below(8) {
		r.makeObject(c, keep)
	}
	for range c.below(8) {
		r.makeSecret(c, keep)
	}
	r.open(stored)
}

// open starts the world with what is stored.
func (r *run) open(stored []client.Object) {
	r.clock = clocktesting.NewFakePassiveClock(begun)
	r.objects = nil
	for _, object := range stored {
		if _, ours := r.checkers[world.KindOf(object)]; ours {
			r.objects = append(r.objects, object)
		}
	}
	base := fake.NewClientBuilder().WithScheme(r.scheme).WithObjects(stored...).WithStatusSubresource(r.objects...)
	for kind := range r.checkers {
		if object, err := r.scheme.New(v1alpha1.GroupVersion.WithKind(kind)); err != nil {
			r.Fatal(err)
		} else if _, ok := object.(v1alpha1.PolicyUser); ok {
			base = base.WithIndex(object.(client.Object), "rekey.policy", none)
		}
	}
	r.client = interceptor.NewClient(base.Build(), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			r.checkWrite(o)
			return c.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			r.checkWrite(o)
			return c.Update(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			r.writes++
			return c.Delete(ctx, o, opts...)
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			r.checkWrite(o)
			return c.SubResource(sub).Update(ctx, o, opts...)
		},
	})
	r.reconcilers = controllers.Reconcilers(r.client, r.client, r, controllers.Options{
		Registry: prometheus.NewRegistry(), OperatorNamespace: namespace, AllowLoopback: true, Clock: r.clock, Skew: func() (time.Duration, bool) { return 0, true }, Issuers: fixture.Issuers(),
		Engines: map[v1alpha1.Engine]database.Engine{v1alpha1.EnginePostgreSQL: databasetest.NewFakeOf(postgres.New(postgres.Options{}))},
	})
}

func none(client.Object) []string { return nil }

// makeObject keeps an object if the API server would store it.
func (r *run) makeObject(c *chance, keep func(client.Object)) {
	kind := pick(c, r.kinds)
	text, err := c.manifest(kind, namespace, r.checkers[kind], begun)
	if err != nil {
		return
	}
	made, err := r.scheme.New(v1alpha1.GroupVersion.WithKind(kind))
	if err != nil {
		r.Fatal(err)
	}
	object, ok := made.(client.Object)
	if !ok || json.Unmarshal(text, object) != nil || r.checkers[kind].admit(r.ctx, object) != nil {
		return
	}
	keep(object)
}

func (r *run) makeSecret(c *chance, keep func(client.Object)) {
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pick(c, names), UID: "secret", CreationTimestamp: metav1.NewTime(begun)}}
	if c.next()%3 == 2 {
		object.Name = secretstore.LedgerName(pick(c, []string{"DatabaseCredential", "CertificateAuthority"}), pick(c, names))
	}
	object.Type = pick(c, []corev1.SecretType{"Opaque", corev1.SecretTypeTLS, v1alpha1.SecretTypeLedger, v1alpha1.SecretTypePostgreSQL})
	object.Labels, object.Annotations = c.secretMetadata()
	object.Data = c.secretData(r.good)
	keep(object)
}

// checkWrite lets a write through only if the API server would: a refusal is a bug of the product.
func (r *run) checkWrite(object client.Object) {
	r.writes++
	check, ours := r.checkers[world.KindOf(object)]
	if !ours {
		return
	}
	copied, ok := object.DeepCopyObject().(client.Object)
	if !ok {
		r.Fatalf("copying %T", object)
	}
	if err := check.admit(r.ctx, copied); err != nil {
		r.Errorf("the API server would refuse %s %s: %v", world.KindOf(object), object.GetName(), err)
	}
	r.consistent(copied)
}

// consistent checks every status that is written.
func (r *run) consistent(object client.Object) {
	var shown struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	text, err := json.Marshal(object)
	if err != nil {
		r.Fatal(err)
	}
	if err := json.Unmarshal(text, &shown); err != nil {
		r.Fatal(err)
	}
	all := shown.Status.Conditions
	if len(all) == 0 {
		return
	}
	bad := func(what string) { r.Errorf("%s %s %s: %+v", world.KindOf(object), object.GetName(), what, all) }
	if apimeta.FindStatusCondition(all, v1alpha1.ConditionReady) == nil {
		bad("has no Ready condition")
	}
	if apimeta.IsStatusConditionTrue(all, v1alpha1.ConditionStalled) && apimeta.IsStatusConditionTrue(all, v1alpha1.ConditionReconciling) {
		bad("is stalled and reconciling")
	}
	for _, c := range all {
		if c.Message == "" || strings.Contains(c.Message, "%!") {
			bad("has a malformed message")
		}
	}
}

// reconcileAll reconciles every object the given number of times.
func (r *run) reconcileAll(rounds int) {
	for range rounds {
		for _, object := range r.objects {
			result, err := r.reconcilers[world.KindOf(object)].Reconcile(r.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object)})
			if err != nil {
				r.Errorf("a reconcile of %s %s failed: %v", world.KindOf(object), object.GetName(), err)
			}
			if result.RequeueAfter < 0 || result.RequeueAfter > time.Hour {
				r.Errorf("a reconcile of %s %s asks to be repeated after %s", world.KindOf(object), object.GetName(), result.RequeueAfter)
			}
		}
	}
}

// quiet requires that nothing more is written while nothing changes.
func (r *run) quiet() {
	const enough = 12
	for range enough {
		before := r.writes
		r.reconcileAll(1)
		if r.writes == before {
			return
		}
	}
	r.Errorf("after %d rounds without a change there are still writes: %d so far", enough, r.writes)
}

// leakFree requires that no secret of the world appears in any output.
func (r *run) leakFree() {
	var secrets corev1.SecretList
	if err := r.client.List(r.ctx, &secrets); err != nil {
		r.Fatal(err)
	}
	known := map[string][]byte{}
	for _, s := range secrets.Items {
		for _, key := range []string{"password", "tls.key"} {
			if len(s.Data[key]) > 20 {
				known[s.Name+" "+key] = s.Data[key]
			}
		}
	}
	texts := map[string]string{"Events": strings.Join(r.said, "\n")}
	for _, object := range r.objects {
		if err := r.client.Get(r.ctx, client.ObjectKeyFromObject(object), object); err == nil {
			text, err := json.Marshal(object)
			if err != nil {
				r.Fatal(err)
			}
			texts[world.KindOf(object)+" "+object.GetName()] = string(text)
		}
	}
	for _, found := range canary.Search(known, texts) {
		r.Error(found)
	}
}

// FuzzReconcile runs every controller on a random world: no panic, no write that the API server would refuse, no
// contradiction in a status, no secret in any output, and no more writes in the end, now and after a day.
func FuzzReconcile(f *testing.F) {
	lab := newLaboratory(f)
	for seed := range 24 {
		bytes := make([]byte, 400)
		state := uint32(seed)*2654435761 + 1
		for i := range bytes {
			state = state*1664525 + 1013904223
			bytes[i] = byte(state >> 24)
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		r := &run{T: t, laboratory: lab, ctx: t.Context()}
		c := &chance{rest: bytes}
		r.begin(c)
		r.reconcileAll(2)
		r.quiet()
		r.clock.SetTime(begun.Add(time.Duration(c.below(48)) * time.Hour))
		for _, object := range r.objects {
			if c.next()%8 == 7 {
				_ = r.client.Delete(r.ctx, object)
			}
		}
		r.reconcileAll(2)
		r.quiet()
		r.leakFree()
	})
}
