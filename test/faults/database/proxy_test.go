// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
)

// These are the first messages of a connection (PostgreSQL, "Message Formats").
const (
	requestTLS    = 80877103
	requestCancel = 80877102
	// longest is the longest message that passes, in bytes.
	longest = 1 << 20
	// rest is the duration of a slow response.
	rest = 150 * time.Millisecond
)

// moment is one request of rekey, with its response.
type moment struct {
	n    int // counts from 1 over all connections
	conn int // number of the connection
	user string
	// application is the connection's user; "" before it is known.
	application string
	// what is "connect", "tls", "startup", "password", "cancel", or the SQL.
	what string
}

func (m moment) String() string {
	return fmt.Sprintf("moment %d (connection %d, user %q, %q): %s", m.n, m.conn, m.user, m.application, m.what)
}

// is reports whether the SQL starts with the text, or the moment has that name.
func (m moment) is(what string) bool {
	return strings.HasPrefix(strings.ToUpper(m.what), strings.ToUpper(what))
}

// wireFault is what happens to a moment.
type wireFault int

const (
	pass      wireFault = iota
	cutBefore           // the server never sees the request
	cutAfter            // the server executes it, and no part of the response comes back
	cutWithin           // half of the response comes back
	hold                // the request waits until the proxy is repaired, and then continues to the server
	mute                // the server executes it, and no response comes: the connection stays open
	slow                // the response takes a while
)

var wireFaults = []wireFault{cutBefore, cutAfter, cutWithin, hold, mute, slow}

func (d wireFault) String() string {
	return [...]string{"passes", "is cut off before it reaches the server", "is cut off before the response comes back", "is cut off in the middle of the response",
		"reaches the server late", "is never answered", "is answered slowly"}[d]
}

// proxy sits between rekey and a server. It presents the server's certificate, so that a login that is bound to it passes.
type proxy struct {
	t        *testing.T
	listener net.Listener
	group    sync.WaitGroup

	mu       sync.Mutex
	upstream string
	shown    *tls.Config
	script   func(moment) wireFault
	repaired chan struct{} // closed by repair
	moments  []moment
	accepted int
	open     map[net.Conn]bool
	closed   bool
}

func newProxy(t *testing.T, to *pgtest.Server) *proxy {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &proxy{t: t, listener: listener, repaired: make(chan struct{}), open: map[net.Conn]bool{}}
	w.routeTo(to)
	w.group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.group.Go(func() { w.serve(conn) })
		}
	})
	t.Cleanup(func() {
		w.mu.Lock()
		w.closed = true
		close(w.repaired)
		w.mu.Unlock()
		_ = listener.Close()
		w.hangUpAll()
		w.group.Wait()
	})
	return w
}

func (w *proxy) address() string { return w.listener.Addr().String() }

// routeTo sets the server for new connections.
func (w *proxy) routeTo(to *pgtest.Server) {
	w.t.Helper()
	pair, err := to.KeyPair()
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.upstream, w.shown = to.Address(), &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
}

// set sets the script that decides what happens to each moment; nil lets all pass.
func (w *proxy) set(script func(moment) wireFault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script = script
}

// repair ends all faults: held requests continue to the server, mute connections close.
func (w *proxy) repair() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.script = nil
	close(w.repaired)
	w.repaired = make(chan struct{})
}

// takeMoments returns the recorded moments and starts over.
func (w *proxy) takeMoments() (seen []moment, connections int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen, connections = w.moments, w.accepted
	w.moments, w.accepted = nil, 0
	return seen, connections
}

// decide returns what happens to a moment, and a channel that closes when the fault ends.
func (w *proxy) decide(m moment) (wireFault, <-chan struct{}) {
	w.mu.Lock()
	m.n = len(w.moments) + 1
	w.moments = append(w.moments, m)
	script, repaired := w.script, w.repaired
	w.mu.Unlock()
	if script == nil {
		return pass, repaired
	}
	return script(m), repaired
}

func (w *proxy) track(conn net.Conn) net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		_ = conn.Close()
	}
	w.open[conn] = true
	return conn
}

func (w *proxy) close(conns ...net.Conn) {
	for _, conn := range conns {
		_ = conn.Close()
		w.mu.Lock()
		delete(w.open, conn)
		w.mu.Unlock()
	}
}

func (w *proxy) hangUpAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.open {
		_ = conn.Close()
	}
}

// errCut ends a connection.
var errCut = errors.New("cut")

// serve forwards one connection.
func (w *proxy) serve(raw net.Conn) {
	w.mu.Lock()
	w.accepted++
	m := moment{conn: w.accepted, what: "connect"}
	upstream, shown := w.upstream, w.shown
	w.mu.Unlock()
	w.track(raw)
	defer w.close(raw)
	client, err := w.greet(m, raw, shown)
	if err != nil {
		return
	}
	startup, err := readUntyped(client)
	if err != nil {
		return
	}
	server, err := w.dial(upstream)
	if err != nil {
		return
	}
	defer w.close(server)
	if binary.BigEndian.Uint32(startup[4:]) == requestCancel {
		m.what = "cancel"
		if d, _ := w.decide(m); d == pass {
			_, _ = server.Write(startup)
		}
		return
	}
	m.user, m.application = parameter(startup, "user"), parameter(startup, "application_name")
	m.what = "startup"
	for request := startup; ; {
		if err := w.exchange(m, client, server, request); err != nil {
			return
		}
		if request, m.what, err = readRequest(client); err != nil {
			return
		}
		if request[0] == 'X' {
			_, _ = server.Write(request)
			return
		}
	}
}

// greet handles the start of a connection, up to TLS.
func (w *proxy) greet(m moment, raw net.Conn, shown *tls.Config) (net.Conn, error) {
	d, repaired := w.decide(m)
	switch d {
	case cutBefore:
		return nil, errCut
	case hold:
		<-repaired
	case slow:
		time.Sleep(rest)
	case pass, cutAfter, cutWithin, mute:
	}
	request, err := readUntyped(raw)
	if err != nil {
		return nil, err
	}
	if len(request) != 8 || binary.BigEndian.Uint32(request[4:]) != requestTLS {
		return nil, errors.New("rekey connected without TLS")
	}
	switch d {
	case cutAfter:
		return nil, errCut
	case mute:
		<-repaired
		return nil, errCut
	case pass, hold, slow, cutBefore, cutWithin:
	}
	if _, err := raw.Write([]byte("S")); err != nil || d == cutWithin {
		return nil, errCut
	}
	m.what = "tls"
	return w.secure(m, raw, shown)
}

// limited closes a connection after some bytes.
type limited struct {
	net.Conn
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	written, err := l.Conn.Write(p[:n])
	if err == nil && n < len(p) {
		err = errCut
	}
	return written, err
}

func (w *proxy) secure(m moment, raw net.Conn, shown *tls.Config) (net.Conn, error) {
	d, repaired := w.decide(m)
	under := raw
	switch d {
	case cutBefore:
		return nil, errCut
	case hold:
		<-repaired
	case slow:
		time.Sleep(rest)
	case cutWithin:
		under = &limited{raw, 100}
	case pass, cutAfter, mute:
	}
	client := tls.Server(under, shown)
	if err := client.HandshakeContext(context.WithoutCancel(w.t.Context())); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	switch d {
	case cutAfter:
		return nil, errCut
	case mute:
		<-repaired
		return nil, errCut
	case pass, hold, slow, cutBefore, cutWithin:
	}
	return client, nil
}

// exchange forwards one request and its response.
func (w *proxy) exchange(m moment, client, server net.Conn, request []byte) error {
	d, repaired := w.decide(m)
	switch d {
	case cutBefore:
		return errCut
	case hold:
		<-repaired
	case slow:
		time.Sleep(rest)
	case pass, cutAfter, cutWithin, mute:
	}
	if _, err := server.Write(request); err != nil {
		return fmt.Errorf("forwarding a request: %w", err)
	}
	answer, failed := readResponse(server)
	switch d {
	case cutAfter:
		return errCut
	case cutWithin:
		_, _ = client.Write(answer[:len(answer)/2])
		return errCut
	case mute:
		<-repaired
		return errCut
	case pass, hold, slow, cutBefore:
	}
	if _, err := client.Write(answer); err != nil {
		return fmt.Errorf("forwarding a response: %w", err)
	}
	return failed
}

// dial connects to the server, with TLS; rekey verifies at the proxy what it would verify at the server.
func (w *proxy) dial(upstream string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	raw, err := dialer.DialContext(context.WithoutCancel(w.t.Context()), "tcp", upstream)
	if err != nil {
		return nil, fmt.Errorf("dialing the server: %w", err)
	}
	w.track(raw)
	request := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), requestTLS)
	answer := make([]byte, 1)
	if _, err = raw.Write(request); err == nil {
		_, err = io.ReadFull(raw, answer)
	}
	if err != nil || answer[0] != 'S' {
		w.close(raw)
		return nil, errors.New("the server does not offer TLS")
	}
	return tls.Client(raw, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}), nil
}
