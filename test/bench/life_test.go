// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/rekey/rekey/test/bench/results"
)

// chapters of a life that are measured beside the first issue.
type chapters struct {
	idle             time.Duration
	renewal, restart bool
}

// issue applies the fleet to a running operator and waits until all are Ready.
func issue(t *testing.T, s *apiServer, f fleet, o *operator, w *watcher) results.Phase {
	t.Helper()
	return phase(t, s, o, w, 1, f.creations(t), "POST clientidentities 201")
}

// phase sends the requests and waits until every identity is Ready with the revision. own is what the requests themselves
// count as.
func phase(t *testing.T, s *apiServer, o *operator, w *watcher, revision int32, requests []request, own string) results.Phase {
	t.Helper()
	before, cpu, served := s.requests(t), o.cpu(t), s.cpu(t)
	begun := time.Now()
	if err := s.applier.send(t.Context(), requests); err != nil {
		t.Fatal(err)
	}
	seconds := w.all(t, revision).Sub(begun).Seconds()
	counted := less(s.settled(t), before)
	if counted[own] != len(requests) {
		t.Fatalf("the API server counted %d of %d %q", counted[own], len(requests), own)
	}
	delete(counted, own)
	fmt.Printf("%s %s: %d in %.2f s\n", time.Now().UTC().Format(time.TimeOnly), filepath.Base(o.command.Path), len(requests), seconds)
	return results.Phase{Seconds: seconds, CPU: o.cpu(t) - cpu, ServerCPU: s.cpu(t) - served, PeakRSS: o.memory(t, "VmHWM"), Requests: counted}
}

// floorLife is the first issue by the bare operator.
func floorLife(t *testing.T, f fleet) results.Life {
	t.Helper()
	s, stop := startAPIServer(t, nil)
	defer stop()
	f.prepare(t, s)
	o := startFloor(t, s.kubeconfig(t, "floor"))
	defer o.stop(t)
	var life results.Life
	w := s.applier.watch(t, "clientidentities", f.n)
	life.StartRSS = o.memory(t, "VmHWM")
	life.Issue = issue(t, s, f, o, w)
	life.PeakRSS = o.memory(t, "VmHWM")
	return life
}

// rekeyLife is the first issue by rekey, and what else is requested.
func rekeyLife(t *testing.T, f fleet, more chapters) results.Life {
	t.Helper()
	s, stop := startAPIServer(t, nil)
	defer stop()
	used := f.prepare(t, s)
	kubeconfig := s.kubeconfig(t, "rekey")
	o := startRekey(t, kubeconfig)
	defer func() { o.stop(t) }()
	authorityReady(t, s, used.authority)
	var life results.Life
	w := s.applier.watch(t, "clientidentities", f.n)
	life.StartRSS = o.memory(t, "VmHWM")
	life.Issue = issue(t, s, f, o, w)
	issued := time.Now()
	if more.idle > 0 {
		life.Idle = idle(t, s, o, more.idle)
	}
	life.PeakRSS = o.memory(t, "VmHWM")
	if more.renewal {
		<-time.After(time.Until(issued.Add(oldEnough)))
		life.Renewal = storm(t, s, used, o, w)
		life.PeakRSS = max(life.PeakRSS, life.Renewal.PeakRSS)
	}
	if more.restart {
		o.stop(t)
		before := s.settled(t)
		o = startRekey(t, kubeconfig)
		quiet := o.quiet(t)
		life.Restart = &results.Restart{Seconds: quiet.Sub(o.begun).Seconds(), CPU: o.cpu(t), PeakRSS: o.memory(t, "VmHWM")}
		life.Restart.Reconciles = o.reconciles(t, s, "clientidentity")
		life.Restart.Writes = writesOf(less(s.settled(t), before))
	}
	return life
}

// oldEnough: nothing is renewed before it is ten seconds old, whatever is due.
const oldEnough = 11 * time.Second

// storm is the renewal of all identities at one instant: the authority has another key. It lasts from the request that
// reveals this to rekey until the last identity is Ready with a certificate of that key.
func storm(t *testing.T, s *apiServer, e exchange, o *operator, w *watcher) *results.Phase {
	t.Helper()
	e.exchanged(t, s)
	before, cpu, served := s.settled(t), o.cpu(t), s.cpu(t)
	if early := w.count(2); early > 0 {
		t.Fatalf("%d identities were renewed before the request: rekey has read the key pair on its own; measure again", early)
	}
	begun := time.Now()
	if err := s.client.Patch(t.Context(), e.authority, touchAuthority); err != nil {
		t.Fatal(err)
	}
	seconds := w.all(t, 2).Sub(begun).Seconds()
	requests := less(s.settled(t), before)
	for _, own := range []string{"PATCH certificateauthorities 200", "PATCH clustercertificateauthorities 200"} {
		delete(requests, own)
	}
	e.check(t, s, len(w.revision))
	return &results.Phase{Seconds: seconds, CPU: o.cpu(t) - cpu, ServerCPU: s.cpu(t) - served, PeakRSS: o.memory(t, "VmHWM"), Requests: requests}
}

// idle waits and does nothing.
func idle(t *testing.T, s *apiServer, o *operator, wait time.Duration) *results.Idle {
	t.Helper()
	o.quiet(t)
	before, cpu, begun := s.requests(t), o.cpu(t), time.Now()
	<-time.After(wait)
	took := time.Since(begun).Seconds()
	out := &results.Idle{Seconds: took, CPU: o.cpu(t) - cpu, SettledRSS: o.memory(t, "VmRSS")}
	out.Writes = writesOf(less(s.requests(t), before))
	return out
}
