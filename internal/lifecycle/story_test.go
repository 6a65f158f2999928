// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/test/golden"
)

// narrate adds one run to the story. A run that did nothing and reports what its predecessor reported is left out.
func (w *world) narrate(out lifecycle.Outcome, died bool) {
	switch {
	case died:
		w.say("The process dies, and is started again.")
		return
	case out.Withdrawn:
		w.say("Withdraw. The finalizer is removed.%s", remains(out))
		return
	}
	words := make([]string, 0, len(out.Performed))
	for _, step := range out.Performed {
		words = append(words, string(step))
	}
	did := strings.Join(words, ", ")
	if did != "" {
		did += ". "
	}
	now := out.Decision.Message
	if out.Err != nil {
		now = fmt.Sprintf("%s fails: %v.", out.FailedStep, out.Err)
	}
	if out.Conflict {
		now = "Another process wrote first; it observes again."
	}
	now += health(out.Health)
	if did == "" && now == w.reported {
		if out.Err != nil {
			w.repeats++
		}
		return
	}
	if w.repeats > 0 {
		w.say("  (tried %d times more until then)", w.repeats)
	}
	w.reported, w.repeats = now, 0
	w.say("%s%s", did, now)
}

func remains(out lifecycle.Outcome) string {
	if out.Remains == "" {
		return ""
	}
	return " Left behind: " + out.Remains + "."
}

func health(h rotation.Health) string {
	text := ""
	if h.Level != rotation.LevelNone {
		text += fmt.Sprintf(" [%s: deadline %s]", h.Level, h.Deadline.Format(time.RFC3339))
	}
	if h.Overdue {
		text += fmt.Sprintf(" [RotationOverdue: was due %s]", h.Due.Format(time.RFC3339))
	}
	return text
}

func at(d time.Duration, what string, do func(*world)) event { return event{at: d, what: what, do: do} }

func TestStoriesReadAsTheyShould(t *testing.T) {
	t.Parallel()
	down := func(d time.Duration) func(*world) { return func(w *world) { w.upAt = w.now.Add(d) } }
	stories := map[string]struct {
		scenario
		plan map[int]fate
	}{
		"a-password-is-rotated":                               {scenario: rotationScenario},
		"a-certificate-is-renewed":                            {scenario: certificateScenario},
		"a-certificate-is-issued-late-while-the-process-dies": {scenario: lateScenario, plan: map[int]fate{3: dieAfter}},
		"a-certificate-waits-for-its-server": {
			scenario: scenario{kind: proven, until: 9 * time.Hour, orders: 2, script: []event{
				at(5*time.Hour, "The server that uses it is down for three hours.", func(w *world) { w.endpointUpAt = w.now.Add(3 * time.Hour) }),
			}},
		},
		"a-key-is-generated-by-its-provider": {scenario: mintedScenario, plan: map[int]fate{3: loseAnswer}},
		"a-key-is-revoked-by-its-provider": {
			scenario: scenario{kind: minted, until: 5 * time.Hour, script: []event{
				at(time.Hour, "The provider revokes the key.", refuseCurrent),
			}},
		},
		"a-login-without-markers-is-changed-by-hand": {
			scenario: scenario{kind: pair, until: 8 * time.Hour, script: []event{
				at(time.Hour, "An administrator removes the password.", refuseCurrent),
			}},
		},
		"the-process-dies-between-stage-and-commit":      {scenario: rotationScenario, plan: map[int]fate{12: dieAfter}},
		"a-change-takes-effect-after-its-answer-is-lost": {scenario: rotationScenario, plan: map[int]fate{11: dieInside}},
		"the-spec-is-edited-while-a-candidate-waits": {
			scenario: scenario{until: 9 * time.Hour, script: []event{
				at(5*time.Hour+31*time.Minute, "The remote system is down for an hour.", down(time.Hour)),
				at(5*time.Hour+45*time.Minute, "The spec is edited.", func(w *world) { w.spec.fingerprint = "v2" }),
			}},
			plan: map[int]fate{10: dieAfter},
		},
		"the-remote-system-is-down-until-the-password-is-too-old": {
			scenario: scenario{until: 15 * time.Hour, script: []event{at(4*time.Hour, "The remote system is down for ten hours.", down(10*time.Hour))}},
		},
		"a-leak-ends-the-overlap": {
			scenario: scenario{until: 7 * time.Hour, script: []event{
				at(6*time.Hour, "A user sets rekey.dev/retire-previous.", func(w *world) { w.spec.retirePrevious, w.watch.noOverlap = "leak", true }),
			}},
		},
		"the-database-is-restored": {
			scenario: scenario{until: 14 * time.Hour, setup: func(w *world) { w.keepsPast = true }, script: []event{
				at(9*time.Hour, "The remote system is restored from before the last rotation.", restoreRemote(10)),
			}},
		},
		"the-cluster-is-restored": {
			scenario: scenario{until: 14 * time.Hour, setup: func(w *world) { w.keepsPast = true }, script: []event{
				at(13*time.Hour, "The ledger and the Secret are restored from long ago.", restoreCluster(14)),
			}},
		},
		"it-is-deleted-while-the-remote-system-is-down": {
			scenario: scenario{until: 7 * time.Hour, script: []event{
				at(time.Hour, "The remote system is down for an hour.", down(time.Hour)),
				at(time.Hour+time.Minute, "The object is deleted, with deletionPolicy Delete.", deletes(true)),
			}},
		},
		"a-former-owner-hands-over": {
			scenario: scenario{until: 8 * time.Hour, script: []event{
				at(time.Hour, "It is suspended.", func(w *world) { w.spec.suspended = true }),
				at(2*time.Hour, "The logins belong to another owner, which hands them over.", instantsOfLife["it belongs to another owner, which hands it over"].do),
				at(3*time.Hour, "It is resumed.", func(w *world) { w.spec.suspended = false }),
			}},
			plan: map[int]fate{9: dieAfter},
		},
		"it-is-suspended": {
			scenario: scenario{until: 11 * time.Hour, script: []event{
				at(time.Hour, "It is suspended.", func(w *world) { w.spec.suspended = true }),
				at(2*time.Hour, "A user deletes the Secret.", func(w *world) { w.secret = object{} }),
				at(10*time.Hour, "It is resumed.", func(w *world) { w.spec.suspended = false }),
			}},
		},
	}
	for name, s := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := s.run(s.plan, nil, nil); err != nil {
				t.Error(err)
			}
			golden.Check(t, "testdata/stories/"+name+".txt", s.story(s.plan, nil, nil))
		})
	}
}

// I10: what fails permanently is retried less and less often, and never in a tight loop.
func TestAPermanentFailureIsRetriedLessAndLess(t *testing.T) {
	t.Parallel()
	const length = 48 * time.Hour
	cases := map[string]struct {
		scenario
		calls, writes int // at most, in two days
	}{
		"the remote system never comes back": {
			scenario: scenario{setup: func(w *world) { w.policy.MaxAge = 0 }, script: []event{
				at(time.Hour, "down", func(w *world) { w.upAt = w.now.Add(1000 * time.Hour) })}},
			calls: 330, writes: 20,
		},
		"it never existed": {
			scenario: scenario{setup: func(w *world) { w.upAt = start.Add(1000 * time.Hour) }},
			calls:    620, writes: 2,
		},
		"every candidate is refused": {
			scenario: scenario{script: []event{at(time.Hour, "refuses", func(w *world) {
				for seq := int64(2); seq < 5000; seq++ {
					w.refuses[seq] = true
				}
			})}},
			calls: 1800, writes: 1100,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(twoSlots)
			if tc.setup != nil {
				tc.setup(w)
			}
			p := w.boot()
			script := tc.script
			for w.now.Before(start.Add(length)) {
				out, _ := w.reconcile(p)
				wake := out.WakeAt()
				if len(script) > 0 && start.Add(script[0].at).Before(wake) {
					wake = start.Add(script[0].at)
					script[0].do(w)
					script = nil
				}
				w.sleep(wake)
			}
			if w.remoteCalls > tc.calls || w.writes > tc.writes {
				t.Errorf("%d calls to the remote system and %d writes in %s, want at most %d and %d", w.remoteCalls, w.writes, length, tc.calls, tc.writes)
			}
			if w.watch.broken != nil {
				t.Error(w.watch.broken)
			}
			t.Logf("%d calls, %d writes", w.remoteCalls, w.writes)
		})
	}
}

// R12: over a long life, rotations are neither doubled nor skipped, whatever happens to single effects.
func TestALongLifeRotatesOnceInEveryInterval(t *testing.T) {
	t.Parallel()
	const intervals = 20
	for seed := range uint64(60) {
		dice := rand.New(rand.NewPCG(seed, 7))
		plan := map[int]fate{}
		for effect := 1; effect < 600; effect++ {
			if dice.IntN(12) == 0 {
				plan[effect] = fates[dice.IntN(len(fates))]
			}
		}
		s := scenario{until: intervals * 6 * time.Hour}
		w, err := s.run(plan, nil, nil)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, s.story(plan, nil, nil))
		}
		// An interval is six hours, at most a tenth shorter, and a delay of some minutes is not a skipped rotation.
		if got := w.watch.publications(); got < intervals-1 || got > intervals*11/10+1 {
			t.Errorf("seed %d: %d versions were published in %d intervals", seed, got, intervals)
		}
	}
}

// I10: a server that refuses and accepts in turn costs at most one published version an hour, and a few candidates.
func TestAServerThatFlapsCostsFewVersions(t *testing.T) {
	t.Parallel()
	const hours = 24
	for _, k := range []kind{proven, minted} {
		for _, flaps := range []time.Duration{time.Minute, 7 * time.Minute, 25 * time.Minute} {
			t.Run(fmt.Sprint(k, " every ", flaps), func(t *testing.T) {
				t.Parallel()
				w := newWorld(k)
				w.flaps, w.policy.ProbeInterval, w.policy.Overlap = flaps, 5*time.Minute, 0
				w.watch.restored, w.watch.noOverlap = true, true
				p := w.boot()
				for w.now.Before(start.Add(hours * time.Hour)) {
					out, _ := w.reconcile(p)
					w.sleep(out.WakeAt())
				}
				published, proposed := w.watch.publications(), w.passwords
				t.Logf("%d versions were published, %d were created", published, proposed)
				if published > hours+1 || proposed > 6*hours {
					t.Errorf("%d versions were published and %d created in %d hours, want at most one an hour, and six", published, proposed, hours)
				}
				if w.watch.broken != nil {
					t.Error(w.watch.broken)
				}
			})
		}
	}
}
