// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/test/workload/report"
)

// good returns a past in which every promise was kept.
func good(start time.Time) *past {
	p := newPast()
	for i := range wantRotations + 1 {
		at := start.Add(time.Duration(i) * interval)
		for _, secret := range []string{appSecret, serverSecret, loginSecret} {
			v := &version{revision: int64(i + 1), at: at, mounted: at.Add(7 * time.Second), proven: at.Add(-time.Second).Truncate(time.Second)}
			if secret == loginSecret {
				v.login = fmt.Sprintf("orders_app_%c", 'a'+rune(i%2))
				if i < wantRotations {
					v.inOverlap = &attempt{at: at.Add(interval), accepted: true}
					v.afterRetirement = &attempt{at: at.Add(interval + overlap), words: "FATAL: no (SQLSTATE 28P01)"}
				}
			}
			p.versions[secret] = append(p.versions[secret], v)
		}
	}
	p.calls = report.Call{Call: 150}
	p.handshakes = 150
	for _, reason := range expiryReasons {
		p.warnings[warning{object: forgottenName, reason: reason}] = 1
	}
	p.expired = &expiry{notAfter: start.Add(2 * time.Minute), transition: start.Add(2 * time.Minute)}
	p.restart = &restart{watched: 20, quiet: 10 * time.Second}
	return p
}

func TestAPromiseIsBrokenOnlyByItsOwnBreach(t *testing.T) {
	start := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		spoil func(p *past)
		want  []string
	}{
		"nothing went wrong": {spoil: func(*past) {}},
		"a call failed":      {spoil: func(p *past) { p.calls.Failed = 1 }, want: []string{"failed calls of the application"}},
		"no call was made":   {spoil: func(p *past) { p.calls.Call = 0 }, want: []string{"failed calls of the application"}},
		"the server rejected a handshake": {
			spoil: func(p *past) { p.refusals = []string{"bad certificate"} }, want: []string{"handshakes rejected by the server"},
		},
		"an old login keeps working": {
			spoil: func(p *past) { p.versions[loginSecret][1].afterRetirement.accepted = true }, want: []string{"old logins rejected after retirement"},
		},
		"an old login is rejected during the overlap": {
			spoil: func(p *past) { p.versions[loginSecret][1].inOverlap.accepted = false }, want: []string{"old logins accepted during the overlap"},
		},
		"an old login is retired before the overlap ends": {
			spoil: func(p *past) { p.versions[loginSecret][1].afterRetirement.at = start.Add(2*interval + overlap/2) },
			want:  []string{"old logins retired before the overlap ended"},
		},
		"a login was published unproven": {
			spoil: func(p *past) { p.versions[loginSecret][2].proven = time.Time{} }, want: []string{"logins proven before they were published"},
		},
		"a pod did not follow": {
			spoil: func(p *past) { p.versions[appSecret][2].mounted = time.Time{} }, want: []string{"new versions in use within the overlap"},
		},
		"too few rotations": {
			spoil: func(p *past) { p.versions[serverSecret] = p.versions[serverSecret][:wantRotations] },
			want:  []string{"server certificate rotated", "new versions in use within the overlap"},
		},
		"a level warned twice": {
			spoil: func(p *past) { p.warnings[warning{object: forgottenName, reason: expiryReasons[1]}] = 2 },
			want:  []string{"warnings about the suspended identity"},
		},
		"Ready turned False too late": {
			spoil: func(p *past) { p.expired.transition = p.expired.notAfter.Add(2 * time.Second) },
			want:  []string{"Ready turns False at the second of expiry"},
		},
		"a healthy credential warned": {
			spoil: func(p *past) { p.warnings[warning{object: "orders", reason: expiryReasons[0]}] = 1 },
			want:  []string{"expiry warnings about rotating credentials"},
		},
		"the restart wrote something": {
			spoil: func(p *past) { p.restart.changed = []string{"Secret a/b"} }, want: []string{"writes caused by an operator restart"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			p := good(start)
			tc.spoil(p)
			var got []string
			for _, promise := range p.promises(start.Add(5 * time.Minute)) {
				if !promise.kept {
					got = append(got, promise.text)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("broken promises (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheSummaryReportsABrokenPromiseAndFails(t *testing.T) {
	var text bytes.Buffer
	kept := summarize(&printer{to: &text}, []promise{{"one", "0", "0", true}, {"another", "0", "7", false}})
	if kept || strings.Count(text.String(), " OK\n") != 1 || strings.Count(text.String(), "BROKEN") != 1 {
		t.Errorf("kept = %v:\n%s", kept, text.String())
	}
	if !summarize(&printer{to: &text}, []promise{{"one", "0", "0", true}}) {
		t.Error("a kept promise is reported as broken")
	}
}

func TestTheStoryIsCompleteOnlyWhenEverythingWasSeen(t *testing.T) {
	start := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	if !good(start).complete() {
		t.Error("a whole story is not complete")
	}
	for name, spoil := range map[string]func(*past){
		"restart":    func(p *past) { p.restart = nil },
		"expiry":     func(p *past) { p.expired = nil },
		"rotation":   func(p *past) { p.versions[appSecret] = p.versions[appSecret][:wantRotations] },
		"retirement": func(p *past) { p.versions[loginSecret][wantRotations-1].afterRetirement = nil },
		"mounted":    func(p *past) { p.versions[serverSecret][wantRotations].mounted = time.Time{} },
	} {
		p := good(start)
		spoil(p)
		if p.complete() {
			t.Errorf("the story is complete without %s", name)
		}
	}
}
