// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const apiHead = `# The kinds, field by field

<!-- Written by make docs from the CRDs. Do not edit. -->

Group ` + "`rekey.dev`, version `v1alpha1`" + `. The same text is in ` + "`kubectl explain`" + `. Durations have hours, minutes and seconds,
such as ` + "`24h`, `1h30m` or `90s`" + `; the API server rejects any other form.
`

// apiPage returns docs/api.md: for each kind a table of its spec, its validation messages, and a table of its status.
func apiPage(folder string) (string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("finding CRDs in %s: %d found: %w", folder, len(files), err)
	}
	var out strings.Builder
	out.WriteString(apiHead)
	for _, file := range files {
		if err := kind(&out, file); err != nil {
			return "", fmt.Errorf("reading %s: %w", file, err)
		}
	}
	return out.String(), nil
}

func kind(out *strings.Builder, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &crd); err != nil {
		return err
	}
	if len(crd.Spec.Versions) != 1 {
		return fmt.Errorf("%d versions where one is expected", len(crd.Spec.Versions))
	}
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	names := crd.Spec.Names
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n%s; short name `%s`.\n", names.Kind, oneLine(schema.Description), crd.Spec.Scope, strings.Join(names.ShortNames, "`, `"))
	for _, part := range []string{"spec", "status"} {
		var page page
		page.walk(part, schema.Properties[part])
		fmt.Fprintf(out, "\n### %s: %s\n\n| Field | Type | Description |\n|---|---|---|\n%s", names.Kind, part, page.rows.String())
		if len(page.rules) > 0 {
			fmt.Fprintf(out, "\nThe API server rejects invalid objects with these messages:\n\n%s", strings.Join(page.rules, ""))
		}
	}
	return nil
}

// page collects the rows of a table and the messages of the rules in it.
type page struct {
	rows  strings.Builder
	rules []string
}

// walk adds the fields below a field. Rules are listed under the path of the object that they validate.
func (p *page) walk(path string, schema apiextensionsv1.JSONSchemaProps) {
	for _, rule := range schema.XValidations {
		line := fmt.Sprintf("- `%s`: %s\n", path, rule.Message)
		if !slices.Contains(p.rules, line) {
			p.rules = append(p.rules, line)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		field, below := schema.Properties[name], path+"."+name
		p.row(below, field, slices.Contains(schema.Required, name))
		switch {
		case name == "conditions":
			// A standard type, described in docs/conditions.md.
		case field.Items != nil && field.Items.Schema != nil:
			p.walk(below+"[]", *field.Items.Schema)
		case field.AdditionalProperties != nil && field.AdditionalProperties.Schema != nil:
			p.walk(below, field)
			p.walk(below+".*", *field.AdditionalProperties.Schema)
		default:
			p.walk(below, field)
		}
	}
}

func (p *page) row(path string, field apiextensionsv1.JSONSchemaProps, required bool) {
	facts := limits(field)
	if required {
		facts = append([]string{"required"}, facts...)
	}
	text := cell(oneLine(field.Description))
	if len(facts) > 0 {
		text += " (" + strings.Join(facts, "; ") + ")"
	}
	fmt.Fprintf(&p.rows, "| `%s` | %s | %s |\n", path, typeOf(field), text)
}

func typeOf(field apiextensionsv1.JSONSchemaProps) string {
	switch {
	case field.Items != nil && field.Items.Schema != nil:
		return "list of " + typeOf(*field.Items.Schema)
	case field.AdditionalProperties != nil && field.AdditionalProperties.Schema != nil:
		return "map of " + typeOf(*field.AdditionalProperties.Schema)
	case field.Format == "date-time":
		return "time"
	case slices.ContainsFunc(field.XValidations, func(rule apiextensionsv1.ValidationRule) bool { return strings.Contains(rule.Rule, "duration(self)") }):
		return "duration"
	}
	return field.Type
}

// limits returns the bounds that the API server enforces on a field, in words.
func limits(field apiextensionsv1.JSONSchemaProps) []string {
	var out []string
	if field.Default != nil {
		out = append(out, "default `"+string(field.Default.Raw)+"`")
	}
	if len(field.Enum) > 0 {
		var values []string
		for _, value := range field.Enum {
			values = append(values, "`"+strings.Trim(string(value.Raw), `"`)+"`")
		}
		out = append(out, "one of "+strings.Join(values, ", "))
	}
	if field.MaxLength != nil {
		out = append(out, fmt.Sprintf("at most %d characters", *field.MaxLength))
	}
	if field.MaxItems != nil {
		out = append(out, fmt.Sprintf("at most %d", *field.MaxItems))
	}
	if field.MaxProperties != nil {
		out = append(out, fmt.Sprintf("at most %d", *field.MaxProperties))
	}
	if field.Minimum != nil && field.Maximum != nil {
		out = append(out, fmt.Sprintf("from %g to %g", *field.Minimum, *field.Maximum))
	}
	return out
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
