// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

const shown = "orders-db" // the user's Secret

// loginData is the data of a login's user's Secret in these tests.
func loginData(current Record) (map[string][]byte, error) {
	return map[string][]byte{
		"type":                 []byte("postgresql"),
		credential.KeyUsername: current.Material[credential.KeyUsername].Reveal(),
		credential.KeyPassword: current.Material[credential.KeyPassword].Reveal(),
	}, nil
}

func (w world) ledgerOptions(who string) LedgeredOptions {
	return LedgeredOptions{
		Options: Options{
			Client: w.Client, Live: w.Client, Owner: owner("DatabaseCredential", who), DeletionPolicy: v1alpha1.DeletionRetain,
			Namespace: w.namespace, SecretName: shown, SecretType: v1alpha1.SecretTypePostgreSQL, Data: loginData,
		},
		Check: checkTestLogins, Candidate: testCandidate, ShownKeys: []string{credential.KeyUsername, credential.KeyPassword},
	}
}

// testLogins are the logins that the spec derives in these tests, by slot.
var testLogins = map[string]string{"a": "app_a", "b": "app_b"}

func checkTestLogins(l Ledger) error {
	for name, record := range l.Records() {
		login, ok := testLogins[record.Slot]
		if named := record.Material.String(credential.KeyUsername); !ok || named != "" && named != login {
			return fmt.Errorf("its %s version names a login or a slot that is not derived from the spec (those are app_a and app_b)", name)
		}
	}
	return nil
}

func testCandidate(data map[string][]byte) (string, credential.Material, bool) {
	for slot, login := range testLogins {
		if login == string(data[credential.KeyUsername]) && len(data[credential.KeyPassword]) > 0 {
			return slot, credential.Material{
				credential.KeyUsername: credential.NewSensitive(data[credential.KeyUsername]),
				credential.KeyPassword: credential.NewSensitive(data[credential.KeyPassword]),
			}, true
		}
	}
	return "", nil, false
}

// published advances a credential until its user's Secret shows version 2.
func (w world) published(t *testing.T, opts LedgeredOptions) {
	t.Helper()
	store := NewLedgered(opts)
	must[Snapshot](t)(store.Load(t.Context()))
	must[Snapshot](t)(store.Save(t.Context(), goodLedger()))
	snapshot := must[Snapshot](t)(store.Publish(t.Context()))
	if snapshot.Target != rotation.TargetShowsCurrent {
		t.Fatalf("target %s after Publish", snapshot.Target)
	}
}

func (w world) ledgerName(who string) string { return LedgerName("DatabaseCredential", who) }

func expectFault(t *testing.T, err error, class fault.Class, reason fault.Reason) {
	t.Helper()
	if fault.Classify(err) != class || fault.ReasonOf(err, "") != reason {
		t.Errorf("got %v (%v, %v), want %v, %v", err, fault.Classify(err), fault.ReasonOf(err, ""), class, reason)
	}
	if err != nil && strings.Contains(err.Error(), canary) {
		t.Error("the error shows a password")
	}
}

func expectTarget(t *testing.T, snapshot Snapshot, want rotation.TargetState) {
	t.Helper()
	if snapshot.Target != want {
		t.Errorf("target is %s (%s), want %s", snapshot.Target, snapshot.Conflict, want)
	}
	if (snapshot.Conflict != "") != (want == rotation.TargetForeign) {
		t.Errorf("conflict %q with target %s", snapshot.Conflict, snapshot.Target)
	}
	if strings.Contains(snapshot.Conflict, canary) {
		t.Error("the conflict shows a password")
	}
}

// bare keeps the fields that a test compares.
func bare(secret *corev1.Secret) corev1.Secret {
	return corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Labels: secret.Labels, Annotations: secret.Annotations, OwnerReferences: secret.OwnerReferences},
		Type:       secret.Type, Data: secret.Data,
	}
}

func change(f func(*corev1.Secret)) func(*testing.T, world) {
	return func(t *testing.T, w world) { t.Helper(); w.edit(t, shown, f) }
}

// readerFunc is a reader of single objects.
type readerFunc func(ctx context.Context, key client.ObjectKey, obj client.Object) error

func (f readerFunc) Get(ctx context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	return f(ctx, key, obj)
}

func (f readerFunc) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("nothing is listed")
}
