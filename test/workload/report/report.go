// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package report defines what the application and the server of the demo print: one JSON object per line, without any
// secret.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"
)

// Call is what the application prints after every call.
type Call struct {
	Time time.Time `json:"time"`
	// Call counts from 1. Failed is the number of failed calls so far, including this one.
	Call   int `json:"call"`
	Failed int `json:"failed"`
	// Error is why this call failed; empty if it succeeded.
	Error string `json:"error,omitempty"`
	// Client and Server are the serial numbers of the certificates of this call, hexadecimal.
	Client string `json:"client,omitempty"`
	Server string `json:"server,omitempty"`
	// Login is the session's user, Owner the role it acted as.
	Login string `json:"login,omitempty"`
	Owner string `json:"owner,omitempty"`
	// Password numbers the different passwords in the order of their first use, from 1.
	Password int `json:"password,omitempty"`
	// Seen counts the different client certificates, server certificates and passwords so far.
	Seen Seen `json:"seen"`
}

// Seen counts distinct values.
type Seen struct {
	Clients   int `json:"clients"`
	Servers   int `json:"servers"`
	Passwords int `json:"passwords"`
}

// Handshake is what the server prints after every request and every failed handshake.
type Handshake struct {
	Time time.Time `json:"time"`
	// Client is the common name of the client's certificate, Serial its serial number, hexadecimal.
	Client string `json:"client,omitempty"`
	Serial string `json:"serial,omitempty"`
	// Error is why a handshake failed.
	Error string `json:"error,omitempty"`
}

// Serial formats a certificate's serial number as the operator's status does: lower-case hexadecimal.
func Serial(number *big.Int) string { return fmt.Sprintf("%x", number) }

// Lines writes objects as JSON lines. It is safe for concurrent use.
type Lines struct {
	mu sync.Mutex
	to *json.Encoder
}

// NewLines returns Lines that write to w.
func NewLines(w io.Writer) *Lines { return &Lines{to: json.NewEncoder(w)} }

// Write writes one line.
func (l *Lines) Write(line any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.to.Encode(line); err != nil {
		return fmt.Errorf("writing a line of the report: %w", err)
	}
	return nil
}
