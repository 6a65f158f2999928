// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/test/size"
)

// Mutants are generated from the planner's table and from the effects of a rotation. The simulation must notice each, except
// those in testdata/survivors.txt, which states why each is harmless or that internal/rotation notices it.

// mutant is one change that damages the table or the order of effects.
type mutant struct {
	name string
	rows []rotation.Row // a damaged table; nil for the real one
	swap [2]string      // two effects that are swapped; empty for none
}

// reorder swaps two effects: the first is only pretended, and happens right after the second, or at
// the end of the run.
type reorder struct {
	first, second string
	queued        func() error
}

func (r *reorder) run(w *world, kind string, apply func() error, pretend []func()) error {
	if kind == r.first && r.queued == nil {
		for _, p := range pretend {
			p()
		}
		r.queued = apply
		w.say("  (%s is only pretended)", kind)
		return nil
	}
	err := apply()
	if kind == r.second {
		w.watch.look(w)
		r.flush(w)
	}
	return err
}

func (r *reorder) flush(w *world) {
	if r.queued != nil {
		_ = r.queued()
		r.queued = nil
		w.say("  (%s is done now)", r.first)
		w.watch.look(w)
	}
}

// effectsOfARotation are in the order in which they happen.
var effectsOfARotation = []string{
	"save Proposed", "stage", "save Staged", "verify", "save Verified", "save Current", "publish", "save Published", "retire", "save Retired",
}

func mutants() []mutant {
	var all []mutant
	rows := rotation.Rows()
	for i, row := range rows {
		all = append(all, mutant{name: "without row " + row.Name, rows: slices.Delete(rotation.Rows(), i, i+1)})
	}
	for i := range rows[1:] {
		turned := rotation.Rows()
		turned[i], turned[i+1] = turned[i+1], turned[i]
		all = append(all, mutant{name: fmt.Sprintf("row %s before %s", rows[i+1].Name, rows[i].Name), rows: turned})
	}
	for i, first := range effectsOfARotation {
		for _, second := range effectsOfARotation[i+1:] {
			all = append(all, mutant{name: fmt.Sprintf("%s only after %s", first, second), swap: [2]string{first, second}})
		}
	}
	return all
}

func (m mutant) apply(w *world) {
	w.rows = m.rows
	if m.swap[0] != "" {
		w.swap = &reorder{first: m.swap[0], second: m.swap[1]}
	}
}

// simulated returns what the simulation notices; empty for nothing. The suite is the smallest that suffices: every single
// crash of a rotation, and everything that can happen to it, at every instant.
func (m mutant) simulated() string {
	for _, s := range []scenario{rotationScenario, swiftScenario, certificateScenario, lateScenario, provenScenario, mintedScenario} {
		if m.swap[0] != "" && s.kind != twoSlots {
			continue
		}
		noticed := ""
		try := func(tr trial) bool {
			if _, err := s.run(tr.plan, tr.instants, m.apply); err != nil {
				noticed = fmt.Sprintf("%s: %v", tr.name, err)
			}
			return noticed == ""
		}
		if try(trial{name: "no crash"}) {
			singles(1, 22, fates, nil, "")(try)
		}
		if noticed != "" {
			return noticed
		}
	}
	return m.lived()
}

// lived tests every instant of life.
func (m mutant) lived() string {
	names := make([]string, 0, len(instantsOfLife))
	for name := range instantsOfLife {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		in := instantsOfLife[name]
		s := scenario{until: max(9*time.Hour, in.until), setup: func(w *world) { w.keepsPast = in.until > 0 }}
		for k := 1; k <= 20; k++ {
			if _, err := s.run(nil, in.at(k), m.apply); err != nil {
				return fmt.Sprintf("%s at effect %d: %v", name, k, err)
			}
		}
	}
	// An edit of the spec while the process is dead: what it sent to the remote system must not be forgotten.
	edited := instantsOfLife["the spec is edited"]
	for k := 1; k <= 20; k++ {
		for _, f := range deaths {
			if _, err := (scenario{until: 9 * time.Hour}).run(map[int]fate{k: f}, edited.at(k), m.apply); err != nil {
				return fmt.Sprintf("the spec is edited and %s effect %d: %v", f, k, err)
			}
		}
	}
	if noticed := m.livedByOthers(); noticed != "" {
		return noticed
	}
	for name, s := range moments {
		if _, err := s.run(nil, nil, m.apply); err != nil {
			return fmt.Sprintf("%s: %v", name, err)
		}
	}
	return ""
}

// tried returns all mutants that must be noticed, and a sample of the listed survivors: those take the whole suite. It removes
// the others from the list.
func tried(t *testing.T, all []mutant, listed map[string]string) []mutant {
	t.Helper()
	var out, survivors []mutant
	for _, m := range all {
		if _, known := listed[m.name]; known {
			survivors = append(survivors, m)
		} else {
			out = append(out, m)
		}
	}
	drawn := size.Sample(size.RandomFrom(t, 1), survivors, 3, func(m mutant) bool { return m.rows == nil })
	kept := map[string]bool{}
	for _, m := range drawn {
		kept[m.name] = true
	}
	for _, m := range survivors {
		if !kept[m.name] {
			delete(listed, m.name)
		}
	}
	return append(out, drawn...)
}

// livedByOthers tests what can only happen to the kinds that are neither a login nor a certificate that is signed at once.
func (m mutant) livedByOthers() string {
	for _, k := range []kind{late, proven, minted} {
		for name, in := range instantsOf(k) {
			if m.swap[0] != "" || name != refusedFromNowOn && name != "the spec is edited" && name != "the candidate is refused" {
				continue
			}
			s := scenario{kind: k, until: max(9*time.Hour, in.until)}
			for i := 1; i <= 20; i++ {
				if _, err := s.run(nil, in.at(i), m.apply); err != nil {
					return fmt.Sprintf("%s at effect %d of kind %s: %v", name, i, k, err)
				}
			}
		}
	}
	return ""
}

func TestTheSimulationNoticesEveryMutantThatIsNotHarmless(t *testing.T) {
	t.Parallel()
	listed := readSurvivors(t, "testdata/survivors.txt")
	all := tried(t, mutants(), listed)
	noticed := make([]string, len(all))
	next := make(chan int)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := range next {
				noticed[i] = all[i].simulated()
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	group.Wait()

	elsewhere := readSurvivors(t, "../rotation/testdata/survivors.txt")
	survived := 0
	for i, m := range all {
		reason, known := listed[m.name]
		delete(listed, m.name)
		switch {
		case noticed[i] != "" && known:
			t.Errorf("testdata/survivors.txt lists %q, but it is noticed: %s", m.name, noticed[i])
		case noticed[i] != "":
			if testing.Verbose() {
				t.Logf("%s: %s", m.name, firstLine(noticed[i]))
			}
		case !known:
			t.Errorf("the mutant %q survives, and testdata/survivors.txt does not say why that is harmless", m.name)
		default:
			survived++
			if _, survives := elsewhere[m.name]; reason == noticedByTheTable && (survives || m.rows == nil) {
				t.Errorf("testdata/survivors.txt says of %q: %s; the tests there do not notice it", m.name, reason)
			}
		}
	}
	for name := range listed {
		t.Errorf("testdata/survivors.txt lists %q, which is not a mutant", name)
	}
	t.Logf("%d mutants: the simulation notices %d, and %d survive", len(all), len(all)-survived, survived)
}

// noticedByTheTable is the reason for a mutant that is not harmless, but that the tests of the table notice.
const noticedByTheTable = "the tests of internal/rotation notice it"

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// readSurvivors reads lines of the form "mutant: reason".
func readSurvivors(t *testing.T, path string) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		if !ok || len(reason) < 20 {
			t.Errorf("%s: %q has no reason", path, line)
		}
		listed[name] = reason
	}
	return listed
}
