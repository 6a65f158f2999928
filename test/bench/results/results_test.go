// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// good returns a run that meets every bar.
func good() Run {
	fleet := func(n, namespaces int) Fleet {
		seconds := float64(n) / 250
		phase := func(seconds float64) Phase {
			return Phase{Seconds: seconds, CPU: seconds / 2, ServerCPU: float64(n) * 0.012, PeakRSS: 50_000 + 5*n, Requests: map[string]int{
				"POST secrets 201": n, "PUT clientidentities/status 200": n, "POST events 201": n, "GET secrets 200": 3}}
		}
		renewal := phase(seconds)
		life := Life{StartRSS: 40_000, Issue: phase(seconds), Renewal: &renewal, PeakRSS: 52_000 + 6*n,
			Idle:    &Idle{Seconds: 60, CPU: 0.3, SettledRSS: 45_000 + 4*n},
			Restart: &Restart{Seconds: 3, CPU: 2, PeakRSS: 60_000, Reconciles: n}}
		pair := Pair{Floor: Life{StartRSS: 30_000, Issue: phase(seconds * 0.9), PeakRSS: 60_000 + 2*n}, Rekey: life}
		return Fleet{N: n, Namespaces: namespaces, Pairs: []Pair{pair, pair, pair}}
	}
	return Run{
		Size: Full, Date: "2026-01-02", Machine: Machine{"a processor", 2, 16000, "linux/amd64"}, Versions: Versions{"abcdef0", "go1.26", "v1.36.3", "18"},
		Fleets:   []Fleet{fleet(1000, 1), fleet(10000, 1), fleet(1000, 100), fleet(10000, 100)},
		Database: &Database{N: 200, Statements: 12, Connections: 3, Rekey: []float64{4, 5}, Loop: []float64{3, 4}},
	}
}

func TestAGoodRunMeetsEveryBar(t *testing.T) {
	for _, bar := range good().Bars() {
		if !bar.Met() {
			t.Error(bar)
		}
	}
}

func TestEachShortcomingMissesABar(t *testing.T) {
	last := func(r *Run) *Pair { return &r.Fleets[1].Pairs[0] }
	all := func(r *Run, do func(*Pair)) {
		for i := range r.Fleets[1].Pairs {
			do(&r.Fleets[1].Pairs[i])
		}
	}
	// served makes the API server take double the time for rekey, all of it slower.
	served := func(fleets ...Fleet) {
		for _, f := range fleets {
			for i := range f.Pairs {
				issue := &f.Pairs[i].Rekey.Issue
				issue.ServerCPU, issue.Seconds = 2*issue.ServerCPU, 1.8*issue.Seconds
			}
		}
	}
	for name, tc := range map[string]struct {
		spoil func(*Run)
		want  string
	}{
		"it is slower than required":                                 {func(r *Run) { all(r, func(p *Pair) { p.Rekey.Issue.Seconds *= 1.3 }) }, "throughput of rekey"},
		"it costs the API server double":                             {func(r *Run) { served(r.Fleets...) }, "throughput of rekey"},
		"it costs the API server more the more identities there are": {func(r *Run) { served(r.Fleets[1]) }, "rekey's cost for the API server"},
		"it reads for each identity":                                 {func(r *Run) { last(r).Rekey.Issue.Requests["GET secrets 200"] = 10000 }, "reads per issue"},
		"it lists for a renewal":                                     {func(r *Run) { last(r).Rekey.Renewal.Requests["LIST secrets 200"] = 200 }, "reads per renewal"},
		"it is slower the more identities there are":                 {func(r *Run) { all(r, func(p *Pair) { p.Rekey.Issue.Seconds *= 1.2 }) }, "relative to that with"},
		"a renewal is slower than the issue":                         {func(r *Run) { all(r, func(p *Pair) { p.Rekey.Renewal.Seconds *= 1.1 }) }, "renewal of all"},
		"it takes too much memory":                                   {func(r *Run) { last(r).Rekey.PeakRSS = 160_000 }, "peak memory of rekey: "},
		"each identity takes too much memory": {func(r *Run) {
			all(r, func(p *Pair) { p.Rekey.PeakRSS = 145_000 })
			r.Fleets[0].Pairs[0].Rekey.PeakRSS, r.Fleets[0].Pairs[0].Rekey.Restart.PeakRSS = 20_000, 20_000
		}, "per additional identity"},
		"a restart takes long":            {func(r *Run) { last(r).Rekey.Restart.Seconds = 11 }, "restart to quiet"},
		"a restart takes too much memory": {func(r *Run) { last(r).Rekey.Restart.PeakRSS = 160_000 }, "peak memory of rekey: "},
		"it writes when idle in a short run": {func(r *Run) {
			r.Size = Short
			last(r).Rekey.Idle.Writes = 1
		}, "writes while nothing is due"},
		"it reads for each identity in a short run": {func(r *Run) {
			r.Size = Short
			last(r).Rekey.Issue.Requests["GET secrets 200"] = 10000
		}, "reads per issue"},
		"a restart writes":                {func(r *Run) { last(r).Rekey.Restart.Writes = 1 }, "writes of a restart"},
		"a restart does not reconcile":    {func(r *Run) { last(r).Rekey.Restart.Reconciles-- }, "did not reconcile"},
		"it works when idle":              {func(r *Run) { last(r).Rekey.Idle.CPU = 0.7 }, "while nothing is due"},
		"it writes when idle":             {func(r *Run) { last(r).Rekey.Idle.Writes = 1 }, "writes while nothing is due"},
		"a Secret is written twice":       {func(r *Run) { last(r).Rekey.Issue.Requests["PUT secrets 200"]++ }, "writes to Secrets"},
		"a renewal writes a Secret twice": {func(r *Run) { last(r).Rekey.Renewal.Requests["PUT secrets 200"]++ }, "writes to Secrets per renewal"},
		"a write meets another":           {func(r *Run) { last(r).Rekey.Issue.Requests["PUT clientidentities/status 409"]++ }, "writes of status"},
		"one Event too many":              {func(r *Run) { last(r).Rekey.Issue.Requests["PATCH events 200"]++ }, "writes of Events"},
		"something else is written":       {func(r *Run) { last(r).Rekey.Issue.Requests["PATCH clientidentities 200"]++ }, "other writes of the first issue"},
	} {
		t.Run(name, func(t *testing.T) {
			run := good()
			tc.spoil(&run)
			var missed []string
			for _, bar := range run.Bars() {
				if !bar.Met() {
					missed = append(missed, bar.String())
				}
			}
			found := false
			for _, bar := range missed {
				found = found || strings.Contains(bar, tc.want)
			}
			if !found {
				t.Errorf("no bar %q was missed, only %q", tc.want, missed)
			}
		})
	}
}

// A busy machine slows everything down, and a short run runs on busy machines.
func TestAShortRunHasNoBarOnSpeed(t *testing.T) {
	run := good()
	run.Size = Short
	want := run.Bars()
	if len(want) == 0 {
		t.Fatal("a short run has no bars")
	}
	for _, f := range run.Fleets {
		for i := range f.Pairs {
			rekey := &f.Pairs[i].Rekey
			for _, phase := range []*Phase{&rekey.Issue, rekey.Renewal} {
				if phase != nil {
					phase.Seconds, phase.ServerCPU = 50*phase.Seconds, 50*phase.ServerCPU
				}
			}
			if rekey.Restart != nil {
				rekey.Restart.Seconds *= 50
			}
			if rekey.Idle != nil {
				rekey.Idle.CPU *= 50
			}
		}
	}
	if diff := cmp.Diff(want, run.Bars()); diff != "" {
		t.Errorf("the bars depend on speed (-fast +slow):\n%s", diff)
	}
}

// wantOf compares corrected numbers, of one fleet with these pairs, with the expected ones.
func wantOf(t *testing.T, pairs []Pair, of func(Run, Fleet) []float64, want []float64) {
	t.Helper()
	f := Fleet{N: 1000, Namespaces: 1, Pairs: pairs}
	near := cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })
	if diff := cmp.Diff(want, of(Run{Fleets: []Fleet{f}}, f), near); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A machine that is slower in one phase shows in the API server's processor time; if one side costs the API server more in
// every pair, that is not the machine's doing.
func TestRatiosAtEqualSpeed(t *testing.T) {
	pair := func(floor, rekey, floorServer, rekeyServer float64) Pair {
		return Pair{Floor: Life{Issue: Phase{Seconds: floor, ServerCPU: floorServer}}, Rekey: Life{Issue: Phase{Seconds: rekey, ServerCPU: rekeyServer}}}
	}
	for name, tc := range map[string]struct {
		pairs []Pair
		want  []float64
	}{
		"nothing is known":                  {[]Pair{pair(8, 10, 0, 0)}, []float64{0.8}},
		"always as fast":                    {[]Pair{pair(8, 10, 12, 12), pair(8, 10, 12, 12)}, []float64{0.8, 0.8}},
		"once half as fast, once the other": {[]Pair{pair(8, 20, 12, 24), pair(16, 10, 24, 12)}, []float64{0.8, 0.8}},
		"rekey costs the API server double": {[]Pair{pair(8, 16, 12, 24), pair(8, 16, 12, 24)}, []float64{0.5, 0.5}},
	} {
		t.Run(name, func(t *testing.T) {
			wantOf(t, tc.pairs, Run.even, tc.want)
		})
	}
}

// A renewal that costs the API server the same everywhere is judged by its time; one that ran on a slow machine is not
// blamed.
func TestStormsAtEqualSpeed(t *testing.T) {
	pair := func(issue, renewal, issueServer, renewalServer float64) Pair {
		return Pair{Rekey: Life{Issue: Phase{Seconds: issue, ServerCPU: issueServer}, Renewal: &Phase{Seconds: renewal, ServerCPU: renewalServer}}}
	}
	for name, tc := range map[string]struct {
		pairs []Pair
		want  []float64
	}{
		"nothing is known":               {[]Pair{pair(8, 10, 0, 0)}, []float64{1.25}},
		"always as fast":                 {[]Pair{pair(10, 8, 20, 15), pair(10, 8, 20, 15)}, []float64{0.8, 0.8}},
		"slow first once, last once":     {[]Pair{pair(20, 9, 40, 20), pair(10, 18, 20, 40)}, []float64{0.9, 0.9}},
		"it costs the API server double": {[]Pair{pair(10, 19, 20, 40), pair(10, 19, 20, 40)}, []float64{1.9, 1.9}},
		"no storm":                       {[]Pair{{}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			wantOf(t, tc.pairs, Run.evenStorms, tc.want)
		})
	}
}

func TestMedianAndSlope(t *testing.T) {
	got := []float64{Median(nil), Median([]float64{3}), Median([]float64{9, 1, 2}), Median([]float64{4, 1, 2, 3}), Slope([]float64{1, 2, 3}, []float64{3, 5, 7}), Slope([]float64{1, 1}, []float64{3, 5})}
	if diff := cmp.Diff([]float64{0, 3, 2, 2.5, 2, 0}, got); diff != "" {
		t.Error(diff)
	}
}

func TestThePictureIsWellFormedAndInsideItsFrame(t *testing.T) {
	picture := Picture(Charts(good())...)
	decoder := xml.NewDecoder(bytes.NewReader(picture))
	words := ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			words += string(text)
		}
	}
	for _, want := range []string{"identities per second", "resident memory, MB", "rekey, 100 namespaces", "floor, peak", "10,000"} {
		if !strings.Contains(words, want) {
			t.Errorf("the picture does not contain %q", want)
		}
	}
	for _, chart := range Charts(good()) {
		f, _, _ := chart.frame()
		for _, line := range chart.Lines {
			if len(line.Points) == 0 {
				t.Errorf("the line %q is empty", line.Label)
			}
			for _, point := range line.Points {
				if x, y := f.x(point.X), f.y(point.Y); x < left || x > chartWidth-right || y < top || y > chartHeight-bottom {
					t.Errorf("%s: %v lies outside the frame", line.Label, point)
				}
			}
		}
		heights := chart.labels(f)
		for i := range heights {
			for j := range i {
				if gap := heights[i] - heights[j]; gap < lineGap-0.01 && gap > -lineGap+0.01 {
					t.Errorf("the labels of %s and %s overlap", chart.Lines[i].Label, chart.Lines[j].Label)
				}
			}
		}
	}
}

func TestOnlyACompleteRunIsPublished(t *testing.T) {
	folder := t.TempDir()
	short := good()
	short.Size = Short
	if err := Publish(short, folder); err == nil {
		t.Error("a short run was published")
	}
	if err := Publish(good(), folder); err != nil {
		t.Fatal(err)
	}
	read, err := Read(filepath.Join(folder, "benchmarks.json"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(good(), read); diff != "" {
		t.Errorf("reading returns something else than was written (-want +got):\n%s", diff)
	}
	page, err := os.ReadFile(filepath.Join(folder, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a processor", "abcdef0", "go1.26", "v1.36.3", "2026-01-02", "1,000 in one namespace", "10,000 in 100 namespaces", "**0.90", "`POST secrets 201`"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not contain %q", want)
		}
	}
}
