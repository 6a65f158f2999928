// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crds

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const root = "../.."

type schema = apiextensionsv1.JSONSchemaProps

func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("reading %s: %v", file, err)
	}
}

// crds returns the CRDs by kind.
func crds(t *testing.T) map[string]apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := filepath.Glob(root + "/config/crd/bases/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]apiextensionsv1.CustomResourceDefinition{}
	for _, file := range files {
		var crd apiextensionsv1.CustomResourceDefinition
		read(t, file, &crd)
		out[crd.Spec.Names.Kind] = crd
	}
	if len(out) != 7 {
		t.Fatalf("%d kinds, not 7: %v", len(out), slices.Sorted(maps.Keys(out)))
	}
	return out
}

// fields calls visit for every field of our kinds, and reports what visit returns as a problem. It visits what belongs to
// Kubernetes itself (a condition, a label selector), but not its content. An element of a list or map has no name.
func fields(t *testing.T, visit func(path, name string, field schema) (wrong string)) {
	t.Helper()
	for kind, crd := range crds(t) {
		top := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
		for _, part := range []string{"spec", "status"} {
			walk(kind+": "+part, part, top.Properties[part], func(path, name string, field schema) {
				if wrong := visit(path, name, field); wrong != "" {
					t.Errorf("%s: %s", path, wrong)
				}
			})
		}
	}
}

func walk(path, name string, of schema, visit func(path, name string, field schema)) {
	visit(path, name, of)
	if name == "conditions" || name == "namespaceSelector" {
		return
	}
	for name, field := range of.Properties {
		walk(path+"."+name, name, field, visit)
	}
	if of.Items != nil {
		walk(path+"[]", "", *of.Items.Schema, visit)
	}
	if of.AdditionalProperties != nil {
		walk(path+".*", "", *of.AdditionalProperties.Schema, visit)
	}
}

func TestEveryDescriptionIsASentenceThatStartsWithTheFieldName(t *testing.T) {
	fields(t, func(_, name string, field schema) string {
		if name != "" && !(strings.HasPrefix(field.Description, name+" ") && strings.HasSuffix(field.Description, ".")) {
			return "the description is " + strconv.Quote(field.Description)
		}
		return ""
	})
}

func TestEveryStringListMapAndNumberIsBounded(t *testing.T) {
	fields(t, func(_, _ string, field schema) string {
		switch {
		case field.Type == "string" && field.MaxLength == nil && len(field.Enum) == 0 && field.Format != "date-time":
			return "a string without maxLength or enum"
		case field.Type == "array" && (field.MaxItems == nil || field.XListType == nil):
			return "a list without maxItems or listType"
		case field.AdditionalProperties != nil && field.MaxProperties == nil:
			return "a map without maxProperties"
		case field.Type == "integer" && field.Minimum == nil:
			return "a number without minimum"
		}
		return ""
	})
}

func TestSuspendIsTheOnlyBoolean(t *testing.T) {
	fields(t, func(_, name string, field schema) string {
		if field.Type == "boolean" && name != "suspend" {
			return "a boolean: make it an enumeration, which can grow"
		}
		return ""
	})
}

func TestEveryRuleHasAMessageWithTheFix(t *testing.T) {
	fields(t, func(_, _ string, field schema) string {
		for _, rule := range field.XValidations {
			if len(rule.Message) < 20 {
				return fmt.Sprintf("the rule %q has only the message %q", rule.Rule, rule.Message)
			}
		}
		return ""
	})
}

// TestDurationsHaveOneForm checks that each rule that compares durations skips exactly what Duration itself refuses: otherwise a wrong
// duration would be refused with an error of the rule, or escape it.
func TestDurationsHaveOneForm(t *testing.T) {
	form := regexp.MustCompile(`matches\('([^']*)'\)`)
	forms := map[string]bool{}
	fields(t, func(_, _ string, field schema) string {
		for _, rule := range field.XValidations {
			if !strings.Contains(rule.Rule, "duration(self") {
				continue
			}
			found := form.FindAllStringSubmatch(rule.Rule, -1)
			if len(found) == 0 {
				return fmt.Sprintf("the rule %q compares what may be no duration", rule.Rule)
			}
			for _, one := range found {
				forms[one[1]] = true
			}
		}
		return ""
	})
	if len(forms) != 1 {
		t.Errorf("rules know %d forms of a duration, want that of v1alpha1.Duration: %q", len(forms), slices.Sorted(maps.Keys(forms)))
	}
}

// TestRulesOverSeveralFieldsLeaveStoredObjectsEditable checks every rule of an object with several fields: Kubernetes itself
// excuses a stored value only if the whole object that holds the rule is unchanged, so the rule must compare its fields with
// the stored ones. A label selector is one value. A union is exempt: an object without exactly one of its blocks is not usable, and
// gets that block with its next change.
func TestRulesOverSeveralFieldsLeaveStoredObjectsEditable(t *testing.T) {
	rules := 0
	fields(t, func(_, name string, field schema) string {
		if len(field.Properties) < 2 || name == "namespaceSelector" {
			return ""
		}
		for _, rule := range field.XValidations {
			if strings.HasPrefix(rule.Message, "exactly one of the fields in [") {
				continue
			}
			rules++
			if !strings.Contains(rule.Rule, "oldSelf") {
				return fmt.Sprintf("the rule %q does not use oldSelf, so an object that was stored before the rule existed cannot be suspended", rule.Rule)
			}
			if strings.Contains(rule.Rule, "hasValue") != (rule.OptionalOldSelf != nil && *rule.OptionalOldSelf) {
				return fmt.Sprintf("the rule %q would not be evaluated on create, or not compile: optionalOldSelf and hasValue go together", rule.Rule)
			}
		}
		return ""
	})
	if rules < 15 {
		t.Errorf("found %d rules over several fields; want at least 15", rules)
	}
}

func TestTheColumnsThatKubectlGetShows(t *testing.T) {
	const (
		ready   = `.status.conditions[?(@.type=="Ready")].status`
		reason  = `.status.conditions[?(@.type=="Ready")].reason`
		message = `.status.conditions[?(@.type=="Ready")].message`
		age     = ".metadata.creationTimestamp"
	)
	authority := []string{"Ready " + ready, "Reason " + reason, "Expires .status.notAfter", "Age " + age, "(Secret) .spec['managed','keyPair'].secretName", "(Message) " + message}
	identity := slices.Replace(slices.Clone(authority), 4, 5, "(Secret) .spec.secretName", "(Revision) .status.revision")
	want := map[string][]string{
		"CertificateAuthority":        authority,
		"ClusterCertificateAuthority": authority,
		"ClientIdentity":              identity,
		"ServerIdentity":              identity,
		"RotationPolicy":              {"Ready " + ready, "Reason " + reason, "Interval .spec.interval", "Users .status.users", "Age " + age, "(Message) " + message},
		"DatabaseServer":              {"Ready " + ready, "Reason " + reason, "Address .spec.address", "Age " + age, "(Version) .status.serverVersion", "(Message) " + message},
		"DatabaseCredential": {"Ready " + ready, "Reason " + reason, "Next rotation .status.nextRotationTime", "Age " + age,
			"(Secret) .spec.secretName", "(Revision) .status.revision", "(Login) .status.activeUsername", "(Message) " + message},
	}
	for kind, crd := range crds(t) {
		t.Run(kind, func(t *testing.T) {
			var got []string
			for _, column := range crd.Spec.Versions[0].AdditionalPrinterColumns {
				name := column.Name
				if column.Priority == 1 {
					name = "(" + name + ")"
				}
				got = append(got, name+" "+column.JSONPath)
			}
			if diff := cmp.Diff(want[kind], got); diff != "" {
				t.Errorf("(-want +got; -o wide shows those in parentheses):\n%s", diff)
			}
		})
	}
}

func TestEveryKindHasACategoryAShortNameAndAStatus(t *testing.T) {
	short := map[string]string{}
	for kind, crd := range crds(t) {
		if !slices.Equal(crd.Spec.Names.Categories, []string{"rekey"}) || len(crd.Spec.Names.ShortNames) != 1 {
			t.Errorf("%s: categories %v, short names %v", kind, crd.Spec.Names.Categories, crd.Spec.Names.ShortNames)
			continue
		}
		name := crd.Spec.Names.ShortNames[0]
		if other, taken := short[name]; taken {
			t.Errorf("%s and %s have the same name %s", kind, other, name)
		}
		short[name] = kind
		version := crd.Spec.Versions[0]
		if version.Subresources == nil || version.Subresources.Status == nil || !version.Served || !version.Storage {
			t.Errorf("%s: no status subresource, or not served, or not stored", kind)
		}
		if crd.Spec.Conversion != nil {
			t.Errorf("%s: there is no webhook, yet a conversion", kind)
		}
	}
}

func TestPROJECTAndTheKustomizationNameEveryKind(t *testing.T) {
	var project struct {
		Resources []struct {
			Kind string `json:"kind"`
			API  struct {
				Namespaced bool `json:"namespaced"`
			} `json:"api"`
		} `json:"resources"`
	}
	read(t, root+"/PROJECT", &project)
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	read(t, root+"/config/crd/kustomization.yaml", &kustomization)
	want, got := map[string]bool{}, map[string]bool{}
	var files []string
	for kind, crd := range crds(t) {
		want[kind] = crd.Spec.Scope == apiextensionsv1.NamespaceScoped
		files = append(files, "bases/rekey.dev_"+crd.Spec.Names.Plural+".yaml")
	}
	for _, resource := range project.Resources {
		got[resource.Kind] = resource.API.Namespaced
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("PROJECT names other kinds, or differs about which are namespaced (-CRDs +PROJECT):\n%s", diff)
	}
	slices.Sort(files)
	slices.Sort(kustomization.Resources)
	if diff := cmp.Diff(files, kustomization.Resources); diff != "" {
		t.Errorf("config/crd/kustomization.yaml (-CRDs +kustomization):\n%s", diff)
	}
}
