// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

// even gives the ratios of a fleet at equal speed of the machine. Machines that others use too are faster now and slower then,
// by a third and more, and the two sides come one after the other. Both ask the same of the API server. So the processor time
// that this took it on one side, by what it took on the other, says how fast the machine was, and the ratios are corrected by
// that. That one side might cost the API server more is not hidden: what it costs more in the mean of the run is kept.
func (r Run) even(f Fleet) []float64 {
	more := r.more()
	return f.each(func(p Pair) (float64, bool) {
		floor, rekey := p.Floor.Issue.ServerCPU, p.Rekey.Issue.ServerCPU
		if floor == 0 || rekey == 0 {
			return p.Ratio(), true
		}
		return p.Ratio() * rekey / floor / more, true
	})
}

// more is the API server's processor time for each identity with rekey by that with the floor, over all pairs.
func (r Run) more() float64 {
	var floor, rekey float64
	for _, f := range r.Fleets {
		for _, p := range f.Pairs {
			floor += p.Floor.Issue.ServerCPU / float64(f.N)
			rekey += p.Rekey.Issue.ServerCPU / float64(f.N)
		}
	}
	if floor == 0 || rekey == 0 {
		return 1
	}
	return rekey / floor
}
