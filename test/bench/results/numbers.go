// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Median returns the median of the values; 0 if there are none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// Slope returns the slope of the line that fits the points best (least squares); 0 if fewer than two x differ.
func Slope(x, y []float64) float64 {
	var sumX, sumY float64
	for i := range x {
		sumX += x[i]
		sumY += y[i]
	}
	n := float64(len(x))
	var above, below float64
	for i := range x {
		dx := x[i] - sumX/n
		above += dx * (y[i] - sumY/n)
		below += dx * dx
	}
	if below == 0 {
		return 0
	}
	return above / below
}

// each collects what take finds in the pairs of the fleet.
func (f Fleet) each(take func(Pair) (float64, bool)) []float64 {
	var out []float64
	for _, pair := range f.Pairs {
		if value, ok := take(pair); ok {
			out = append(out, value)
		}
	}
	return out
}

// Ratios returns the throughput of rekey relative to the floor, one for each pair.
func (f Fleet) Ratios() []float64 {
	return f.each(func(p Pair) (float64, bool) { return p.Ratio(), true })
}

func floorPhase(p Pair) *Phase   { return &p.Floor.Issue }
func issuePhase(p Pair) *Phase   { return &p.Rekey.Issue }
func renewalPhase(p Pair) *Phase { return p.Rekey.Renewal }

// processor formats the medians of processor time per identity: of the operator, and of API server with etcd.
func (f Fleet) processor(phase func(Pair) *Phase) string {
	each := func(take func(*Phase) float64) float64 {
		return Median(f.each(func(p Pair) (float64, bool) {
			of := phase(p)
			if of == nil {
				return 0, false
			}
			return 1000 * take(of) / float64(f.N), true
		}))
	}
	return fmt.Sprintf("%.1f + %.1f ms", each(func(p *Phase) float64 { return p.CPU }), each(func(p *Phase) float64 { return p.ServerCPU }))
}

// rate is the number of identities per second that become ready.
func (f Fleet) rate(take func(Pair) (float64, bool)) float64 {
	seconds := Median(f.each(take))
	if seconds == 0 {
		return 0
	}
	return float64(f.N) / seconds
}

func floorIssue(p Pair) (float64, bool) { return p.Floor.Issue.Seconds, true }
func rekeyIssue(p Pair) (float64, bool) { return p.Rekey.Issue.Seconds, true }

func rekeyRenewal(p Pair) (float64, bool) {
	if p.Rekey.Renewal == nil {
		return 0, false
	}
	return p.Rekey.Renewal.Seconds, true
}

// storm is the duration of the renewal of all, relative to their first issue.
func storm(p Pair) (float64, bool) {
	if p.Rekey.Renewal == nil {
		return 0, false
	}
	return p.Rekey.Renewal.Seconds / p.Rekey.Issue.Seconds, true
}

// rekeyPeak is the peak of the whole life.
func rekeyPeak(p Pair) (float64, bool) {
	peak := p.Rekey.PeakRSS
	if p.Rekey.Restart != nil {
		peak = max(peak, p.Rekey.Restart.PeakRSS)
	}
	return mega(peak), true
}
func rekeyIssuePeak(p Pair) (float64, bool) { return mega(p.Rekey.Issue.PeakRSS), true }
func floorPeak(p Pair) (float64, bool)      { return mega(p.Floor.PeakRSS), true }

func rekeySettled(p Pair) (float64, bool) {
	if p.Rekey.Idle == nil {
		return 0, false
	}
	return mega(p.Rekey.Idle.SettledRSS), true
}

// mega converts KiB to MB (1000 times 1000 bytes).
func mega(kibi int) float64 { return float64(kibi) * 1024 / 1e6 }

// in returns the fleets in one namespace, or in more than one, by number.
func (r Run) in(one bool) []Fleet {
	var out []Fleet
	for _, f := range r.Fleets {
		if (f.Namespaces == 1) == one {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b Fleet) int { return cmp.Compare(a.N, b.N) })
	return out
}

// slope returns how much a value grows per identity, over all fleets in one namespace, in kB.
func (r Run) slope(take func(Pair) (float64, bool)) float64 {
	var x, y []float64
	for _, f := range r.in(true) {
		for _, value := range f.each(take) {
			x, y = append(x, float64(f.N)), append(y, value*1000)
		}
	}
	return Slope(x, y)
}

// Writes returns those of one kind in a phase: of the resource, by all verbs that change something and with all answers.
func (p Phase) Writes(resource string) int {
	sum := 0
	for key, count := range p.Requests {
		verb, rest, _ := strings.Cut(key, " ")
		of, _, _ := strings.Cut(rest, " ")
		if !reads(verb) && of == resource {
			sum += count
		}
	}
	return sum
}

func reads(verb string) bool { return verb == "GET" || verb == "LIST" }

// Reads returns those of a phase, single or in lists; watches are not counted.
func (p Phase) Reads() int {
	sum := 0
	for key, count := range p.Requests {
		if verb, _, _ := strings.Cut(key, " "); reads(verb) {
			sum += count
		}
	}
	return sum
}

// Others returns the writes of a phase to resources other than the named ones.
func (p Phase) Others(resources ...string) int {
	sum := 0
	for key, count := range p.Requests {
		verb, rest, _ := strings.Cut(key, " ")
		of, _, _ := strings.Cut(rest, " ")
		if !reads(verb) && !slices.Contains(resources, of) {
			sum += count
		}
	}
	return sum
}
