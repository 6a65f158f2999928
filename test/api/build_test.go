// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// many returns n different strings, made from a pattern with one %d.
func many(n int, pattern string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(pattern, i)
	}
	return out
}

func matching(operator string, values ...string) map[string]any {
	return map[string]any{"matchExpressions": []map[string]any{{"key": "team", "operator": operator, "values": values}}}
}

func everyName() change {
	return change{
		"commonName": "app", "organizations": []string{"Example", "web"}, "dnsNames": []string{"app.example.internal"},
		"uris":        []string{"spiffe://example.internal/ns/web/sa/app", "https://example.com/app?x=1#y", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"},
		"ipAddresses": []string{"10.0.0.1", "fd00::1"}, "emailAddresses": []string{"ops@example.com"},
	}
}

// decode fills a Go object from an untyped one, as a Go program would have filled it.
func decode(t *testing.T, from *unstructured.Unstructured, into client.Object) {
	t.Helper()
	text, err := yaml.Marshal(from.Object)
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// specOf returns the spec as which a Go object is serialized.
func specOf(t *testing.T, object runtime.Object) any {
	t.Helper()
	var out map[string]any
	text, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out["spec"]
}

func length(t *testing.T, list client.ObjectList) int {
	t.Helper()
	n, err := meta.ExtractList(list)
	if err != nil {
		t.Fatal(err)
	}
	return len(n)
}
