// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package gcpace

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

const (
	// least and most are the bounds of the percentage: a very large heap is not collected all the time, and a small one is
	// collected at all.
	least, most = 25, 400
	// step is the difference below which the setting is not changed: each change stops the world for some microseconds.
	step = 5
)

// liveBytes is the metric of the heap that was live at the last collection (runtime/metrics).
const liveBytes = "/gc/heap/live:bytes"

// Keep sets the pace: a collection whenever about headroom bytes were allocated since the last one. It does nothing if
// GOGC is set in the environment.
func Keep(headroom uint64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	keep(&pace{headroom: headroom})
}

type pace struct {
	headroom uint64
	set      atomic.Int64
}

// sentinel is immediately garbage: its finalizer runs after each collection and creates the next one.
type sentinel struct {
	pace *pace
	_    [16]byte // not a tiny object: those are collected in blocks
}

func keep(p *pace) {
	s := &sentinel{pace: p}
	runtime.SetFinalizer(s, func(s *sentinel) {
		s.pace.adjust(live())
		keep(s.pace)
	})
}

func live() uint64 {
	sample := []metrics.Sample{{Name: liveBytes}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// percent returns the headroom as a percentage of the live heap.
func percent(live, headroom uint64) int64 {
	if live == 0 {
		return most
	}
	return int64(max(least, min(most, 100*headroom/live)))
}

func (p *pace) adjust(live uint64) {
	want := percent(live, p.headroom)
	if have := p.set.Load(); want > have-step && want < have+step {
		return
	}
	p.set.Store(want)
	debug.SetGCPercent(int(want))
}
