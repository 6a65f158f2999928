// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"
	"time"

	"github.com/rekey/rekey/test/workload/report"
)

// version is one version of a credential, as its Secret showed it.
type version struct {
	revision int64
	at       time.Time // when it was seen first
	serial   string    // of a certificate, hexadecimal
	notAfter time.Time // of a certificate
	login    string    // of a login
	secret   map[string][]byte
	// mounted is when the application worked with it first; zero where it has not.
	mounted time.Time
	// proven is when the operator logged in with it; zero where that is not known.
	proven time.Time
	// inOverlap and afterRetirement are what an independent client met with it when it was no longer published.
	inOverlap, afterRetirement *attempt
}

// attempt is one try of the independent client.
type attempt struct {
	at       time.Time
	accepted bool
	words    string // the server's own
}

// use is the first time that the application worked with something new.
type use struct {
	at    time.Time
	login string
}

// expiry is how the forgotten identity ended.
type expiry struct {
	notAfter   time.Time
	transition time.Time // lastTransitionTime of Ready=False
	seen       time.Time
}

// restart is one restart of the operator while nothing was due.
type restart struct {
	back    time.Duration // until a new process led
	quiet   time.Duration // how long it was watched afterwards
	watched int           // Secrets and objects that were compared
	changed []string      // those that were written
}

// past is everything that was seen so far. The programs' lines and the observer write to it at the same time.
type past struct {
	mu sync.Mutex
	// over is true once the story has ended: what is taken down afterwards may fail.
	over bool
	// versions by the name of their Secret, in order.
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
	// canaries are secrets that no log, Event or status may show, by what they are.
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

// rotations counts how often the Secret got a new version.
func (p *past) rotations(secret string) int { return max(0, len(p.versions[secret])-1) }

// used counts the versions of a Secret that the application worked with.
func (p *past) used(secret string) int {
	count := 0
	for _, v := range p.versions[secret] {
		if !v.mounted.IsZero() {
			count++
		}
	}
	return count
}

// refused counts the logins that were tried after their retirement and refused.
func (p *past) refused() int {
	count := 0
	for _, v := range p.versions[loginSecret] {
		if v.afterRetirement != nil && !v.afterRetirement.accepted {
			count++
		}
	}
	return count
}

// enough is how many rotations of each credential make the story.
const enough = 3

// complete tells whether the story has shown everything that it promised to show.
func (p *past) complete() bool {
	for _, secret := range []string{appSecret, serverSecret, loginSecret} {
		if p.rotations(secret) < enough || p.used(secret) <= enough {
			return false
		}
	}
	return p.refused() >= enough && p.expired != nil && p.restart != nil
}
