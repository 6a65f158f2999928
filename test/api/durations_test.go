// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/api/v1alpha1"
)

// poisons are strings that an API server would store in a field of type string, and that make every list of the kind by a Go
// client fail.
var poisons = []string{"3d", "1h30", "", "-5m", "+5m", "9999999999999h", "999999h999999h99999h", "1.5h", "1h 30m", "h", "5", "1µs", "1e3s", ".5s", "Inf", "null"}

// durationsOf returns the dotted paths below spec of every field of type duration, taken from the Go type.
func durationsOf(spec reflect.Type, path string) []string {
	if spec.Kind() == reflect.Pointer {
		spec = spec.Elem()
	}
	if spec == reflect.TypeFor[v1alpha1.Duration]() {
		return []string{path}
	}
	if spec.Kind() != reflect.Struct || spec.PkgPath() != "github.com/rekey/rekey/api/v1alpha1" {
		return nil
	}
	var out []string
	for field := range spec.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		out = append(out, durationsOf(field.Type, strings.Trim(path+"."+name, "."))...)
	}
	return out
}

func TestAnInvalidDurationIsRefusedOnCreateAndUpdate(t *testing.T) {
	ns := namespace(t)
	found := 0
	for kind := range smallest {
		spec, ok := reflect.TypeOf(typed(t, kind)).Elem().FieldByName("Spec")
		if !ok {
			t.Fatalf("%s has no spec", kind)
		}
		for _, path := range durationsOf(spec.Type, "") {
			found++
			for _, poison := range poisons {
				t.Run(fmt.Sprintf("%s %s %q", kind, path, poison), func(t *testing.T) {
					refuseDuration(t, ns, kind, path, poison)
				})
			}
		}
	}
	if found != 13 {
		t.Errorf("tested %d durations of 13: a kind or a duration is missing here", found)
	}
}

func refuseDuration(t *testing.T, namespace, kind, path, poison string) {
	t.Helper()
	born := object(t, kind, namespace, change{path: poison})
	said := refusalOf(t, kube.Create(t.Context(), born))
	good := object(t, kind, namespace, nil)
	if err := kube.Create(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	remove(t, good.DeepCopy())
	apply(t, good, change{path: poison})
	later := refusalOf(t, kube.Update(t.Context(), good))
	for _, lines := range [][]string{said, later} {
		mustName(t, lines, "spec."+path)
		if len(poison) <= 20 && !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, "3d is 72h") }) {
			t.Errorf("the refusal does not explain how to write days:\n%s", strings.Join(lines, "\n"))
		}
	}
}

func refusalOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		t.Fatal("stored")
	}
	said, err := words(err)
	if err != nil {
		t.Fatal(err)
	}
	return said
}
