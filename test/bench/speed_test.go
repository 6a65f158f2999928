// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/test/bench/results"
)

// One piece can be measured alone: -sizes 1000,2000 -namespaces 1 -repeat 3 -only rekey -renewal -restart -idle 15s.
var (
	sizes           = flag.String("sizes", "500", "TestPiece: numbers of identities, separated by commas")
	namespaces      = flag.Int("namespaces", 1, "TestPiece: number of namespaces for them")
	repeat          = flag.Int("repeat", 1, "TestPiece: how often the pair is measured")
	only            = flag.String("only", "", "TestPiece: rekey or floor; both by default")
	renewal         = flag.Bool("renewal", false, "TestPiece: renew all of them, too")
	restart         = flag.Bool("restart", false, "TestPiece: restart with all of them, too")
	credentialCount = flag.Int("credentials", 50, "TestDatabasePiece: number of credentials")
	rounds          = flag.Int("rounds", 1, "TestDatabasePiece: how often they are rotated")
	idleFor         = flag.Duration("idle", 0, "TestPiece: do nothing for this long, too")
)

// TestPiece measures what the flags select and prints it. It has no bars.
func TestPiece(t *testing.T) {
	for size := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			t.Fatal(err)
		}
		f := fleet{n, *namespaces}
		for i := range *repeat {
			pair := measure(t, f, i, chapters{renewal: *renewal, restart: *restart, idle: *idleFor}, *only)
			show(t, f, pair)
		}
	}
}

// TestDatabasePiece measures rotations of database credentials alone and prints them. It has no bars.
func TestDatabasePiece(t *testing.T) {
	showDatabase(t, rotations(t, *credentialCount, *rounds))
}

func showDatabase(t *testing.T, d *results.Database) {
	t.Helper()
	tell(t, "%d rotations at once: rekey %.2f s, bare loop %.2f s; %.1f connections and %.1f statements each", d.N, d.Rekey, d.Loop, d.Connections, d.Statements)
}

// measure runs both lives; in every second round the other one goes first.
func measure(t *testing.T, f fleet, round int, more chapters, only string) results.Pair {
	t.Helper()
	var pair results.Pair
	lives := []func(){
		func() {
			if only != "rekey" {
				pair.Floor = floorLife(t, f)
			}
		},
		func() {
			if only != "floor" {
				pair.Rekey = rekeyLife(t, f, more)
			}
		},
	}
	if round%2 == 1 {
		slices.Reverse(lives)
	}
	for _, live := range lives {
		live()
	}
	return pair
}

func show(t *testing.T, f fleet, pair results.Pair) {
	t.Helper()
	line := func(who, what string, p results.Phase) {
		tell(t, "%s: %-5s %-7s %6.2fs %5.0f/s, %5.2f and the API server %5.2f ms CPU each, peak %d MiB; %s", f, who, what, p.Seconds, float64(f.n)/p.Seconds,
			1000*p.CPU/float64(f.n), 1000*p.ServerCPU/float64(f.n), p.PeakRSS/1024, counts(p.Requests))
	}
	if pair.Floor.Issue.Seconds > 0 {
		line("floor", "issue", pair.Floor.Issue)
	}
	r := pair.Rekey
	if r.Issue.Seconds > 0 {
		line("rekey", "issue", r.Issue)
	}
	if r.Idle != nil {
		tell(t, "%s: rekey idle %.0fs: %.2f %% of a core, settled %d MiB, %d writes", f, r.Idle.Seconds, 100*r.Idle.CPU/r.Idle.Seconds, r.Idle.SettledRSS/1024, r.Idle.Writes)
	}
	if r.Renewal != nil {
		line("rekey", "renewal", *r.Renewal)
	}
	if r.Restart != nil {
		tell(t, "%s: rekey restart %.2fs, %.2fs CPU, peak %d MiB, %d reconciles, %d writes", f, r.Restart.Seconds, r.Restart.CPU, r.Restart.PeakRSS/1024, r.Restart.Reconciles, r.Restart.Writes)
	}
	if pair.Floor.Issue.Seconds > 0 && r.Issue.Seconds > 0 {
		tell(t, "%s: ratio %.2f (rekey starts with %d MiB, floor with %d)", f, pair.Ratio(), r.StartRSS/1024, pair.Floor.StartRSS/1024)
	}
}

// tell prints at once: a run is long.
func tell(t *testing.T, form string, values ...any) {
	t.Helper()
	fmt.Printf(time.Now().UTC().Format("15:04:05 ")+form+"\n", values...)
}

func counts(requests map[string]int) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(requests)) {
		out = append(out, fmt.Sprintf("%s: %d", key, requests[key]))
	}
	return strings.Join(out, ", ")
}
