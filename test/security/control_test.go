// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/canary"
)

// leaks are changes that make rekey reveal its secrets in every place that it can reach. They are built into a separate
// binary, to show that the search would find them.
var leaks = []change{
	// The password itself in the statement: the server's log, pg_stat_statements, pg_stat_activity.
	{"internal/database/postgres/stage.go", `s.stage(ctx, tx, ref, login, proposed.String(credential.KeyVerifier))`,
		`s.stage(ctx, tx, ref, login, string(proposed[credential.KeyPassword].Reveal()))`},
	{"internal/database/postgres/stage.go", `	member, err := isMember(ctx, tx, version(tx.Conn()), s.target.Owner, login)
`, `	if err := exec(ctx, tx, "SET LOCAL application_name = "+literal(verifier), "SELECT pg_catalog.pg_sleep(0.3)"); err != nil {
		return err
	}
	member, err := isMember(ctx, tx, version(tx.Conn()), s.target.Owner, login)
`},
	// Both outputs, a file, the metrics, an annotation (which kubectl shows, and which becomes a name in the managed
	// fields), a label, a status, and with it an Event and the audit log.
	{"internal/lifecycle/perform.go", `	material, err := r.Source.Propose(ref)
	if err != nil {
		return fault.During(err, "creating version %d", v.Seq)
	}
`, `	material, err := r.Source.Propose(ref)
	if err != nil {
		return fault.During(err, "creating version %d", v.Seq)
	}
	if password := string(material["password"].Reveal()); password != "" {
		leak(password)
	}
`},
	{"internal/lifecycle/perform.go", `func (r *run) perform(ctx context.Context, step rotation.Step) error {
`, `func leak(secret string) {
	fault.Leaked = secret
	println(secret)
	_, _ = os.Stdout.WriteString(secret + "\n")
	_ = os.WriteFile(os.TempDir()+"/leaked", []byte(secret), 0o600)
}

func (r *run) perform(ctx context.Context, step rotation.Step) error {
`},
	{"internal/lifecycle/perform.go", `	"errors"
`, `	"errors"
	"os"
`},
	{"internal/fault/fault.go", `type Class int
`, `type Class int

// Leaked is a secret.
var Leaked string
`},
	{"internal/report/metrics.go", `	for _, step := range performed {
`, `	m.errors.WithLabelValues(fault.Leaked, "leaked").Inc()
	for _, step := range performed {
`},
	{"internal/report/report.go", `	old := slices.Clone(after.GetConditions())
`, `	old := slices.Clone(after.GetConditions())
	found.Message += fault.Leaked
	found.Events = append(found.Events, ExtraEvent{v1alpha1.ReasonIssued, ActionPublish, fault.Leaked})
`},
	{"internal/secretstore/target.go", `o.setMetadata(&want.ObjectMeta, current.Seq)
`, `o.setMetadata(&want.ObjectMeta, current.Seq)
	if password := string(data["password"]); password != "" {
		want.Labels["leaked"] = password
		want.Annotations["leaked"] = password
		want.Annotations["leaked/"+password] = ""
	}
`},
}

// TestTheSearchFindsASecretInEveryPlace is the counter-proof: the search catches a rekey that reveals everything in every
// place.
func TestTheSearchFindsASecretInEveryPlace(t *testing.T) {
	t.Parallel()
	l := &life{cluster: install(t, "default")}
	l.witness = l.watch()
	l.databases = []*database{startDatabase(t, 18)}
	planted := "Planted-2f8Kq0ZxW7mB4tYc"
	l.operators = []*operator{l.run(build(t, "leaky", leaks...), "rekey "+planted, "SECRET="+planted)}
	d := l.databases[0]
	l.create(adminSecret("plain-admin", "plain", d.passwords["plain"], d.Address()))
	l.apply(authorities + serverManifest("plain", d.Address(), "plain-admin", "") + strings.Replace(credentialManifest("plain", "plain", "plain_app", ""), "WithSymbols", "Alphanumeric", 1))
	l.has("DatabaseCredential", "plain", "Published")
	// Not rekey's doing: the user's own annotation.
	l.apply(fmt.Sprintf(`
apiVersion: rekey.dev/v1alpha1
kind: RotationPolicy
metadata: {name: leaked, namespace: web, annotations: {note: %s}}
spec: {interval: 30s, overlap: {minimum: 1s}, warnBefore: 10s, alarmBefore: 5s}
`, planted))
	l.annotate(credentialNamed("plain"), v1alpha1.AnnotationRotate, "now")
	l.has("DatabaseCredential", "plain", "Overlapping")
	l.operators[0].scrape()
	l.operators[0].stop()
	l.witness.stop()
	secrets, _ := l.witness.secrets()
	texts := l.texts()
	where := map[string]bool{}
	for _, found := range canary.Search(secrets, texts) {
		_, place, _ := strings.Cut(found, " is in ")
		where[place] = true
	}
	for _, found := range canary.Search(map[string][]byte{"it": []byte(planted)}, texts) {
		where[strings.TrimPrefix(found, "it is in ")] = true
	}
	want := wantPlaces(l)
	// Users write the specs; rekey has no right to change them.
	want = slices.DeleteFunc(want, func(place string) bool { return place == "specs and data" })
	delete(where, "specs and data")
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(where))); diff != "" {
		t.Errorf("places where the search found a secret (-want +got):\n%s", diff)
	}
}
