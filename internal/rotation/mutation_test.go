// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

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
)

// Mutants are generated from the table and from the effects of a rotation. Each must be noticed by the simulation or by
// the judgements; those that are not are listed in testdata/survivors.txt, each with the reason why it is harmless.

// mutant is one damage.
type mutant struct {
	name string
	rows []rotation.Row // a damaged table; nil for the real one
	swap [2]string      // two effects that are turned around; empty for none
}

// reorder turns two effects around: the first is answered for without being done, and done right after the second, or at
// the end of the pass.
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

// effectsOfARotation in the order in which they are done.
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

// simulated tells what the simulation notices; empty for nothing. The suite is the smallest that is enough: every single
// crash of a rotation, and everything that can happen to it, at every instant.
func (m mutant) simulated() string {
	for _, s := range []scenario{rotationScenario, swiftScenario, certificateScenario} {
		if m.swap[0] != "" && s.kind == certificate {
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

// lived tries every instant of life.
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
	// An edit of the spec while the process is dead: what it had told the remote end must not be forgotten.
	edited := instantsOfLife["the spec is edited"]
	for k := 1; k <= 20; k++ {
		for _, f := range deaths {
			if _, err := (scenario{until: 9 * time.Hour}).run(map[int]fate{k: f}, edited.at(k), m.apply); err != nil {
				return fmt.Sprintf("the spec is edited and %s effect %d: %v", f, k, err)
			}
		}
	}
	for name, s := range moments {
		if _, err := s.run(nil, nil, m.apply); err != nil {
			return fmt.Sprintf("%s: %v", name, err)
		}
	}
	return ""
}

// judged tells what the judgements notice.
func (m mutant) judged(pairs []contest) (noticed string) {
	if m.rows == nil {
		return ""
	}
	defer func() {
		if r := recover(); r != nil {
			noticed = fmt.Sprint("panic: ", r)
		}
	}()
	for name, tc := range judgements {
		if wrong := tc.wrong(m.rows); wrong != "" {
			return name + ": " + wrong
		}
	}
	for _, c := range pairs {
		if d := rotation.Decide(m.rows, c.see); d.Row != c.first {
			return fmt.Sprintf("%s should win over %s", c.first, c.second)
		}
	}
	return ""
}

func TestEveryMutantIsNoticedOrKnownToBeHarmless(t *testing.T) {
	t.Parallel()
	pairs, all := contests(), mutants()
	type verdict struct{ simulated, judged string }
	verdicts := make([]verdict, len(all))
	next := make(chan int)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := range next {
				verdicts[i] = verdict{all[i].simulated(), all[i].judged(pairs)}
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	group.Wait()

	harmless := readSurvivors(t)
	bySimulation, byJudgement, survived := 0, 0, 0
	for i, m := range all {
		v := verdicts[i]
		_, listed := harmless[m.name]
		switch {
		case v.simulated != "":
			bySimulation++
		case v.judged != "":
			byJudgement++
		default:
			survived++
			if !listed {
				t.Errorf("the mutant %q survives, and testdata/survivors.txt does not say why that is harmless", m.name)
			}
			continue
		}
		if listed {
			t.Errorf("testdata/survivors.txt lists %q, but it is noticed: %s%s", m.name, v.simulated, v.judged)
		}
		if testing.Verbose() {
			t.Logf("%s: %s | %s", m.name, firstLine(v.simulated), v.judged)
		}
		delete(harmless, m.name)
	}
	for _, m := range all {
		delete(harmless, m.name)
	}
	for name := range harmless {
		t.Errorf("testdata/survivors.txt lists %q, which is no mutant", name)
	}
	t.Logf("%d mutants: %d noticed by the simulation, %d by the judgements alone, %d survive and are harmless",
		len(all), bySimulation, byJudgement, survived)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// readSurvivors reads lines of the form "mutant: reason".
func readSurvivors(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile("testdata/survivors.txt")
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
			t.Errorf("testdata/survivors.txt: %q has no reason", line)
		}
		listed[name] = reason
	}
	return listed
}
