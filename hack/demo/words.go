// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"time"

	"github.com/rekey/rekey/test/workload/report"
)

// appSaid records one line of the application.
func (d *demo) appSaid(line string) {
	d.past.mu.Lock()
	defer d.past.mu.Unlock()
	if d.past.over {
		return
	}
	var call report.Call
	if err := json.Unmarshal([]byte(line), &call); err != nil || call.Call == 0 {
		d.out.tellf(time.Now(), "broken", "application", "it printed: %s", line)
		return
	}
	if call.Error != "" {
		d.past.failures = append(d.past.failures, call.Error)
		d.out.tellf(call.Time, "broken", "application", "call %d failed: %s", call.Call, call.Error)
	}
	for _, serial := range []string{call.Client, call.Server} {
		if _, known := d.past.serials[serial]; serial != "" && !known {
			d.past.serials[serial] = call.Time
		}
	}
	if call.Seen.Passwords > d.past.calls.Seen.Passwords {
		d.past.passwords = append(d.past.passwords, use{at: call.Time, login: call.Login})
	}
	d.past.calls = call
}

// serverSaid records one line of the server.
func (d *demo) serverSaid(line string) {
	d.past.mu.Lock()
	defer d.past.mu.Unlock()
	if d.past.over {
		return
	}
	var handshake report.Handshake
	if err := json.Unmarshal([]byte(line), &handshake); err != nil || handshake.Time.IsZero() {
		d.out.tellf(time.Now(), "broken", "server", "it printed: %s", line)
		return
	}
	if handshake.Error != "" {
		d.past.refusals = append(d.past.refusals, handshake.Error)
		d.out.tellf(handshake.Time, "broken", "server", "a handshake failed: %s", handshake.Error)
		return
	}
	d.past.handshakes++
	d.past.clients[handshake.Client] = true
}
