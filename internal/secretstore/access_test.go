// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/rekey/rekey/internal/fault"
)

func TestNoErrorQuotesASecret(t *testing.T) {
	ctx := t.Context()
	quoting := &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: 403, Reason: metav1.StatusReasonForbidden,
		Message: "admission webhook denied: data is " + canary,
	}}
	refuse := func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return quoting }
	c := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{Create: refuse})
	w := world{Client: c, namespace: "default"}
	store := NewLedgered(w.ledgerOptions("orders"))
	must[Snapshot](t)(store.Load(ctx))
	store.content = goodLedger()
	_, err := store.Publish(ctx)
	expectFault(t, err, fault.ClassTransient, fault.APIServerFailed)
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "403 Forbidden") {
		t.Errorf("the API server's error is lost: %v", err)
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Code != 403 {
		t.Errorf("the code is lost: %v", err)
	}
}

func TestAnswersOfTheAPIServerComeThrough(t *testing.T) {
	ctx := t.Context()
	broken := apierrors.NewInternalError(errors.New("etcd is down"))
	cases := map[string]interceptor.Funcs{
		"read": {Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
			return broken
		}},
		"create": {Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return broken }},
	}
	for name, funcs := range cases {
		t.Run(name, func(t *testing.T) {
			w := world{Client: interceptor.NewClient(fake.NewClientBuilder().Build(), funcs), namespace: "default"}
			store := NewLedgered(w.ledgerOptions("orders"))
			_, err := store.Load(ctx)
			if err == nil {
				_, err = store.Save(ctx, goodLedger())
			}
			expectFault(t, err, fault.ClassTransient, fault.APIServerFailed)
			if !apierrors.IsInternalError(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}
