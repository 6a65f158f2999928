// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/test/fixture"
)

// apiToken is an object of a kind that exists in this test only.
type apiToken struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   tokenSpec   `json:"spec"`
	Status tokenStatus `json:"status"`
}

type tokenSpec struct {
	RotationPolicyRef *v1alpha1.LocalReference `json:"rotationPolicyRef,omitempty"`
	Suspend           bool                     `json:"suspend,omitempty"`
}

type tokenStatus struct {
	Conditions         []metav1.Condition `json:"conditions,omitempty"`
	ObservedGeneration int64              `json:"observedGeneration,omitempty"`
}

type tokenList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata"`

	Items []apiToken `json:"items"`
}

func (t *apiToken) GetConditions() []metav1.Condition              { return t.Status.Conditions }
func (t *apiToken) SetConditions(conditions []metav1.Condition)    { t.Status.Conditions = conditions }
func (t *apiToken) SetObservedGeneration(generation int64)         { t.Status.ObservedGeneration = generation }
func (t *apiToken) GetSuspend() bool                               { return t.Spec.Suspend }
func (t *apiToken) GetRotationPolicyRef() *v1alpha1.LocalReference { return t.Spec.RotationPolicyRef }
func (t *apiToken) DeepCopyObject() runtime.Object                 { return t.copied() }

func (t *apiToken) copied() *apiToken {
	out := *t
	t.DeepCopyInto(&out.ObjectMeta)
	out.Status.Conditions = slices.Clone(t.Status.Conditions)
	return &out
}

func (l *tokenList) DeepCopyObject() runtime.Object {
	out := *l
	out.Items = nil
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].copied())
	}
	return &out
}

var tokens = schema.GroupVersion{Group: "test.rekey.dev", Version: "v1"}

// tokenReconciler reports the interval of a token's policy.
type tokenReconciler struct{ shared }

func (r *tokenReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &apiToken{}
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	policy, err := resolvePolicy(ctx, r.client, object.Namespace, object.Spec.RotationPolicyRef)
	found := report.Facts{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonServing, WakeAt: r.clock.Now().Add(time.Hour),
		Message: fmt.Sprintf("The token rotates every %s.", policy.Interval)}
	if err != nil {
		found.Ready, found.Reason, found.Cause = metav1.ConditionFalse, "", report.NewFailure(err, "")
	}
	return r.report(ctx, object.copied(), object, found)
}

// tokenKind is all that the program knows of the kind.
var tokenKind = kind{
	Kind: kube.Kind{
		Name: "Token", New: func() v1alpha1.Object { return &apiToken{} }, NewList: func() client.ObjectList { return &tokenList{} },
		References: []kube.Reference{policyReference},
	},
	gauges:     func(o v1alpha1.Object) report.Gauges { return report.Gauges{Renewal: new(o.GetCreationTimestamp())} },
	reconciler: func(s shared) reconcile.Reconciler { return &tokenReconciler{s} },
}

// startWith starts the manager with another table of kinds.
func startWith(t *testing.T, of kinds) *managed {
	t.Helper()
	m := &managed{world: newWorld(t), registry: prometheus.NewRegistry()}
	m.world.registry = m.registry
	scheme := testScheme(t)
	scheme.AddKnownTypeWithName(tokens.WithKind("Token"), &apiToken{})
	scheme.AddKnownTypeWithName(tokens.WithKind("TokenList"), &tokenList{})
	metav1.AddToGroupVersion(scheme, tokens)
	if err := client.IgnoreAlreadyExists(installTokens()); err != nil {
		t.Fatal(err)
	}
	apiClock := kube.NewAPIClock(clock.RealClock{})
	config := *apiServer
	config.Wrap(apiClock.Wrap)
	config.QPS = -1
	mgr, err := ctrl.NewManager(&config, ctrl.Options{
		Scheme: scheme, Logger: logr.Discard(), Cache: kube.CacheOptions(of.kube(), []string{m.namespace}, m.namespace, nil),
		Metrics: metricsserver.Options{BindAddress: "0"}, Controller: ctrlconfig.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = setup(t.Context(), mgr, Options{Namespaces: []string{m.namespace}, OperatorNamespace: m.namespace, Workers: 1,
		Clock: clock.RealClock{}, Skew: apiClock.Off, Issuers: fixture.Issuers(), Registry: m.registry, Version: "test"}, of); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if m.client, err = client.NewWithWatch(&config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return m
}

func installTokens() error {
	anything := &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)}
	_, err := envtest.InstallCRDs(apiServer, envtest.CRDInstallOptions{CRDs: []*apiextensionsv1.CustomResourceDefinition{{
		ObjectMeta: metav1.ObjectMeta{Name: "tokens." + tokens.Group},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{Group: tokens.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "tokens", Singular: "token", Kind: "Token", ListKind: "TokenList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: tokens.Version, Served: true, Storage: true,
				Schema:       &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: anything},
				Subresources: &apiextensionsv1.CustomResourceSubresources{Status: &apiextensionsv1.CustomResourceSubresourceStatus{}}}}},
	}}})
	return err
}

// Each kind of the API has one entry, so a kind without a controller is noticed.
func TestEveryKindOfTheAPIIsInTheTable(t *testing.T) {
	var api, table []string
	for name, of := range testScheme(t).KnownTypes(v1alpha1.GroupVersion) {
		if reflect.PointerTo(of).Implements(reflect.TypeFor[v1alpha1.Object]()) {
			api = append(api, name)
		}
	}
	for _, kind := range allKinds() {
		table = append(table, kind.Name)
	}
	slices.Sort(api)
	slices.Sort(table)
	if diff := cmp.Diff(api, table); diff != "" {
		t.Errorf("the table differs from the kinds of the API (-api +table):\n%s", diff)
	}
}

// A kind is one entry of the table: nothing else in the program knows this one, and it is set up, indexed, watched, counted,
// reported and shown in metrics.
func TestAKindInTheTableNeedsNoOtherEdit(t *testing.T) {
	m := startWith(t, append(allKinds(), tokenKind))
	object := &apiToken{ObjectMeta: metav1.ObjectMeta{Namespace: m.namespace, Name: "api"},
		Spec: tokenSpec{RotationPolicyRef: &v1alpha1.LocalReference{Name: "daily"}, Suspend: true}}
	if err := m.client.Create(m.ctx, object); err != nil {
		t.Fatal(err)
	}
	ready := func() string {
		if err := m.client.Get(m.ctx, client.ObjectKeyFromObject(object), object); err != nil {
			t.Fatal(err)
		}
		if c := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionReady); c != nil {
			return c.Reason + ": " + c.Message
		}
		return ""
	}
	reports := func(text string) {
		t.Helper()
		m.until(func() bool { return strings.Contains(ready(), text) }, func() string { return "the token reports " + ready() + ", not " + text })
	}
	reports("PolicyNotFound")
	policy := aPolicy()
	m.create(policy)
	reports("rotates every " + policy.Spec.Interval.String())
	m.until(func() bool { m.get(policy); return ptr.Deref(policy.Status.Users, 0) == 1 }, func() string { return "the policy does not count its user" })
	m.edit(policy, func() { policy.Spec.Interval = duration(48 * time.Hour) })
	reports("rotates every 48h")
	for name, labels := range map[string]map[string]string{
		"rekey_resource_condition":                   {"kind": "Token", "name": "api", "type": v1alpha1.ConditionReady, "status": "True"},
		"rekey_resource_suspended":                   {"kind": "Token", "name": "api"},
		"rekey_credential_renewal_timestamp_seconds": {"kind": "Token", "name": "api"},
	} {
		if m.counted(name, labels) == 0 {
			t.Errorf("no metric %s has the labels %v", name, labels)
		}
	}
}
