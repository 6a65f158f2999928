// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/size"
)

// bases are working objects, by kind: the ones that a life needs. A new field with a number is included automatically; a new
// kind with one must be added.
var bases = map[string]string{
	"CertificateAuthority": `
metadata: {name: own, namespace: tenant}
spec: {managed: {commonName: Own CA, secretName: own-ca}, constraints: {commonNames: ["*"], dnsNames: ["*.example.internal"]}}`,
	"ClusterCertificateAuthority": `
metadata: {name: internal}
spec: {managed: {commonName: Internal CA, secretName: internal-ca}, namespaceSelector: {}, constraints: {commonNames: ["*"], dnsNames: ["*.example.internal"]}}`,
	"ClientIdentity": `
metadata: {name: app, namespace: tenant}
spec: {authorityRef: {name: own}, commonName: app, secretName: app-mtls, rotationPolicyRef: {name: policy}}`,
	"ServerIdentity": `
metadata: {name: web, namespace: tenant}
spec: {authorityRef: {kind: ClusterCertificateAuthority, name: internal}, dnsNames: [web.example.internal], secretName: web-mtls}`,
	"RotationPolicy": `
metadata: {name: policy, namespace: tenant}
spec: {interval: 24h}`,
	"DatabaseServer": `
metadata: {name: orders, namespace: tenant}
spec: {engine: PostgreSQL, address: "db.data:5432", tls: {mode: Require}, adminSecretRef: {name: admin}, allowedUsernames: ["*"], postgresql: {allowedOwners: ["*"]}}`,
	"DatabaseCredential": `
metadata: {name: orders, namespace: tenant}
spec: {serverRef: {name: orders}, postgresql: {database: orders, owner: orders_owner}, username: orders_app, strategy: AlternatingUsers, secretName: orders-db, rotationPolicyRef: {name: policy}}`,
}

// number is a field of a spec that holds a duration or a count, with values at its bounds and between them.
type number struct {
	kind, path string
	values     []any
}

var bound = regexp.MustCompile(`duration\(self\) ([<>])= duration\('([^']+)'\)`)

// numbers returns all of them from the schemas, with their values.
func numbers(t *testing.T, all map[string]checker) []number {
	t.Helper()
	var out []number
	for _, kind := range slices.Sorted(maps.Keys(all)) {
		inSchema := map[string]bool{}
		spec := all[kind].structural.Properties["spec"]
		eachLeaf("", &spec, func(path string, s *structuralschema.Structural) {
			if values := valuesOf(t, kind+" "+path, s); values != nil {
				inSchema[path] = true
				out = append(out, number{kind, path, values})
			}
		})
		// The schema has every number of the Go type, with bounds.
		inType := map[string]bool{}
		field, ok := typeOf(t, kind).FieldByName("Spec")
		if !ok {
			t.Fatalf("%s has no spec", kind)
		}
		eachNumber("", field.Type, func(path string) { inType[path] = true })
		if diff := cmp.Diff(inType, inSchema); diff != "" {
			t.Errorf("%s has numbers without bounds, or bounds without numbers (-type +schema):\n%s", kind, diff)
		}
	}
	return out
}

func typeOf(t *testing.T, kind string) reflect.Type {
	t.Helper()
	for _, of := range []reflect.Type{reflect.TypeFor[v1alpha1.CertificateAuthority](), reflect.TypeFor[v1alpha1.ClusterCertificateAuthority](), reflect.TypeFor[v1alpha1.ClientIdentity](),
		reflect.TypeFor[v1alpha1.ServerIdentity](), reflect.TypeFor[v1alpha1.RotationPolicy](), reflect.TypeFor[v1alpha1.DatabaseServer](), reflect.TypeFor[v1alpha1.DatabaseCredential]()} {
		if of.Name() == kind {
			return of
		}
	}
	t.Fatalf("the test does not know the type of %s", kind)
	return nil
}

func eachNumber(path string, of reflect.Type, found func(path string)) {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch {
	case of == reflect.TypeFor[v1alpha1.Duration](), of.Kind() >= reflect.Int && of.Kind() <= reflect.Float64:
		found(path)
	case of.Kind() == reflect.Struct && of.PkgPath() == "github.com/rekey/rekey/api/v1alpha1":
		for f := range of.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			eachNumber(strings.Trim(path+"."+name, "."), f.Type, found)
		}
	}
}

func eachLeaf(path string, s *structuralschema.Structural, visit func(string, *structuralschema.Structural)) {
	if len(s.Properties) == 0 {
		visit(path, s)
	}
	for name, below := range s.Properties {
		eachLeaf(strings.Trim(path+"."+name, "."), &below, visit)
	}
}

// valuesOf returns the values of a number field; nil means no value, and so the default.
func valuesOf(t *testing.T, what string, s *structuralschema.Structural) []any {
	t.Helper()
	if s.Type == "integer" {
		if s.ValueValidation == nil || s.ValueValidation.Minimum == nil || s.ValueValidation.Maximum == nil {
			t.Errorf("%s has no bounds", what)
			return nil
		}
		least, most := int64(*s.ValueValidation.Minimum), int64(*s.ValueValidation.Maximum)
		return []any{nil, least, least + 1, most - 1, most}
	}
	ends := map[string]time.Duration{}
	for _, rule := range s.XValidations {
		for _, found := range bound.FindAllStringSubmatch(rule.Rule, -1) {
			end, err := time.ParseDuration(found[2])
			if err != nil {
				t.Fatal(err)
			}
			ends[found[1]] = end
		}
	}
	if len(ends) == 0 {
		return nil
	}
	least, most := ends[">"], ends["<"]
	if least <= 0 || most <= least {
		t.Errorf("%s has the bounds %s and %s", what, least, most)
	}
	out := []any{nil}
	for _, d := range []time.Duration{least, least + time.Second, least + 500*time.Millisecond, 2 * time.Minute, time.Hour, 24*time.Hour - time.Second, 24 * time.Hour, 300_000 * time.Hour, most - time.Second, most} {
		if d >= least {
			out = append(out, d.String())
		}
	}
	return out
}

// draw picks one of a number's values, and records it.
type draw struct {
	number
	value any
}

func (d draw) String() string { return fmt.Sprintf("%s %s=%v", d.kind, d.path, d.value) }

// content returns the object of a kind with the picked values; the first one picked for a field counts.
func (r *run) content(kind string, drawn []draw) map[string]any {
	r.Helper()
	content, set := map[string]any{}, map[string]bool{}
	if err := yaml.Unmarshal([]byte(bases[kind]), &content); err != nil {
		r.Fatal(err)
	}
	content["apiVersion"], content["kind"] = "rekey.dev/v1alpha1", kind
	for _, d := range drawn {
		if d.kind != kind || d.value == nil || set[d.path] {
			continue
		}
		set[d.path] = true
		at, _ := content["spec"].(map[string]any)
		names := strings.Split(d.path, ".")
		for _, name := range names[:len(names)-1] {
			below, ok := at[name].(map[string]any)
			if !ok {
				below = map[string]any{}
				at[name] = below
			}
			at = below
		}
		at[names[len(names)-1]] = d.value
	}
	return content
}

// TestNumbersAtTheirBounds runs credentials of every kind with numbers at the bounds of every field that has one, two at a
// time and all at once, as far as the API server stores them. Nothing overflows, nothing is renewed constantly, the levels
// come in order, and nothing expires silently.
func TestNumbersAtTheirBounds(t *testing.T) {
	lab := newLaboratory(t)
	all := numbers(t, lab.checkers)
	for _, n := range all {
		if bases[n.kind] == "" {
			t.Fatalf("%s has a number, and no object in this test", n.kind)
		}
	}
	if len(all) < 15 {
		t.Fatalf("found only %d numbers", len(all))
	}
	dice := size.RandomFrom(t, 9)
	plays, full := size.Number(8, 1500), size.Full()
	counts := map[string]int{}
	play := func(pinned ...draw) {
		drawn := make([]draw, 0, len(all))
		for _, n := range all {
			drawn = append(drawn, draw{n, n.values[dice.IntN(len(n.values))]})
			if n.path == "constraints.maxLifetime" && dice.IntN(4) > 0 {
				drawn[len(drawn)-1].value = n.values[len(n.values)-1] // Otherwise most lifetimes are longer than that.
			}
		}
		l := &lifetime{run: &run{T: t, laboratory: lab, ctx: t.Context()}, dice: dice, pinned: pinned, drawn: drawn, counts: counts}
		l.play()
	}
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.kind != b.kind && !full {
				continue
			}
			// Extreme values against one another; everything else is random.
			for _, x := range outermost(a.values) {
				for _, y := range outermost(b.values) {
					if full || dice.IntN(size.Choose(6, 3, 1)) == 0 {
						play(draw{a, x}, draw{b, y})
					}
				}
			}
		}
	}
	// The times of a life also depend on its UIDs, which the seed does not choose: a few short lives need some more.
	tooLittle := func() bool {
		return counts["lives"] < plays || counts["certificates"] < 5*counts["lives"] || counts["passwords"] < 2*counts["lives"]
	}
	for i := 0; i < plays || i < 4*plays && tooLittle(); i++ {
		play()
	}
	summary, err := json.Marshal(counts)
	t.Logf("%d numbers of %d kinds: %s (%v)", len(all), len(bases), summary, err)
	if tooLittle() {
		t.Errorf("too little was tested: %v", counts)
	}
}

func outermost(values []any) []any { return []any{values[1], values[len(values)-1]} }
