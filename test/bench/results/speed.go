// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

// even gives the ratios of a fleet at equal speed of the machine. Machines that others use too are faster now and slower then,
// by a third and more, and the two sides come one after the other. Both ask the same of the API server: bars hold that, about
// writes and reads. So the processor time that this took it on one side, by what it took on the other, says how fast the machine
// was, and the ratios are corrected by that. That one side might cost the API server more is not hidden: what it costs more in
// the mean of the run is kept, and that this does not grow with the number of identities is a bar of its own.
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

// evenStorms is how long the renewals of a fleet took by the first issues, at equal speed in the same way. The two ask different
// things of the API server, a create here and an update there: what that makes in the mean of the run is kept.
func (r Run) evenStorms(f Fleet) []float64 {
	var issues, renewals float64
	for _, f := range r.Fleets {
		for _, p := range f.Pairs {
			if p.Rekey.Renewal != nil {
				issues += p.Rekey.Issue.ServerCPU / float64(f.N)
				renewals += p.Rekey.Renewal.ServerCPU / float64(f.N)
			}
		}
	}
	return f.each(func(p Pair) (float64, bool) {
		took, ok := storm(p)
		if !ok || p.Rekey.Issue.ServerCPU == 0 || p.Rekey.Renewal.ServerCPU == 0 {
			return took, ok
		}
		return took * p.Rekey.Issue.ServerCPU / p.Rekey.Renewal.ServerCPU * renewals / issues, true
	})
}

// more is the API server's processor time for each identity with rekey by that with the floor, over all pairs; 1 where it was
// not measured.
func (r Run) more() float64 {
	var floor, rekey float64
	for _, f := range r.Fleets {
		a, b := f.served()
		floor, rekey = floor+a, rekey+b
	}
	if floor == 0 || rekey == 0 {
		return 1
	}
	return rekey / floor
}

// more is the same of one fleet; 0 where it was not measured.
func (f Fleet) more() float64 {
	floor, rekey := f.served()
	if floor == 0 {
		return 0
	}
	return rekey / floor
}

// served sums the API server's processor time for each identity over the pairs.
func (f Fleet) served() (floor, rekey float64) {
	for _, p := range f.Pairs {
		floor += p.Floor.Issue.ServerCPU / float64(f.N)
		rekey += p.Rekey.Issue.ServerCPU / float64(f.N)
	}
	return floor, rekey
}
