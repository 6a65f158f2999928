// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// alterations are what a mutating webhook does to a Secret in transit, and what the error names; empty if the change is
// allowed.
var alterations = map[string]struct {
	change func(*corev1.Secret)
	named  string
}{
	"nothing":                       {func(*corev1.Secret) {}, ""},
	"one more label and annotation": {func(s *corev1.Secret) { s.Labels["team"], s.Annotations["seen"] = "web", "yes" }, ""},
	"the label of the cache":        {func(s *corev1.Secret) { s.Labels[v1alpha1.LabelManagedBy] = "platform" }, "label " + v1alpha1.LabelManagedBy},
	"no labels":                     {func(s *corev1.Secret) { s.Labels = nil }, "label " + v1alpha1.LabelKind},
	"an annotation":                 {func(s *corev1.Secret) { delete(s.Annotations, v1alpha1.AnnotationRevision) }, "annotation " + v1alpha1.AnnotationRevision},
	"a value":                       {func(s *corev1.Secret) { s.Data[credential.KeyPassword] = []byte("another-value-of-theirs") }, "data " + credential.KeyPassword},
	"a missing value":               {func(s *corev1.Secret) { delete(s.Data, credential.KeyPassword) }, "data " + credential.KeyPassword},
	"an extra value":                {func(s *corev1.Secret) { s.Data["theirs"] = []byte("another-value-of-theirs") }, "data theirs"},
}

func TestASecretStoredDifferentlyThanSentIsReported(t *testing.T) {
	for name, tc := range alterations {
		t.Run(name, func(t *testing.T) {
			altering := false
			c := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
				Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					if altering {
						tc.change(o.(*corev1.Secret))
					}
					return c.Create(ctx, o, opts...)
				},
			})
			w := world{Client: c, namespace: "default"}
			store := NewLedgered(w.ledgerOptions("orders"))
			must[Snapshot](t)(store.Load(t.Context()))
			must[Snapshot](t)(store.Save(t.Context(), goodLedger()))
			altering = true
			_, err := store.Publish(t.Context())
			if tc.named == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			expectFault(t, err, fault.ClassBlocked, fault.AdmissionDenied)
			if !strings.Contains(err.Error(), tc.named) || strings.Contains(err.Error(), "another-value") {
				t.Errorf("%v, want %q", err, tc.named)
			}
			if store.secret == nil {
				t.Error("the stored state is unknown")
			}
		})
	}
}

// Record before acting: a ledger that was changed in transit is not the recorded one.
func TestAnAlteredLedgerIsNotRecorded(t *testing.T) {
	for name, change := range map[string]func(*corev1.Secret){
		"a version is replaced": func(s *corev1.Secret) { s.Data[ledgerKeyCurrent] = []byte(`{}`) },
		"a version is dropped":  func(s *corev1.Secret) { delete(s.Data, ledgerKeyCurrent) },
		"all is dropped":        func(s *corev1.Secret) { s.Data = nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
				Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					change(o.(*corev1.Secret))
					return c.Create(ctx, o, opts...)
				},
			})
			w := world{Client: c, namespace: "default"}
			store := NewLedgered(w.ledgerOptions("orders"))
			must[Snapshot](t)(store.Load(t.Context()))
			_, err := store.Save(t.Context(), goodLedger())
			expectFault(t, err, fault.ClassBlocked, fault.AdmissionDenied)
		})
	}
}

func TestTheErrorForAnImmutableLedgerNamesTheCommand(t *testing.T) {
	w := world{Client: fake.NewClientBuilder().Build(), namespace: "default"}
	store := NewLedgered(w.ledgerOptions("orders"))
	must[Snapshot](t)(store.Load(t.Context()))
	must[Snapshot](t)(store.Save(t.Context(), goodLedger()))
	store.ledger.Immutable = new(true)
	more := goodLedger()
	more.LastSeq += 5
	_, err := store.Save(t.Context(), more)
	expectFault(t, err, fault.ClassBlocked, fault.APIServerFailed)
	if !strings.Contains(err.Error(), "kubectl replace --force -f -") {
		t.Errorf("%v", err)
	}
}
