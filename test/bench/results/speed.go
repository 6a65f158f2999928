// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

// times returns how long one phase took relative to another, at equal speed of the machine, for each pair of a fleet that
// has both. The speed of shared machines varies by a third and more, and the two phases run one after the other. So the
// ratio of the API server's processor times in the two shows how fast the machine was, and corrects the times. The mean
// difference in what the phases cost the API server is kept.
func (r Run) times(f Fleet, phase, by func(Pair) *Phase) []float64 {
	cost := costs(r.Fleets, phase, by)
	return f.each(func(p Pair) (float64, bool) {
		one, other := phase(p), by(p)
		if one == nil || other == nil {
			return 0, false
		}
		took := one.Seconds / other.Seconds
		if one.ServerCPU > 0 && other.ServerCPU > 0 {
			took *= other.ServerCPU / one.ServerCPU * cost
		}
		return took, true
	})
}

// costs returns what a phase costs the API server in processor time per identity, relative to another, over all pairs that
// have both; 0 if it was not measured.
func costs(fleets []Fleet, phase, by func(Pair) *Phase) float64 {
	var sum, sumBy float64
	for _, f := range fleets {
		for _, p := range f.Pairs {
			if one, other := phase(p), by(p); one != nil && other != nil {
				sum += one.ServerCPU / float64(f.N)
				sumBy += other.ServerCPU / float64(f.N)
			}
		}
	}
	if sumBy == 0 {
		return 0
	}
	return sum / sumBy
}

// even returns the ratios of a fleet at equal speed. Both sides send the API server the same requests: bars on writes and
// reads ensure that. That its cost does not grow with the number of identities is a bar of its own.
func (r Run) even(f Fleet) []float64 {
	out := r.times(f, issuePhase, floorPhase)
	for i, took := range out {
		out[i] = 1 / took
	}
	return out
}

// evenStorms returns how long the renewals of a fleet took relative to the first issues, at equal speed. The two request
// different things of the API server, a create here and an update there.
func (r Run) evenStorms(f Fleet) []float64 { return r.times(f, renewalPhase, issuePhase) }
