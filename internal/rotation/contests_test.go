// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/test/golden"
)

// able returns a change of the source's traits.
func able(t credential.Traits) change { return func(o *rotation.Observation) { o.Traits = t } }

// The traits of the other kinds of source.
var (
	minted      = able(credential.Traits{Durable: true, Provable: true, Revocable: true, Minted: true})
	proven      = able(credential.Traits{Durable: true, Provable: true})
	late        = able(credential.Traits{Durable: true})
	certificate = able(credential.Traits{})
)

// ways returns observations, as changes of a healthy one; each makes at least one row match.
func ways() []change {
	var all []change
	for _, stage := range []rotation.Stage{"", rotation.Proposed, rotation.Staged, rotation.Verified, rotation.Discarded} {
		all = append(all, func(o *rotation.Observation) {
			if stage != "" {
				pending(stage)(o)
			}
		})
	}
	return all
}

// situations yields all combinations of what makes rows match.
func situations(yield func(rotation.Observation) bool) {
	axes := [][]change{
		{as, noCurrent},
		ways(),
		{as, previous, func(o *rotation.Observation) { previous(o); publishedAgo(2 * time.Hour)(o) }},
		{as, func(o *rotation.Observation) { o.Fingerprint = "v2" }, due},
		{as, provenNow, rejectedTimes(1, time.Minute, rotation.Marker{}),
			rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerOurs, Seq: 9}), rejectedTimes(2, 0, rotation.Marker{State: rotation.MarkerOurs, Seq: 1}),
			rejectedTimes(2, time.Hour, rotation.Marker{State: rotation.MarkerForeign}), rejectedTimes(2, time.Hour, rotation.Marker{State: rotation.MarkerAbsent})},
		{as, func(o *rotation.Observation) { o.Target = rotation.TargetDiffers }, func(o *rotation.Observation) { o.Target = rotation.TargetForeign }},
		{as, func(o *rotation.Observation) { o.Rotate.Token = "x" }},
		{as, handedOver, func(o *rotation.Observation) { handedOver(o); inherited(o) }},
		{as, func(o *rotation.Observation) { o.Suspended = true }},
		{as, func(o *rotation.Observation) { o.Deleting = true }},
		{as, func(o *rotation.Observation) {
			if o.Current != nil {
				o.Current.ProposedAt = o.Now.Add(time.Hour)
			}
		}},
		{as, func(o *rotation.Observation) { o.PendingAnswer = credential.Rejected }},
	}
	if !combine(axes, yield) {
		return
	}
	// What does not depend on the traits is left out for the other kinds of source.
	combine(slices.Concat([][]change{{minted, proven, late, certificate}}, axes[:7], axes[8:10]), yield)
}

// combine yields every combination of one change of each axis; false if the caller has seen enough.
func combine(axes [][]change, yield func(rotation.Observation) bool) bool {
	var choose func(rest [][]change, o []change) bool
	choose = func(rest [][]change, chosen []change) bool {
		if len(rest) == 0 {
			return yield(with(chosen...))
		}
		for _, c := range rest[0] {
			if !choose(rest[1:], append(slices.Clone(chosen), c)) {
				return false
			}
		}
		return true
	}
	return choose(axes, nil)
}

func as(*rotation.Observation) {}

// contest is a pair of rows that can both match, and an observation in which they do and no earlier row does.
type contest struct {
	first, second string
	see           rotation.Observation
}

func contests() []contest {
	rows := rotation.Rows()
	seen := map[[2]string]bool{}
	var all []contest
	for o := range situations {
		first := ""
		for _, row := range rows {
			if !row.Matches(o) {
				continue
			}
			if first == "" {
				first = row.Name
				continue
			}
			if pair := [2]string{first, row.Name}; !seen[pair] {
				seen[pair] = true
				all = append(all, contest{first, row.Name, o})
			}
		}
	}
	return all
}

func TestTheRightRowWinsWheneverTwoMatch(t *testing.T) {
	t.Parallel()
	var lines []string
	for _, c := range contests() {
		lines = append(lines, fmt.Sprintf("%s before %s", c.first, c.second))
		if got := rotation.Next(c.see).Row; got != c.first {
			t.Errorf("row %q decides, want %q rather than %q", got, c.first, c.second)
		}
	}
	slices.Sort(lines)
	golden.Check(t, "testdata/pairs.txt", strings.Join(lines, "\n")+"\n")
}
