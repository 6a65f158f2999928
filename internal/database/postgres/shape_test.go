// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/api/v1alpha1"
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

// The engine decodes its settings strictly, so it has to know every field that the API server accepts.
func TestEveryFieldOfTheBlocksIsKnown(t *testing.T) {
	for name, blocks := range map[string][2]any{
		"credential": {v1alpha1.PostgreSQLCredential{}, settings{}}, "server": {v1alpha1.PostgreSQLServer{}, serverSettings{}},
	} {
		if diff := cmp.Diff(fieldsOf(blocks[0]), fieldsOf(blocks[1])); diff != "" {
			t.Errorf("the block of the %s and the engine's settings differ (-API +engine): %s", name, diff)
		}
	}
}
