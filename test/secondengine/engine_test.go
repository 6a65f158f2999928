// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secondengine

import (
	"fmt"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/fault"
)

func TestTheSecondEngineSatisfiesTheContract(t *testing.T) {
	engine := New()
	set := func(flag *bool) func(*testing.T) func() {
		change := func(to bool) {
			engine.mu.Lock()
			defer engine.mu.Unlock()
			*flag = to
		}
		return func(*testing.T) func() {
			change(true)
			return func() { change(false) }
		}
	}
	block := set(&engine.blocked)
	count := 0
	databasetest.Run(t, databasetest.Harness{
		Engine: engine, Powers: sourcetest.Powers{Remover: true, Preflighter: true}, Patience: time.Second,
		Fresh: func(*testing.T) databasetest.Place {
			count++
			return databasetest.Place{
				Server: database.Server{Host: "pair.data", Port: 4711},
				Target: database.Target{Username: fmt.Sprintf("app%d", count), Strategy: DualPassword, Create: true, PasswordLength: 24, PasswordAlphabet: "Alphanumeric"},
			}
		},
		Forbid: func(at databasetest.Place) (databasetest.Place, fault.Reason) {
			at.Target.Username = "root"
			return at, fault.UsernameForbidden
		},
		Accepts: func(_ *testing.T, _ databasetest.Place, login, password string) bool {
			return engine.Accepts(login, password)
		},
		Outage: set(&engine.down),
		Open:   set(&engine.trust),
		Cripple: map[string]func(*testing.T, databasetest.Place, string){"locked": func(_ *testing.T, _ databasetest.Place, login string) {
			engine.mu.Lock()
			defer engine.mu.Unlock()
			engine.users[login].locked = true
		}},
		Block: func(t *testing.T, _ databasetest.Place) func() { t.Helper(); return block(t) },
	})
}
