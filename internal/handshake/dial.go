// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/rekey/rekey/internal/netguard"
)

const (
	// defaultTimeout limits an attempt, from the first look-up to the first answer.
	defaultTimeout = 10 * time.Second
	// maxAddresses limits how many addresses of a host are tried.
	maxAddresses = 4
	// maxBytes limits what is read of a peer. A server's list of acceptable authorities may have 64 KiB, its chain 256 KiB.
	maxBytes = 512 << 10
)

// Dialer dials endpoints.
type Dialer struct {
	// Network connects. Share it with everything else that dials.
	Network *netguard.Dialer
	// Rules are the rules for the addresses.
	Rules netguard.Rules
	// Timeout limits an attempt; 0 means 10 seconds. The context may end it earlier.
	Timeout time.Duration
}

// Dial dials an endpoint once and reports what happened. Every failure is in the Result; the error is that of Validate, and nothing
// is dialed then.
func (d Dialer) Dial(caller context.Context, e Endpoint) (Result, error) {
	if err := e.Validate(); err != nil {
		return Result{At: e.Time}, err
	}
	ctx, cancel := context.WithTimeout(caller, d.timeout())
	defer cancel()
	s := newSession(e)
	leave, ok := d.Network.Enter(string(e.Protocol) + " " + e.Address) // another protocol may get an answer
	if !ok {
		s.attempt.Stage, s.attempt.Note = StageTimeOut, "did not answer last time, and another attempt to reach it is in progress"
		return s.result(), nil
	}
	defer func() { leave(s.answered() || errors.Is(caller.Err(), context.Canceled)) }()
	conn, err := d.connect(ctx, e.Address)
	if err != nil {
		s.attempt.Stage, s.attempt.Note = stageOf(err)
		return s.result(), nil
	}
	defer func() { _ = conn.Close() }()
	s.out.Address = conn.RemoteAddr().String()
	if err := s.run(ctx, &limitedConn{Conn: conn, left: maxBytes}); err != nil {
		s.attempt.End, s.attempt.Alert, s.attempt.Note = Diagnose(err)
	}
	return s.result(), nil
}

func (d Dialer) timeout() time.Duration {
	if d.Timeout == 0 {
		return defaultTimeout
	}
	return d.Timeout
}

// connect dials the addresses of a host, one after the other. The error is that of the first address.
func (d Dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	found, err := d.Network.LookupHost(ctx, d.Rules, host)
	if err != nil {
		return nil, err
	}
	found = found[:min(len(found), maxAddresses)]
	var first error = &net.DNSError{Err: "no address", Name: host, IsNotFound: true}
	for i, ip := range found {
		conn, err := d.connectTo(ctx, net.JoinHostPort(ip, port), len(found))
		if err == nil {
			return conn, nil
		}
		if i == 0 {
			first = err
		}
	}
	return nil, first
}

// connectTo dials one of several addresses, which share the time.
func (d Dialer) connectTo(ctx context.Context, address string, of int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout()/time.Duration(of))
	defer cancel()
	conn, err := d.Network.DialContext(ctx, d.Rules, "tcp", address)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return conn, err
}

// limitedConn limits what is read.
type limitedConn struct {
	net.Conn

	left int
}

// Read implements net.Conn.
func (c *limitedConn) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}
