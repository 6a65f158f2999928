// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package report is what the application and the server of the demo say: one JSON object per line on standard output,
// without any secret.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"sync"
	"time"
)

// Call is what the application says after every call.
type Call struct {
	Time time.Time `json:"time"`
	// Call counts from 1. Failed counts the calls so far that failed, this one included.
	Call   int `json:"call"`
	Failed int `json:"failed"`
	// Error says why this call failed; empty where it did not.
	Error string `json:"error,omitempty"`
	// Client and Server are the serial numbers of the certificates of this call, hexadecimal.
	Client string `json:"client,omitempty"`
	Server string `json:"server,omitempty"`
	// Login is the session's user, Owner the role that it acted as.
	Login string `json:"login,omitempty"`
	Owner string `json:"owner,omitempty"`
	// Password counts the different passwords that were used so far: 1 for the first.
	Password int `json:"password,omitempty"`
	// Seen counts the different client certificates, server certificates and passwords so far.
	Seen Seen `json:"seen"`
}

// Seen counts what was different from all before.
type Seen struct {
	Clients   int `json:"clients"`
	Servers   int `json:"servers"`
	Passwords int `json:"passwords"`
}

// Handshake is what the server says after every request, and after every handshake that failed.
type Handshake struct {
	Time time.Time `json:"time"`
	// Client is the common name of the client's certificate, Serial its serial number, hexadecimal.
	Client string `json:"client,omitempty"`
	Serial string `json:"serial,omitempty"`
	// Error says why a handshake failed.
	Error string `json:"error,omitempty"`
}

// Serial writes a certificate's serial number as the operator's status does: hexadecimal, lower case.
func Serial(number *big.Int) string { return fmt.Sprintf("%x", number) }

// Lines writes objects as lines. It may be used by several goroutines.
type Lines struct {
	mu sync.Mutex
	to *json.Encoder
}

// NewLines writes to w.
func NewLines(w io.Writer) *Lines { return &Lines{to: json.NewEncoder(w)} }

// Write one line.
func (l *Lines) Write(line any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.to.Encode(line); err != nil {
		return fmt.Errorf("writing a line of the report: %w", err)
	}
	return nil
}
