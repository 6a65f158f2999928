// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

import (
	"fmt"
	"slices"
)

// Full and Short are the sizes of a run. A short one is for continuous integration, on machines that are busy: its bars are only
// counts and the peak of memory. Speed is compared on a quiet machine, in a full run.
const (
	Full  = "full"
	Short = "short"
)

// Bar is a requirement on a run.
type Bar struct {
	Name string
	// Got must be at least Want, or at most if AtMost is true.
	Got, Want float64
	AtMost    bool
	Unit      string
	// Measured holds the numbers before they were corrected; empty if nothing is.
	Measured string
}

// Met reports whether it was reached.
func (b Bar) Met() bool {
	if b.AtMost {
		return b.Got <= b.Want
	}
	return b.Got >= b.Want
}

func (b Bar) String() string {
	than := "at least"
	if b.AtMost {
		than = "at most"
	}
	return fmt.Sprintf("%s: %s, required is %s %s%s", b.Name, b.got(), than, digits(b.Want), b.Unit)
}

func (b Bar) got() string {
	if b.Measured == "" {
		return digits(b.Got) + b.Unit
	}
	return fmt.Sprintf("%s%s (%s as measured)", digits(b.Got), b.Unit, b.Measured)
}

// limits are the requirements of a size. Zero requires nothing, except of counts that must be zero.
type limits struct {
	ratio, growth, storm float64
	// server is the maximum growth of the API server's share from the smallest fleet to the largest. It compares two numbers
	// of one run that machines change by a third: this finds only a clear regression.
	server float64
	// reads per certificate that the floor does not need.
	reads        float64
	peak, slope  float64 // MB, kB per identity.
	restart      float64 // Seconds.
	idle, writes float64
}

var asked = map[string]limits{
	Full:  {ratio: 0.8, growth: 0.85, storm: 1, server: 1.4, reads: 0.01, peak: 150, slope: 10, restart: 10, idle: 1, writes: 1},
	Short: {reads: 0.02, peak: 120, writes: 1},
}

// Bars returns all requirements on the run, for what it measured.
func (r Run) Bars() []Bar {
	want, known := asked[r.Size]
	if !known {
		want = asked[Short]
	}
	var out []Bar
	for _, one := range []bool{true, false} {
		fleets := r.in(one)
		for _, f := range fleets {
			out = append(out, r.bars(f, want)...)
		}
		if len(fleets) > 1 && want.growth > 0 {
			first, last := fleets[0], fleets[len(fleets)-1]
			out = append(out, Bar{Name: fmt.Sprintf("ratio with %s relative to that with %s, at equal speed", last, first),
				Got: Median(r.even(last)) / Median(r.even(first)), Want: want.growth, Measured: digits(Median(last.Ratios()) / Median(first.Ratios()))})
			few, many := costs([]Fleet{first}, issuePhase, floorPhase), costs([]Fleet{last}, issuePhase, floorPhase)
			if few > 0 && many > 0 {
				out = append(out, Bar{Name: fmt.Sprintf("rekey's cost for the API server relative to the floor's, with %s relative to that with %s", last, first),
					Got: many / few, Want: want.server, AtMost: true})
			}
		}
	}
	if len(r.in(true)) > 1 && want.slope > 0 {
		out = append(out, Bar{Name: "peak memory of rekey per additional identity", Got: r.slope(rekeyPeak), Want: want.slope, AtMost: true, Unit: " kB"})
	}
	return out
}

func (f Fleet) String() string {
	if f.Namespaces == 1 {
		return fmt.Sprintf("%d identities in one namespace", f.N)
	}
	return fmt.Sprintf("%d identities in %d namespaces", f.N, f.Namespaces)
}

func (r Run) bars(f Fleet, want limits) []Bar {
	var out []Bar
	most := func(name string, got []float64, want float64, unit string) {
		if len(got) > 0 {
			out = append(out, Bar{Name: f.String() + ": " + name, Got: slices.Max(got), Want: want, AtMost: true, Unit: unit})
		}
	}
	if want.ratio > 0 {
		out = append(out, Bar{Name: f.String() + ": throughput of rekey relative to the floor, at equal speed", Got: Median(r.even(f)), Want: want.ratio, Measured: digits(Median(f.Ratios()))})
	}
	if storms := f.each(storm); len(storms) > 0 && want.storm > 0 {
		out = append(out, Bar{Name: f.String() + ": time of the renewal of all relative to the first issue, at equal speed", Got: Median(r.evenStorms(f)), Want: want.storm,
			AtMost: true, Measured: digits(Median(storms))})
	}
	most("peak memory of rekey", f.each(rekeyPeak), want.peak, " MB")
	restart := func(take func(Restart) float64) []float64 {
		return f.each(func(p Pair) (float64, bool) {
			if p.Rekey.Restart == nil {
				return 0, false
			}
			return take(*p.Rekey.Restart), true
		})
	}
	if want.restart > 0 {
		most("time from a restart to quiet", restart(func(r Restart) float64 { return r.Seconds }), want.restart, " s")
	}
	most("writes of a restart", restart(func(r Restart) float64 { return float64(r.Writes) }), 0, "")
	most("identities that a restart did not reconcile", restart(func(r Restart) float64 { return float64(max(0, f.N-r.Reconciles)) }), 0, "")
	idle := func(take func(Idle) float64) []float64 {
		return f.each(func(p Pair) (float64, bool) {
			if p.Rekey.Idle == nil {
				return 0, false
			}
			return take(*p.Rekey.Idle), true
		})
	}
	if want.idle > 0 {
		most("processor time while nothing is due", idle(func(i Idle) float64 { return 100 * i.CPU / i.Seconds }), want.idle, " % of a core")
	}
	most("writes while nothing is due", idle(func(i Idle) float64 { return float64(i.Writes) }), 0, "")
	f.requests(want, most)
	return out
}

// requests are the bars on requests to the API server.
func (f Fleet) requests(want limits, most func(name string, got []float64, want float64, unit string)) {
	for _, of := range []struct {
		name  string
		phase func(Pair) *Phase
	}{{"issue", issuePhase}, {"renewal", renewalPhase}} {
		each := func(count func(Phase) int) []float64 {
			return f.each(func(p Pair) (float64, bool) {
				phase := of.phase(p)
				if phase == nil {
					return 0, false
				}
				return float64(count(*phase)) / float64(f.N), true
			})
		}
		for _, writes := range [][2]string{{"to Secrets", "secrets"}, {"of status", "clientidentities/status"}, {"of Events", "events"}} {
			most(fmt.Sprintf("writes %s per %s", writes[0], of.name), each(func(p Phase) int { return p.Writes(writes[1]) }), want.writes, "")
		}
		most("reads per "+of.name, each(Phase.Reads), want.reads, "")
	}
	most("other writes of the first issue", f.each(func(p Pair) (float64, bool) {
		return float64(p.Rekey.Issue.Others("secrets", "clientidentities/status", "events")), true
	}), 0, "")
}

// digits formats a number with its significant digits.
func digits(value float64) string {
	switch {
	case value == float64(int64(value)):
		return fmt.Sprint(int64(value))
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.2f", value)
}
