// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
)

// fieldsOf returns the names of a struct's fields in JSON, sorted.
func fieldsOf(of any) []string {
	var out []string
	for field := range reflect.TypeOf(of).Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// The openers decode their settings strictly, so they have to know every field that the API server accepts.
func TestEveryFieldOfTheMembersIsKnown(t *testing.T) {
	for name, pair := range map[string][2]any{
		"managed": {v1alpha1.ManagedAuthority{}, managedSettings{}}, "keyPair": {v1alpha1.KeyPairAuthority{}, keyPairSettings{}},
	} {
		if diff := cmp.Diff(fieldsOf(pair[0]), fieldsOf(pair[1])); diff != "" {
			t.Errorf("the member %s and its issuer's settings differ (-API +issuer): %s", name, diff)
		}
	}
}

func TestAnUnknownFieldIsRefused(t *testing.T) {
	for name, opener := range map[string]issuer.Opener{"managed": Managed{}, "keyPair": KeyPair{}} {
		_, err := opener.Open(t.Context(), issuer.Config{Settings: []byte(`{"secretName":"ca","commonname2":"x"}`), Now: time.Now()})
		if fault.ReasonOf(err, "") != fault.AuthorityInvalid || !strings.Contains(err.Error(), "commonname2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Managed{}).Create([]byte(`{"commonName":"x","keyUsage":"y"}`), time.Now()); fault.ReasonOf(err, "") != fault.AuthorityInvalid {
		t.Errorf("creating a key pair: %v", err)
	}
}
