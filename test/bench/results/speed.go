// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

// times gives how long one phase took by how long another did, at equal speed of the machine, for each pair of a fleet that has
// both. Machines that others use too are faster now and slower then, by a third and more, and the two phases come one after the
// other. So the API server's processor time in the one, by that in the other, says how fast the machine was, and the times are
// corrected by that. What one phase costs the API server more in the mean of the run is kept.
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

// costs is what a phase costs the API server in processor time for each identity by what another does, over all pairs that
// have both; 0 where it was not measured.
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

// even gives the ratios of a fleet at equal speed. Both sides ask the same of the API server: bars hold that, about writes and
// reads. That its cost does not grow with the number of identities is a bar of its own.
func (r Run) even(f Fleet) []float64 {
	out := r.times(f, issuePhase, floorPhase)
	for i, took := range out {
		out[i] = 1 / took
	}
	return out
}

// evenStorms is how long the renewals of a fleet took by the first issues, at equal speed. The two ask different things of the
// API server, a create here and an update there.
func (r Run) evenStorms(f Fleet) []float64 { return r.times(f, renewalPhase, issuePhase) }
