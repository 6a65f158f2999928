// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

// comparison of two phases of a pair, by their times.
type comparison struct{ phase, other func(Pair) *Phase }

var (
	// throughput of rekey by that of the floor.
	throughput = comparison{floorPhase, issuePhase}
	// storms are the renewal of all by their first issue.
	storms = comparison{renewalPhase, issuePhase}
)

func (c comparison) of(p Pair) (phase, other *Phase, ok bool) {
	phase, other = c.phase(p), c.other(p)
	return phase, other, phase != nil && other != nil && phase.Seconds > 0 && other.Seconds > 0
}

// measured gives the comparison as the clock on the wall saw it, one for each pair.
func (f Fleet) measured(c comparison) []float64 {
	return f.each(func(p Pair) (float64, bool) {
		phase, other, ok := c.of(p)
		if !ok {
			return 0, false
		}
		return phase.Seconds / other.Seconds, true
	})
}

// even gives the comparison at equal speed of the machine. Machines that others use too are faster now and slower then, by a
// third and more, and the two sides come one after the other. Both ask the same of the API server. So the processor time that
// this took it in one phase, by what it took in the other, says how fast the machine was, and the times are divided by that. That
// one phase might cost the API server more is not hidden: what it costs more in the mean of all pairs of the run is kept.
func (r Run) even(f Fleet, c comparison) []float64 {
	more := r.more(c)
	return f.each(func(p Pair) (float64, bool) {
		phase, other, ok := c.of(p)
		if !ok {
			return 0, false
		}
		got := phase.Seconds / other.Seconds
		if phase.ServerCPU > 0 && other.ServerCPU > 0 {
			got *= other.ServerCPU / phase.ServerCPU * more
		}
		return got, true
	})
}

// more is the API server's processor time for each identity in one phase by that in the other, over all pairs.
func (r Run) more(c comparison) float64 {
	var sum, others float64
	for _, f := range r.Fleets {
		for _, p := range f.Pairs {
			if phase, other, ok := c.of(p); ok {
				sum += phase.ServerCPU / float64(f.N)
				others += other.ServerCPU / float64(f.N)
			}
		}
	}
	if sum == 0 || others == 0 {
		return 1
	}
	return sum / others
}
