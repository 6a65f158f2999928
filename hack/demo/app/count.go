// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"time"

	"github.com/rekey/rekey/test/workload/report"
)

// outcome is the result of one call.
type outcome struct {
	at             time.Time
	err            error
	client, server string // serial numbers
	login, owner   string
	password       [sha256.Size]byte // never printed, only compared
}

// counter counts calls, failures and different credentials.
type counter struct {
	calls, failed    int
	clients, servers map[string]bool
	passwords        map[[sha256.Size]byte]int
}

// add counts one call and returns the line to print. A credential counts as seen once it worked.
func (c *counter) add(o outcome) report.Call {
	if c.clients == nil {
		c.clients, c.servers, c.passwords = map[string]bool{}, map[string]bool{}, map[[sha256.Size]byte]int{}
	}
	c.calls++
	said := report.Call{Time: o.at.UTC(), Call: c.calls, Client: o.client, Server: o.server, Login: o.login, Owner: o.owner}
	if o.err != nil {
		c.failed++
		said.Error = o.err.Error()
	}
	if o.client != "" && o.server != "" {
		c.clients[o.client], c.servers[o.server] = true, true
	}
	if o.login != "" {
		if _, known := c.passwords[o.password]; !known {
			c.passwords[o.password] = len(c.passwords) + 1
		}
		said.Password = c.passwords[o.password]
	}
	said.Failed = c.failed
	said.Seen = report.Seen{Clients: len(c.clients), Servers: len(c.servers), Passwords: len(c.passwords)}
	return said
}
