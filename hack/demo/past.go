// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"time"

	"github.com/rekey/rekey/test/workload/report"
)

// version is one version of a credential as its Secret showed it.
type version struct {
	revision int64
	at       time.Time // when it was first seen
	serial   string    // of a certificate, hexadecimal
	notAfter time.Time // of a certificate
	login    string    // of a login
	secret   map[string][]byte
	// mounted is when the application first used it; zero if it has not.
	mounted time.Time
	// proven is when the operator logged in with it; zero if unknown.
	proven time.Time
	// inOverlap and afterRetirement are what an independent client got with it once it was no longer published.
	inOverlap, afterRetirement *attempt
}

// attempt is one login attempt of the independent client.
type attempt struct {
	at       time.Time
	accepted bool
	words    string // the server's own
}

// use is when the application first used something new.
type use struct {
	at    time.Time
	login string
}

// expiry is how the forgotten identity expired.
type expiry struct {
	notAfter   time.Time
	transition time.Time // lastTransitionTime of Ready=False
	seen       time.Time
}

// restart is one restart of the operator while nothing was due.
type restart struct {
	back    time.Duration // until a new process led
	quiet   time.Duration // how long it was watched after that
	watched int           // Secrets and objects that were compared
	changed []string      // those that were written
}

// past is everything observed so far. The observer and the readers of the programs' logs write to it concurrently.
type past struct {
	mu sync.Mutex
	// over is true once the story has ended: failures while everything stops do not count.
	over bool
	// versions by the name of their Secret, oldest first.
	versions map[string][]*version
	// first use of a certificate by serial number, and of passwords in order.
	serials   map[string]time.Time
	passwords []use

	calls      report.Call // the last line of the application
	failures   []string
	handshakes int
	clients    map[string]bool // common names that the server saw
	refusals   []string        // handshakes that the server refused

	warnings map[warning]int
	expired  *expiry
	restart  *restart
	// canaries maps descriptions to secrets that no log, Event or status may show.
	canaries map[string][]byte
}

// warning is an object and the reason of a Warning Event about it.
type warning struct{ object, reason string }

func newPast() *past {
	return &past{
		versions: map[string][]*version{}, serials: map[string]time.Time{}, clients: map[string]bool{},
		warnings: map[warning]int{}, canaries: map[string][]byte{},
	}
}

// rotations returns how often the Secret got a new version.
func (p *past) rotations(secret string) int { return max(0, len(p.versions[secret])-1) }

// used returns how many versions of a Secret the application used.
func (p *past) used(secret string) int {
	count := 0
	for _, v := range p.versions[secret] {
		if !v.mounted.IsZero() {
			count++
		}
	}
	return count
}

// refused returns how many logins were rejected after their retirement.
func (p *past) refused() int {
	count := 0
	for _, v := range p.versions[loginSecret] {
		if v.afterRetirement != nil && !v.afterRetirement.accepted {
			count++
		}
	}
	return count
}

// wantRotations is how many rotations of each credential the story needs.
const wantRotations = 3

// complete reports whether the story has shown everything it promised.
func (p *past) complete() bool {
	for _, secret := range []string{appSecret, serverSecret, loginSecret} {
		if p.rotations(secret) < wantRotations || p.used(secret) <= wantRotations {
			return false
		}
	}
	return p.refused() >= wantRotations && p.expired != nil && p.restart != nil
}
