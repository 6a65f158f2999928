// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/test/bench/results"
)

// program is one of the programs that TestCompare compares: a binary, and what its environment adds.
type program struct {
	name, binary string
	environment  []string
}

// programs is the value of -compare, which can be repeated.
type programs []program

func (p *programs) String() string { return fmt.Sprint(*p) }

// Set implements flag.Value.
func (p *programs) Set(text string) error {
	name, rest, ok := strings.Cut(text, "=")
	if !ok || name == "" || rest == "" {
		return fmt.Errorf("%q is not NAME=BINARY or NAME=COMMIT, with ,VARIABLE=VALUE where one is needed", text)
	}
	parts := strings.Split(rest, ",")
	*p = append(*p, program{name: name, binary: parts[0], environment: parts[1:]})
	return nil
}

var (
	compared = programsFlag("compare", "TestCompare: a program as NAME=BINARY or NAME=COMMIT, then ,VARIABLE=VALUE for its environment; repeat it for each")
	block    = flag.Int("block", 300, "TestCompare: how many identities each program issues in each round")
	scrapes  = flag.Int("scrapes", 0, "TestCompare: how often to read the metrics, with a token that may and with tokens that may not")
)

func programsFlag(name, usage string) *programs {
	out := &programs{}
	flag.Var(out, name, usage)
	return out
}

// TestCompare compares programs in one run against one API server, where the first one has issued the whole fleet. In each
// round, each program starts with that fleet, issues a block of further identities, and stops; the block is deleted. The order
// is reversed in every other round. It prints a table and has no bars.
func TestCompare(t *testing.T) {
	if len(*compared) < 2 {
		t.Fatal("TestCompare needs two programs or more: -compare NAME=BINARY -compare NAME=COMMIT")
	}
	for i := range *compared {
		(*compared)[i].binary = (*compared)[i].built(t)
	}
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(size, func(t *testing.T) { compare(t, n) })
	}
}

func compare(t *testing.T, n int) {
	t.Helper()
	s, _ := startAPIServer(t, nil)
	c := &comparison{s: s, n: n, fleet: fleet{n + *repeat*len(*compared)**block, *namespaces}, kubeconfig: s.kubeconfig(t, "rekey")}
	authority := c.fleet.prepare(t, s).authority
	c.creations, c.watcher = c.fleet.creations(t), s.applier.watch(t, "clientidentities", c.fleet.n)
	o := startRekeyAs(t, (*compared)[0].binary, (*compared)[0].environment, c.kubeconfig)
	authorityReady(t, s, authority)
	c.issue(t, o, n)
	o.stop(t)
	measured := make([][]numbers, len(*compared))
	for round := range *repeat {
		for turn := range *compared {
			i := turn
			if round%2 == 1 {
				i = len(*compared) - 1 - turn
			}
			got := c.life(t, (*compared)[i])
			measured[i] = append(measured[i], got)
			tell(t, "%d identities, round %d, %s: %s", n, round+1, (*compared)[i].name, got)
		}
	}
	fmt.Println(table(n, measured))
}

// comparison is a fleet of n identities, with more to come.
type comparison struct {
	s          *apiServer
	n, issued  int
	fleet      fleet
	kubeconfig string
	creations  []request
	watcher    *watcher
}

// issue applies the next identities and waits until they are Ready.
func (c *comparison) issue(t *testing.T, o *operator, count int) {
	t.Helper()
	if err := c.s.applier.send(t.Context(), c.creations[c.issued:c.issued+count]); err != nil {
		t.Fatal(err)
	}
	c.issued += count
	for begun := time.Now(); c.watcher.count(1) < c.issued; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > patience || !o.alive() {
			t.Fatalf("%d of %d identities are Ready: %s", c.watcher.count(1), c.issued, o.said(t))
		}
	}
}

// remove deletes the identities from the given one on, with their Secrets: nothing collects them here.
func (c *comparison) remove(t *testing.T, from int) {
	t.Helper()
	var requests []request
	for i := from; i < c.issued; i++ {
		requests = append(requests, request{http.MethodDelete, c.fleet.path(i, "/"+name(i)), "", nil},
			request{http.MethodDelete, "/api/v1/namespaces/" + c.fleet.namespace(i) + "/secrets/" + name(i) + "-mtls", "", nil})
	}
	if err := c.s.applier.send(t.Context(), requests); err != nil {
		t.Fatal(err)
	}
}

// built returns the path of the program, which is built if a commit is given.
func (p program) built(t *testing.T) string {
	t.Helper()
	if file, err := os.Stat(p.binary); err == nil && file.Mode().IsRegular() {
		return p.binary
	}
	source, output := t.TempDir(), filepath.Join(t.TempDir(), "rekey")
	command := exec.CommandContext(t.Context(), "sh", "-c", `git archive "$1" | tar -x -C "$2"`, "sh", p.binary, source)
	command.Dir = filepath.Join("..", "..")
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%q is neither a binary nor a commit: %v: %s", p.binary, err, text)
	}
	if err := build(source, output, "."); err != nil {
		t.Fatal(err)
	}
	return output
}

// life is a start of the program with the whole fleet, and the issue of a block.
func (c *comparison) life(t *testing.T, p program) numbers {
	t.Helper()
	o := startRekeyAs(t, p.binary, p.environment, c.kubeconfig)
	defer o.stop(t)
	c.started(t, o)
	out := numbers{
		"start: s": time.Since(o.begun).Seconds(), "start: processor time, ms per identity": 1000 * o.cpu(t) / float64(c.n),
		"start: peak memory, MB": o.megabytes(t, "VmHWM"), "start: live heap, MB": o.liveHeap(t, c.s) / 1e6,
	}
	if *scrapes > 0 {
		out.scraped(t, c.s, o)
	}
	from, counters, requests := c.issued, o.counters(t, c.s), c.s.requests(t)
	cpu, served, begun := o.cpu(t), c.s.cpu(t), time.Now()
	c.issue(t, o, *block)
	seconds := time.Since(begun).Seconds()
	counted := less(c.s.settled(t), requests)
	delete(counted, "POST clientidentities 201")
	out.issued(results.Phase{Seconds: seconds, CPU: o.cpu(t) - cpu, ServerCPU: c.s.cpu(t) - served, Requests: counted})
	out.counted(counters, o.counters(t, c.s))
	out["peak memory, MB"], out["memory at the end, MB"] = o.megabytes(t, "VmHWM"), o.megabytes(t, "VmRSS")
	o.stop(t)
	c.remove(t, from)
	return out
}

// started waits until a new process has reconciled every identity. On a busy machine, a quiet process may only be waiting for
// a processor.
func (c *comparison) started(t *testing.T, o *operator) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < patience; {
		o.quiet(t)
		status, text, err := o.scrapeAs(t, c.s.scraper(t))
		if now := countersOf(text); err == nil && status == http.StatusOK && now[reconciled] >= float64(c.n) && now[queued] == 0 {
			return
		}
	}
	t.Fatal("the identities are not reconciled")
}

func (o *operator) megabytes(t *testing.T, name string) float64 {
	t.Helper()
	return float64(o.memory(t, name)) * 1024 / 1e6
}

// numbers are what one life cost, by name with unit.
type numbers map[string]float64

func (n numbers) issued(p results.Phase) {
	each := 1 / float64(*block)
	n["issue: processor time, ms each"] = 1000 * p.CPU * each
	n["issue: processor time of API server and etcd, ms each"] = 1000 * p.ServerCPU * each
	n["issue: reads each"] = float64(p.Reads()) * each
	n["issue: writes each"] = float64(writesOf(p.Requests)) * each
	n["issue: s"] = p.Seconds
}

// counted adds what the process's own counters show of the issue.
func (n numbers) counted(before, after map[string]float64) {
	each := 1 / float64(*block)
	n["issue: reconciles each"] = (after[reconciled] - before[reconciled]) * each
	n["issue: allocated, kB each"] = (after[allocated] - before[allocated]) * each / 1000
	n["issue: garbage collections"] = after[collections] - before[collections]
}

// scraped adds what reading the metrics costs, with a token that may and with tokens that the API server does not know.
func (n numbers) scraped(t *testing.T, s *apiServer, o *operator) {
	t.Helper()
	each := 1 / float64(*scrapes)
	cpu, reviews := o.cpu(t), s.reviews(t)
	for range *scrapes {
		o.scrape(t, s)
	}
	n["scrape: processor time, ms"], n["scrape: requests to the API server"] = 1000*(o.cpu(t)-cpu)*each, float64(s.reviews(t)-reviews)*each
	cpu, reviews = o.cpu(t), s.reviews(t)
	for i := range *scrapes {
		if status, _, err := o.scrapeAs(t, fmt.Sprint("unknown-", i)); err != nil || status == http.StatusOK {
			t.Errorf("an unknown token: %d: %v", status, err)
		}
	}
	n["scrape refused: processor time, ms"], n["scrape refused: requests to the API server"] = 1000*(o.cpu(t)-cpu)*each, float64(s.reviews(t)-reviews)*each
}

func (n numbers) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		out = append(out, fmt.Sprintf("%s: %.4g", name, n[name]))
	}
	return strings.Join(out, "; ")
}

const (
	allocated   = "go_memstats_alloc_bytes_total"
	reconciled  = "controller_runtime_reconcile_total"
	queued      = "workqueue_depth"
	collections = "go_gc_cycles_total_gc_cycles_total"
	liveBytes   = "go_gc_heap_live_bytes"
)

// counters returns the process's metrics by name.
func (o *operator) counters(t *testing.T, s *apiServer) map[string]float64 {
	t.Helper()
	return countersOf(o.scrape(t, s))
}

// countersOf reads metrics; those that differ in their labels are added up.
func countersOf(text string) map[string]float64 {
	out := map[string]float64{}
	for line := range strings.Lines(text) {
		series, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		if at := strings.LastIndex(line, "} "); at >= 0 {
			number = strings.TrimSpace(line[at+2:])
		}
		name, _, _ := strings.Cut(series, "{")
		if value, err := strconv.ParseFloat(number, 64); err == nil {
			out[name] += value
		}
	}
	return out
}

// liveHeap returns the bytes that were reachable at a garbage collection after everything was done. Reading the metrics
// allocates, until it has been collected twice.
func (o *operator) liveHeap(t *testing.T, s *apiServer) float64 {
	t.Helper()
	before := o.counters(t, s)
	for begun := time.Now(); time.Since(begun) < patience; {
		if now := o.counters(t, s); now[collections] >= before[collections]+2 {
			return now[liveBytes]
		}
	}
	t.Fatal("no garbage was collected")
	return 0
}

// table shows medians with minimum and maximum, and the median of the ratios to the first program in the same round.
func table(n int, measured [][]numbers) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n%d identities, %d rounds of %d more\n\n| what |", n, len(measured[0]), *block)
	for _, p := range *compared {
		fmt.Fprintf(&out, " %s |", p.name)
	}
	out.WriteString("\n| --- |" + strings.Repeat(" ---: |", len(*compared)) + "\n")
	for _, name := range slices.Sorted(maps.Keys(measured[0][0])) {
		fmt.Fprintf(&out, "| %s |", name)
		for i := range *compared {
			var values, ratios []float64
			for round, n := range measured[i] {
				values = append(values, n[name])
				if first := measured[0][round][name]; first != 0 {
					ratios = append(ratios, n[name]/first)
				}
			}
			fmt.Fprintf(&out, " %.4g (%.4g to %.4g)", results.Median(values), slices.Min(values), slices.Max(values))
			if i > 0 && len(ratios) > 0 {
				fmt.Fprintf(&out, ", x %.2f", results.Median(ratios))
			}
			out.WriteString(" |")
		}
		out.WriteString("\n")
	}
	return out.String()
}
