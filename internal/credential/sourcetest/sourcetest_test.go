// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/internal/fault"
)

// harness returns a harness for the fake; bare is true for sources without any power.
func harness(fake *sourcetest.Fake, bare bool) sourcetest.Harness {
	source := fake.Source
	out := sourcetest.Harness{Traits: fake.Traits, Powers: sourcetest.Powers{Remover: true, Preflighter: true}}
	if bare {
		source, out.Powers = fake.Bare, sourcetest.Powers{}
	}
	count := 0
	out.Fresh = func(*testing.T) sourcetest.Subject {
		count++
		name := fmt.Sprintf("app%d", count)
		return sourcetest.Subject{
			Source: func(*testing.T) credential.Source { return source(name) },
			Accepts: func(_ *testing.T, m credential.Material) bool {
				return fake.Accepts(name, m.String(credential.KeyPassword))
			},
			Damaged: map[string]func(credential.Material) credential.Material{
				"nothing at all":   func(credential.Material) credential.Material { return credential.Material{} },
				"another one":      func(m credential.Material) credential.Material { return m.With(credential.KeyUsername, []byte("root")) },
				"without a secret": func(m credential.Material) credential.Material { return m.With(credential.KeyPassword, nil) },
			},
			Cripple: map[string]func(*testing.T, credential.Material){"closed": func(*testing.T, credential.Material) {
				slot := ""
				if len(fake.Traits.Slots) > 0 {
					slot = fake.Traits.Slots[0]
				}
				fake.Close(name, slot)
			}},
			Block:     func(*testing.T) func() { fake.SetBlocked(true); return func() { fake.SetBlocked(false) } },
			Forbidden: func(*testing.T) (credential.Source, fault.Reason) { return source(""), fault.UsernameForbidden },
		}
	}
	out.Patience = 10 * time.Millisecond
	out.Outage = func(*testing.T) func() { fake.SetDown(true); return func() { fake.SetDown(false) } }
	out.Open = func(*testing.T) func() { fake.SetTrust(true); return func() { fake.SetTrust(false) } }
	return out
}

func TestTheFakeSatisfiesTheContractWithEveryCombinationOfTraits(t *testing.T) {
	for bits := range 32 {
		traits := credential.Traits{Durable: bits&1 > 0, Provable: bits&2 > 0, Revocable: bits&4 > 0, Minted: bits&8 > 0}
		if bits&16 > 0 {
			traits.Slots = []string{"a", "b"}
		}
		t.Run(fmt.Sprintf("%+v", traits), func(t *testing.T) {
			for _, bare := range []bool{true, false} {
				sourcetest.Run(t, harness(&sourcetest.Fake{Traits: traits}, bare))
			}
		})
	}
}

func TestASourceThatAnswersLaterSatisfiesTheContract(t *testing.T) {
	fake := &sourcetest.Fake{Traits: credential.Traits{Durable: true}, Requests: 2}
	late := harness(fake, true)
	late.Outage = nil
	sourcetest.Run(t, late)
}

func TestFaultsCountAndFailEveryCallOfASource(t *testing.T) {
	fake := &sourcetest.Fake{Traits: credential.Traits{Durable: true, Provable: true, Revocable: true}}
	var faults sourcetest.Faults
	source := faults.Source(fake.Source("app"))
	remover, _ := credential.As[credential.Remover](source)
	preflighter, _ := credential.As[credential.Preflighter](source)
	change := credential.Change{Ref: credential.Ref{Seq: 1}, Material: credential.Material{credential.KeyPassword: credential.SensitiveString("x"),
		credential.KeyUsername: credential.SensitiveString("app")}}
	calls := map[string]func() error{
		"Stage":     func() error { _, err := source.Stage(t.Context(), change); return err },
		"Verify":    func() error { _, err := source.Verify(t.Context(), change.Ref, change.Material); return err },
		"Retire":    func() error { return source.Retire(t.Context(), change) },
		"Remove":    func() error { return remover.Remove(t.Context(), change) },
		"Preflight": func() error { return preflighter.Preflight(t.Context(), change.Ref) },
	}
	for name, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		faults.Arm(1, sourcetest.FailBefore)
		if err := call(); fault.ReasonOf(err, "") != fault.ServerUnreachable {
			t.Errorf("%s, armed: %v", name, err)
		}
	}
	if diff := cmp.Diff(2*len(calls), len(faults.Calls())); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsAskWhatToDoWithEveryCallAndGiveUpWaiting(t *testing.T) {
	for mode, reached := range map[sourcetest.Mode]int{sourcetest.Hang: 0, sourcetest.LoseAnswer: 1, sourcetest.FailAfter: 1, sourcetest.FailBefore: 0} {
		var asked []string
		done := ""
		faults := sourcetest.Faults{Patience: time.Millisecond,
			Choose: func(call string) sourcetest.Mode { asked = append(asked, call); return mode }, Done: func(call string) { done += call }}
		got := 0
		err := faults.Call(t.Context(), "Check", func(context.Context) { got++ })
		if waited := mode == sourcetest.Hang || mode == sourcetest.LoseAnswer; errors.Is(err, context.DeadlineExceeded) != waited || fault.Classify(err) != fault.ClassTransient {
			t.Errorf("mode %d: %v", mode, err)
		}
		if got != reached || len(asked) != 1 || asked[0] != "Check" || done != "Check" {
			t.Errorf("mode %d: reached %d times, not %d; asked about %q, done %q", mode, got, reached, asked, done)
		}
	}
}
