// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build bench

package bench

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/test/bench/results"
)

// part of a run: a fleet, how often it is measured, and what is measured beside the first issue, the first time; in one
// namespace a renewal each time. Not every fleet is measured completely: the whole is long enough.
type part struct {
	fleet
	pairs int
	more  chapters
}

// everything is what is measured of an issue, a renewal, a restart and a rest.
func everything(rest time.Duration) chapters {
	return chapters{idle: rest, renewal: true, restart: true}
}

var plans = map[string]struct {
	parts               []part
	credentials, rounds int
}{
	results.Full: {[]part{
		{fleet{1000, 1}, 3, everything(5 * time.Second)}, {fleet{5000, 1}, 1, chapters{renewal: true}}, {fleet{10000, 1}, 1, everything(time.Minute)},
		{fleet{1000, 100}, 2, everything(0)}, {fleet{5000, 100}, 1, chapters{}}, {fleet{10000, 100}, 1, chapters{}},
	}, 200, 2},
	results.Short: {[]part{
		{fleet{500, 1}, 2, everything(0)}, {fleet{2000, 1}, 1, everything(15 * time.Second)}, {fleet{1000, 100}, 1, chapters{}},
	}, 50, 1},
}

// TestSpeed measures everything and fails if a bar is missed. REKEY_SIZE=full takes about 20 minutes on two cores, anything
// else a few; the results are left in .cache/test/bench.
func TestSpeed(t *testing.T) {
	size := results.Short
	if os.Getenv("REKEY_SIZE") == results.Full {
		size = results.Full
	}
	plan := plans[size]
	measured := results.Run{Size: size, Date: time.Now().UTC().Format("2006-01-02"), Machine: machine(t), Versions: versions(t)}
	for i, p := range plan.parts {
		f := results.Fleet{N: p.n, Namespaces: p.namespaces}
		for round := range p.pairs {
			t.Run(p.String()+" "+strconv.Itoa(round+1), func(t *testing.T) {
				more := p.more
				if round > 0 {
					more = chapters{renewal: more.renewal && p.namespaces == 1}
				}
				pair := measure(t, p.fleet, i+round, more, "")
				show(t, p.fleet, pair)
				f.Pairs = append(f.Pairs, pair)
			})
		}
		if len(f.Pairs) < p.pairs {
			t.Fatalf("only %d of %d pairs of %s could be measured", len(f.Pairs), p.pairs, p)
		}
		measured.Fleets = append(measured.Fleets, f)
	}
	t.Run("database", func(t *testing.T) { measured.Database = rotations(t, plan.credentials, plan.rounds) })
	if err := results.Write(measured, filepath.Join("..", "..", ".cache", "test", "bench", size+".json")); err != nil {
		t.Fatal(err)
	}
	for _, bar := range measured.Bars() {
		t.Run(bar.Name, func(t *testing.T) {
			t.Log(bar)
			if !bar.Met() {
				t.Errorf("missed: %s", bar)
			}
		})
	}
}

func machine(t *testing.T) results.Machine {
	t.Helper()
	field := func(path, name string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if before, after, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(before) == name {
				return strings.TrimSpace(after)
			}
		}
		return "unknown"
	}
	memory, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " ")
	kibi, err := strconv.Atoi(memory)
	if err != nil {
		t.Fatal(err)
	}
	return results.Machine{CPU: field("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), Memory: kibi / 1024, System: runtime.GOOS + "/" + runtime.GOARCH}
}

func versions(t *testing.T) results.Versions {
	t.Helper()
	out := results.Versions{Go: runtime.Version(), PostgreSQL: strconv.Itoa(postgresVersion), Rekey: said(t, "git", "describe", "--always", "--dirty")}
	out.Kubernetes = strings.TrimPrefix(said(t, filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-apiserver"), "--version"), "Kubernetes ")
	return out
}

// said returns the output of a command.
func said(t *testing.T, name string, arguments ...string) string {
	t.Helper()
	text, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, arguments...).Output()
	if err != nil {
		t.Fatalf("running %s: %v", name, err)
	}
	return string(bytes.TrimSpace(text))
}
