// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package gcpace

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

const mega = 1 << 20

func TestPercentIsTheHeadroomWithinBounds(t *testing.T) {
	for name, tc := range map[string]struct {
		live, headroom uint64
		want           int64
	}{
		"nothing is known":     {0, 16 * mega, most},
		"a small heap":         {1 * mega, 16 * mega, most},
		"as large as headroom": {16 * mega, 16 * mega, 100},
		"twice as large":       {32 * mega, 16 * mega, 50},
		"very large":           {1024 * mega, 16 * mega, least},
	} {
		t.Run(name, func(t *testing.T) {
			if got := percent(tc.live, tc.headroom); got != tc.want {
				t.Errorf("percent(%d, %d) = %d, want %d", tc.live, tc.headroom, got, tc.want)
			}
		})
	}
}

// What grows is the goal of the collector: by as much as what lives, not by twice as much.
func TestTheGoalIsTheLiveHeapPlusTheHeadroom(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	p := &pace{headroom: 8 * mega}
	keep(p)
	var held [][]byte
	for range 60 {
		held = append(held, make([]byte, mega))
		for range 8 {
			_ = make([]byte, mega) // garbage
		}
	}
	collectTwice(p)
	goal := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(goal)
	alive := live()
	if got := goal[0].Value.Uint64(); alive < 60*mega || got > alive+alive/3 {
		t.Errorf("with %d MiB alive the goal is %d MiB, want at most a third more", alive/mega, got/mega)
	}
	runtime.KeepAlive(held)
}

// collectTwice collects, lets the finalizer set the pace, and collects with that.
func collectTwice(p *pace) {
	p.set.Store(0)
	for p.set.Load() == 0 {
		runtime.GC()
		runtime.Gosched()
	}
	runtime.GC()
}
