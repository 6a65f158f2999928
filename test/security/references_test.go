// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/rekey/rekey/test/world"
)

// fieldSchema is the part of an OpenAPI schema that the test needs.
type fieldSchema struct {
	Properties           map[string]fieldSchema `json:"properties"`
	Items                *fieldSchema           `json:"items"`
	AdditionalProperties *fieldSchema           `json:"additionalProperties"`
	Validations          []struct {
		Message string `json:"message"`
	} `json:"x-kubernetes-validations"`
}

type definition struct {
	Spec struct {
		Scope string `json:"scope"`
		Names struct {
			Kind string `json:"kind"`
		} `json:"names"`
		Versions []struct {
			Schema struct {
				OpenAPIV3Schema fieldSchema `json:"openAPIV3Schema"`
			} `json:"schema"`
		} `json:"versions"`
	} `json:"spec"`
}

func definitions(t *testing.T) []definition {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(world.Root(), "config", "crd", "bases", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs: %v", err)
	}
	var out []definition
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d definition
		if err := yaml.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// walk visits every field below s.
func (s fieldSchema) walk(path string, visit func(path string, s fieldSchema)) {
	visit(path, s)
	for name, below := range s.Properties {
		below.walk(path+"."+name, visit)
	}
	if s.Items != nil {
		s.Items.walk(path+"[]", visit)
	}
	if s.AdditionalProperties != nil {
		s.AdditionalProperties.walk(path+"{}", visit)
	}
}

// refers reports whether a field of a spec names another object, by its type or by its name.
func refers(path string, s fieldSchema) bool {
	for _, v := range s.Validations {
		if strings.HasPrefix(v.Message, "must be the name of an object") {
			return true
		}
	}
	name := path[strings.LastIndex(path, ".")+1:]
	if len(s.Properties) > 0 {
		return strings.HasSuffix(name, "Selector")
	}
	return strings.HasSuffix(name, "Ref") || strings.HasSuffix(name, "Name") && name != "commonName"
}

// TestEveryReferenceOfEveryKindIsTestedAcrossNamespaces fails if a new field names another object and is missing from the
// table of crossings.
func TestEveryReferenceOfEveryKindIsTestedAcrossNamespaces(t *testing.T) {
	found := map[string]bool{}
	for _, d := range definitions(t) {
		for _, version := range d.Spec.Versions {
			version.Schema.OpenAPIV3Schema.Properties["spec"].walk("spec", func(path string, s fieldSchema) {
				if refers(path, s) {
					found[d.Spec.Names.Kind+" "+path] = true
				}
			})
		}
	}
	tried := map[string]bool{}
	for _, c := range crossings() {
		tried[c.field] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(tried))); diff != "" {
		t.Errorf("fields that refer to other objects, and the tested ones (-in the CRDs +tested):\n%s", diff)
	}
}

func TestNoReferenceNamesANamespace(t *testing.T) {
	fields := 0
	for _, d := range definitions(t) {
		for _, version := range d.Spec.Versions {
			version.Schema.OpenAPIV3Schema.Properties["spec"].walk("spec", func(path string, _ fieldSchema) {
				fields++
				if name := path[strings.LastIndex(path, ".")+1:]; strings.EqualFold(name, "namespace") || strings.EqualFold(name, "namespaces") {
					t.Errorf("%s has the field %s", d.Spec.Names.Kind, path)
				}
			})
		}
	}
	if fields < 100 {
		t.Errorf("checked only %d fields", fields)
	}
}
