// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rekey/rekey/test/canary"
)

// panics make a reconcile panic at the worst moments: while it holds the new password, and while it holds an authority's
// private key.
var panics = []change{
	{"internal/database/postgres/stage.go", `	doing := fmt.Sprintf("staging login %q", login)
`, `	doing := fmt.Sprintf("staging login %q", login)
	if strings.HasPrefix(login, "broken") {
		panic(fmt.Sprintf("broken on purpose with %[1]v %+[1]v %#[1]v %[1]s %[1]q %[1]x", proposed))
	}
`},
	{"internal/database/postgres/stage.go", `	"fmt"
`, `	"fmt"
	"strings"
`},
	{"internal/lifecycle/perform.go", `	material, err := r.Source.Propose(ref)
	if err != nil {
`, `	material, err := r.Source.Propose(ref)
	if ref.Name == "broken" && !r.Traits.Durable {
		var nothing map[string]credential.Material
		nothing[ref.Name] = material
	}
	if err != nil {
`},
}

func TestAPanicShowsNoSecret(t *testing.T) {
	t.Parallel()
	l := &life{cluster: install(t, "default")}
	l.witness = l.watch()
	l.databases = []*database{startDatabase(t, 15)}
	l.operators = []*operator{l.run(build(t, "panicking", panics...), "rekey")}
	d := l.databases[0]
	l.create(adminSecret("plain-admin", "plain", d.passwords["plain"], d.Address()))
	l.apply(authorities + serverManifest("plain", d.Address(), "plain-admin", "") + identityManifest("broken", "own", "broken-mtls") +
		credentialManifest("broken", "plain", "broken_app", "") + credentialManifest("plain", "plain", "plain_app", ""))
	// A reconcile that panics affects no other.
	l.has("DatabaseCredential", "plain", "Published")
	l.has("ClientIdentity", "own-client", "Published")
	l.until("waiting for the panics to be logged", func() error {
		for _, word := range []string{"broken on purpose with", "assignment to entry in nil map"} {
			if !strings.Contains(l.operators[0].stderr.String(), word) {
				return fmt.Errorf("the log does not contain %q", word)
			}
		}
		return nil
	})
	scraped := l.operators[0].scrape()
	if !strings.Contains(scraped, "controller_runtime_reconcile_panics_total{controller=\"databasecredential\"}") {
		t.Error("the panics are not counted")
	}
	l.operators[0].stop()
	l.witness.stop()
	secrets, _ := l.witness.secrets()
	if len(secrets) < 6 {
		t.Errorf("saw only %d secrets", len(secrets))
	}
	for _, found := range canary.Search(secrets, l.texts()) {
		t.Error(found)
	}
}
