// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestAnAnswerThatQuotesASecretIsWithheld(t *testing.T) {
	const password = "kV7tQ2mXw9LrB4nZ"
	ledger := map[string][]byte{"current": []byte(`{"seq":1,"material":{"password":"` + password + `"}}`),
		"database": []byte("orders"), "type": []byte("postgresql"), "namespace": []byte("warehouse")}
	for name, tc := range map[string]struct {
		answer   string
		withheld bool
	}{
		"a whole value":                 {"denied: " + string(ledger["current"]), true},
		"a word out of a longer value":  {`denied: the field "password" is "` + password + `"`, true},
		"a piece of the base64":         {"denied: bad value " + base64.StdEncoding.EncodeToString(ledger["current"])[:40] + "...", true},
		"a piece in the middle":         {"denied: bad value ..." + base64.StdEncoding.EncodeToString(ledger["current"])[21:60] + "...", true},
		"what it held before":           {`denied: "oldpassword-Zq8Wk3nT5yLc7RbV2mXs" may not change`, true},
		"a long name in capitals":       {"denied by ValidatingAdmissionPolicy of team-policies-2026, see RFC5280", false},
		"nothing of the Secret":         {`secrets is forbidden: User "system:serviceaccount:rekey-system:rekey" cannot create resource "secrets"`, false},
		"a short word that also occurs": {"denied: material is not allowed", false},
		"what is in the Secret's name":  {`secrets "orders" is forbidden: team policy`, false},
		"what is in the Secret's type":  {"denied: type servicebinding.io/postgresql is not allowed", false},
		"a value that is in no name":    {"denied: warehouse is not allowed", true},
	} {
		t.Run(name, func(t *testing.T) {
			refused := apierrors.NewForbidden(corev1.Resource("secrets"), "orders", errors.New(tc.answer))
			sent := &corev1.Secret{Type: "servicebinding.io/postgresql", Data: ledger}
			err := apiError("creating", client.ObjectKey{Namespace: "web", Name: "orders"}, sent, refused)
			if strings.Contains(err.Error(), password) {
				t.Errorf("the error shows the password: %v", err)
			}
			if got := strings.Contains(err.Error(), "withheld"); got != tc.withheld {
				t.Errorf("withheld: %v, want %v (%v)", got, tc.withheld, err)
			}
			if !apierrors.IsForbidden(err) {
				t.Errorf("the kind of the error is lost: %v", err)
			}
		})
	}
}

// The type of the Secret that was sent counts as visible, whatever engine it is for, and no other type.
func TestOnlyTheTypeOfASecretIsVisible(t *testing.T) {
	for kind, withheld := range map[corev1.SecretType]bool{
		"servicebinding.io/postgresql": false, "servicebinding.io/rabbitmq": true, corev1.SecretTypeTLS: true, "rekey.dev/postgresql": true, "": true,
	} {
		sent := &corev1.Secret{Type: kind, Data: map[string][]byte{"type": []byte("postgresql")}}
		refused := apierrors.NewForbidden(corev1.Resource("secrets"), "orders", errors.New("denied: postgresql is not allowed"))
		err := apiError("creating", client.ObjectKey{Namespace: "web", Name: "orders"}, sent, refused)
		if got := strings.Contains(err.Error(), "withheld"); got != withheld {
			t.Errorf("type %q: withheld: %t, want %t (%v)", kind, got, withheld, err)
		}
	}
}
