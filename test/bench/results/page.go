// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rekey/rekey/test/prose"
)

// PictureFile is the name of the picture beside the page.
const PictureFile = "benchmarks.svg"

// Page returns docs/benchmarks.md.
func Page(r Run) []byte {
	var b strings.Builder
	b.WriteString("<!-- Written by make bench. Do not edit. -->\n\n# Benchmarks\n\n")
	b.WriteString(introduction)
	fmt.Fprintf(&b, "Measured %s with rekey at %s, %s, Kubernetes %s and PostgreSQL %s, on %d cores of %s with %d MiB of memory, %s.\nOperator, API server, etcd and the applying client share these cores.\n\n",
		r.Date, r.Versions.Rekey, r.Versions.Go, r.Versions.Kubernetes, r.Versions.PostgreSQL, r.Machine.Cores, r.Machine.CPU, r.Machine.Memory, r.Machine.System)
	fmt.Fprintf(&b, "![Throughput and memory over the number of identities](%s)\n\n", PictureFile)
	for _, section := range []func(Run, *strings.Builder){issueSection, renewalSection, memorySection, restartSection, writesSection, databaseSection, barsSection} {
		section(r, &b)
	}
	b.WriteString(again)
	return []byte(prose.Wrap(b.String()))
}

const introduction = `For anyone who asks what rekey costs, compared with the minimum that any operator could cost. On the same machine and in the same run, each against its own new API server:

- **rekey** is the binary that ` + "`make build`" + ` builds, with the flags of the shipped Deployment.
- **The floor** is a bare operator ([test/bench/floor](../test/bench/floor)): one informer, twenty workers, no limit on its requests, no checks. For each identity it writes a Secret, a status and an Event as rekey does, of the same size, with one key and one certificate that it created at its start. It creates no keys, signs nothing and proves nothing.

A client that costs next to nothing applies N ClientIdentities at once over twenty connections. The time runs from its first request until a watch has shown the last identity Ready. **Read the ratios**: 1.00 would be as fast as the floor. Identities per second are those of this machine only.

The speed of a shared machine varies, and the two runs that are compared follow one another. Both send the API server the same requests, which are counted below: the same writes, and next to no reads. So the API server's processor time shows how fast the machine was, and ratios *at equal speed* are corrected by it ([how](../test/bench/results/speed.go)). The mean difference in what the two sides cost the API server is not corrected, and a bar of its own limits how far that cost may grow with the number of identities (two readings of one run, so the limit is wide). *As measured* is without any correction. The bars below apply at equal speed; the measured value stands beside each.

Renewal, restart and rest are measured with some of the fleets only, to keep the run short.

`

const again = "## Measure it yourself\n\n```sh\nmake bench      # about 20 minutes on two cores; it fails if a bar is missed, and rewrites this page\n```\n\n" +
	"The numbers behind this page are in [benchmarks.json](benchmarks.json).\n"

// table writes a header and rows in Markdown.
func table(b *strings.Builder, header []string, rows [][]string) {
	rule := slices.Repeat([]string{"---:"}, len(header))
	rule[0] = "---"
	for _, row := range append([][]string{header, rule}, rows...) {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	b.WriteString("\n")
}

// where names a fleet in a table.
func (f Fleet) where() string {
	if f.Namespaces == 1 {
		return fmt.Sprintf("%s in one namespace", number(float64(f.N)))
	}
	return fmt.Sprintf("%s in %d namespaces", number(float64(f.N)), f.Namespaces)
}

// spread formats the median and, of several values, the minimum and the maximum.
func spread(values []float64, form string) string {
	switch len(values) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf(form, values[0])
	}
	return fmt.Sprintf(form+" ("+form+" to "+form+")", Median(values), slices.Min(values), slices.Max(values))
}

func (r Run) ordered() []Fleet { return append(r.in(true), r.in(false)...) }

func issueSection(r Run, b *strings.Builder) {
	b.WriteString("## First issue\n\nThe ratio is the median of the pairs, with minimum and maximum: as measured, and at equal speed of the machine. Processor time is per identity, of the operator and of the API server with etcd.\n\n")
	var rows [][]string
	for _, f := range r.ordered() {
		rows = append(rows, []string{f.where(), fmt.Sprint(len(f.Pairs)), fmt.Sprintf("%.0f/s", f.rate(floorIssue)), fmt.Sprintf("%.0f/s", f.rate(rekeyIssue)),
			spread(f.Ratios(), "%.2f"), "**" + spread(r.even(f), "%.2f") + "**", f.processor(floorPhase), f.processor(issuePhase)})
	}
	table(b, []string{"identities", "pairs", "floor", "rekey", "ratio as measured", "at equal speed", "processor time with the floor", "with rekey"}, rows)
}

func renewalSection(r Run, b *strings.Builder) {
	b.WriteString("## Renewal of all at once\n\nThe authority gets another key pair, so every identity needs a new certificate at the same instant, with a new key as always. rekey runs meanwhile. The time runs from the request that reveals this to rekey until the last identity is Ready with a certificate of the new authority. Equal speed corrects by the API server's processor time, as above; the mean difference in what a renewal costs the API server is kept.\n\n")
	var rows [][]string
	for _, f := range r.ordered() {
		if storms := f.each(storm); len(storms) > 0 {
			rows = append(rows, []string{f.where(), fmt.Sprintf("%.0f/s", f.rate(rekeyIssue)), fmt.Sprintf("%.0f/s", f.rate(rekeyRenewal)), spread(storms, "%.2f"), "**" + spread(r.evenStorms(f), "%.2f") + "**", f.processor(issuePhase), f.processor(renewalPhase)})
		}
	}
	table(b, []string{"identities", "first issue", "renewal", "time relative to the first issue, as measured", "at equal speed", "processor time of the first issue", "of the renewal"}, rows)
}

func memorySection(r Run, b *strings.Builder) {
	b.WriteString("## Memory\n\nResident memory of the process (`VmHWM` and `VmRSS` of Linux) in MB, with the environment of the shipped Deployment. The peak of rekey covers everything measured for the fleet: first issue, renewal, restart.\n\n")
	var rows [][]string
	for _, f := range r.ordered() {
		rows = append(rows, []string{f.where(), spread(f.each(floorPeak), "%.0f"), spread(f.each(rekeyIssuePeak), "%.0f"), spread(f.each(rekeyPeak), "%.0f"), spread(f.each(rekeySettled), "%.0f")})
	}
	table(b, []string{"identities", "peak of the floor", "peak of the first issue", "peak of rekey", "settled"}, rows)
	fmt.Fprintf(b, "With each additional identity in one namespace the peak of rekey grows by %.1f kB, the settled memory by %.1f kB, and the peak of the floor by %.1f kB.\n\n",
		r.slope(rekeyPeak), r.slope(rekeySettled), r.slope(floorPeak))
}

func restartSection(r Run, b *strings.Builder) {
	b.WriteString("## Restart and rest\n\nA restart ends when the new process has reconciled every identity and is quiet. At rest nothing is due.\n\n")
	var rows [][]string
	for _, f := range r.ordered() {
		row := []string{f.where(), "", "", "", "", ""}
		for _, p := range f.Pairs {
			if again := p.Rekey.Restart; again != nil {
				row[1], row[2], row[3] = fmt.Sprintf("%.1f s", again.Seconds), fmt.Sprint(again.Writes), fmt.Sprintf("%.0f MB", mega(again.PeakRSS))
			}
			if rest := p.Rekey.Idle; rest != nil {
				row[4], row[5] = fmt.Sprintf("%.2f %% of a core", 100*rest.CPU/rest.Seconds), fmt.Sprint(rest.Writes)
			}
		}
		if strings.Join(row[1:], "") != "" {
			rows = append(rows, row)
		}
	}
	table(b, []string{"identities", "restart", "writes", "peak memory", "at rest", "writes"}, rows)
}

func writesSection(r Run, b *strings.Builder) {
	b.WriteString("## Requests per certificate\n\nAs the API server counts them (`apiserver_request_total`), including conflicts and refusals, without those of the applying client and the watches. " +
		"The lease, which is renewed with or without work, is left out.\n\n")
	fleets := r.in(true)
	if len(fleets) == 0 || len(fleets[len(fleets)-1].Pairs) == 0 {
		return
	}
	f := fleets[len(fleets)-1]
	pair := f.Pairs[0]
	var renewal map[string]int
	if pair.Rekey.Renewal != nil {
		renewal = pair.Rekey.Renewal.Requests
	}
	columns := []map[string]int{pair.Floor.Issue.Requests, pair.Rekey.Issue.Requests, renewal}
	keys := map[string]bool{}
	for _, column := range columns {
		for key := range column {
			keys[key] = true
		}
	}
	var rows [][]string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		row := []string{"`" + key + "`"}
		for _, column := range columns {
			row = append(row, fmt.Sprintf("%.4g", float64(column[key])/float64(f.N)))
		}
		rows = append(rows, row)
	}
	table(b, []string{"with " + f.where(), "floor, first issue", "rekey, first issue", "rekey, renewal"}, rows)
}

func databaseSection(r Run, b *strings.Builder) {
	d := r.Database
	if d == nil {
		return
	}
	ratios := make([]float64, len(d.Rekey))
	for i := range d.Rekey {
		ratios[i] = d.Loop[i] / d.Rekey[i]
	}
	fmt.Fprintf(b, "## Database passwords\n\n%d DatabaseCredentials on one PostgreSQL rotate at once. Beside them a bare loop logs in and sends the same statements, taken from the server's log, "+
		"over as many concurrent connections, without Kubernetes. A rotation takes %.1f connections and %.1f statements, including the login that proves the new password and the one that must be refused.\n\n",
		d.N, d.Connections, d.Statements)
	table(b, []string{"", "seconds", "rotations per second"}, [][]string{
		{"bare loop", spread(d.Loop, "%.1f"), fmt.Sprintf("%.0f", float64(d.N)/Median(d.Loop))},
		{"rekey", spread(d.Rekey, "%.1f"), fmt.Sprintf("%.0f", float64(d.N)/Median(d.Rekey))},
		{"ratio", spread(ratios, "%.2f"), ""},
	})
}

func barsSection(r Run, b *strings.Builder) {
	b.WriteString("## Bars\n\n`make bench` fails if one of these is missed.\n\n")
	var rows [][]string
	for _, bar := range r.Bars() {
		than, met := "at least ", "yes"
		if bar.AtMost {
			than = "at most "
		}
		if !bar.Met() {
			met = "**no**"
		}
		rows = append(rows, []string{bar.Name, than + digits(bar.Want) + bar.Unit, bar.got(), met})
	}
	table(b, []string{"what", "asked", "measured", "met"}, rows)
}

// Charts returns the picture of a run.
func Charts(r Run) []Chart {
	speed := Chart{Title: "First issue and renewal of N identities", X: "identities", Y: "identities per second"}
	memory := Chart{Title: "Memory with N identities in one namespace", X: "identities", Y: "resident memory, MB", Limit: asked[Full].peak, LimitLabel: "at most, with 10,000"}
	line := func(one bool, label, color string, dashed bool, take func(Fleet) float64) Line {
		out := Line{Label: label, Color: color, Dashed: dashed}
		for _, f := range r.in(one) {
			if y := take(f); y > 0 {
				out.Points = append(out.Points, Point{float64(f.N), y})
			}
		}
		return out
	}
	rate := func(take func(Pair) (float64, bool)) func(Fleet) float64 {
		return func(f Fleet) float64 { return f.rate(take) }
	}
	median := func(take func(Pair) (float64, bool)) func(Fleet) float64 {
		return func(f Fleet) float64 { return Median(f.each(take)) }
	}
	speed.Lines = []Line{
		line(true, "floor, 1 namespace", Orange, false, rate(floorIssue)), line(false, "floor, 100 namespaces", Orange, true, rate(floorIssue)),
		line(true, "rekey, 1 namespace", Blue, false, rate(rekeyIssue)), line(false, "rekey, 100 namespaces", Blue, true, rate(rekeyIssue)),
		line(true, "rekey, renewal of all", Green, false, rate(rekeyRenewal)),
	}
	memory.Lines = []Line{
		line(true, "rekey, peak", Blue, false, median(rekeyPeak)), line(true, "rekey, settled", Green, false, median(rekeySettled)),
		line(true, "floor, peak", Orange, false, median(floorPeak)),
	}
	return []Chart{speed, memory}
}
