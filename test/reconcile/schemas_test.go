// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/test/world"
)

// checker does what the API server does with an object of a kind before it stores it.
type checker struct {
	structural *structuralschema.Structural
	openAPI    validation.SchemaValidator
	cel        *cel.Validator
}

// checkers holds them by kind, from the CRDs.
func checkers(tb testing.TB) map[string]checker {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(world.Root(), "config", "crd", "bases", "*.yaml"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no CRDs: %v", err)
	}
	out := map[string]checker{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.Unmarshal(text, &crd); err != nil {
			tb.Fatal(err)
		}
		var props apiextensions.JSONSchemaProps
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &props, nil); err != nil {
			tb.Fatal(err)
		}
		structural, err := structuralschema.NewStructural(&props)
		if err != nil {
			tb.Fatal(err)
		}
		openAPI, _, err := validation.NewSchemaValidator(&props)
		if err != nil {
			tb.Fatal(err)
		}
		out[crd.Spec.Names.Kind] = checker{structural, openAPI, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
	}
	return out
}

// admit sets the defaults, and returns an error if the object would not be stored.
func (c checker) admit(ctx context.Context, object client.Object) error {
	content, err := contentOf(object)
	if err != nil {
		return err
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(content, c.structural)
	defaulting.Default(content, c.structural)
	problems := validation.ValidateCustomResource(nil, content, c.openAPI)
	if len(problems) == 0 {
		found, _ := c.cel.Validate(ctx, field.NewPath(""), c.structural, content, nil, celconfig.RuntimeCELCostBudget)
		problems = append(problems, found...)
	}
	if err := problems.ToAggregate(); err != nil {
		return err
	}
	text, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, object)
}

// contentOf returns the object as it is sent over the wire.
func contentOf(object client.Object) (map[string]any, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(text) || strings.Contains(string(text), "\ufffd") {
		return nil, fmt.Errorf("%s holds text that is not UTF-8", object.GetName())
	}
	var content map[string]any
	return content, json.Unmarshal(text, &content)
}
