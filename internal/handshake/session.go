// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

const (
	// quiet is how long a server that has accepted a client may take to say otherwise, once it has nothing left to do: TLS has no
	// message with which a server accepts a client.
	quiet = time.Second
	// unheard is the same while the server may still be busy with the handshake: it has not sent a session ticket (RFC 8446, section
	// 4.6.1), as most servers do once they have accepted the client.
	unheard = 3 * time.Second
)

// session is one attempt over one connection.
type session struct {
	endpoint Endpoint
	attempt  Attempt
	out      Result
	// first holds what the server sent before it was asked.
	first []byte
}

func newSession(e Endpoint) *session {
	return &session{
		endpoint: e,
		attempt:  Attempt{Now: e.Time, ServerName: e.serverName(), Roots: e.Roots},
		out:      Result{At: e.Time},
	}
}

// answered reports whether anything came from the address in time.
func (s *session) answered() bool {
	if s.attempt.Phase == PhaseDial {
		return s.attempt.Stage != StageTimeOut
	}
	return s.attempt.Phase > PhaseHello || s.attempt.End != EndTimeOut
}

// result judges the attempt.
func (s *session) result() Result {
	out := s.out
	out.Verdict = Judge(s.attempt)
	out.Peer, out.Requested, out.Presented = s.attempt.Server, s.attempt.Requested, len(s.attempt.Client) > 0
	out.AcceptableCAs, out.Alert, out.ServerTime = s.attempt.AcceptableCAs, s.attempt.Alert, s.attempt.ServerTime
	return out
}

// run performs the attempt. The error is what ended it before there was an answer.
func (s *session) run(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // a connection that is closed already fails below
	}
	s.attempt.Phase = PhaseOpening
	if err := open(s.endpoint.Protocol, conn); err != nil {
		return err
	}
	s.attempt.Phase = PhaseHello
	tickets := &ticketBell{conn: conn}
	secured := tls.Client(conn, s.config(tickets))
	err := secured.HandshakeContext(ctx)
	s.record(secured.ConnectionState())
	if err != nil {
		return err
	}
	s.attempt.Phase = PhaseCompleted
	if !s.serverInOrder() {
		return nil // a client would have ended the connection
	}
	if err := s.listen(ctx, secured, tickets); err != nil {
		return err
	}
	return s.exchange(secured)
}

func (s *session) record(state tls.ConnectionState) {
	if state.Version != 0 {
		s.attempt.Phase = PhaseShaking
	}
	s.out.Version, s.out.Cipher, s.out.ALPN = state.Version, state.CipherSuite, state.NegotiatedProtocol
}

// config is that of a client which judges the server itself: the standard client ends the handshake before the server has named
// the authorities that it accepts.
func (s *session) config(tickets *ticketBell) *tls.Config {
	out := &tls.Config{
		MinVersion:           tls.VersionTLS12,
		MaxVersion:           s.endpoint.MaxVersion,
		ServerName:           s.endpoint.serverName(),
		Time:                 func() time.Time { return s.endpoint.Time },
		InsecureSkipVerify:   true, //nolint:gosec // Judge verifies the server, and present does before it presents anything
		ClientSessionCache:   tickets,
		VerifyConnection:     s.meet,
		GetClientCertificate: s.present,
		Renegotiation:        tls.RenegotiateOnceAsClient, // with TLS 1.2, some servers request a certificate only then
	}
	if s.endpoint.Protocol == HTTPS {
		out.NextProtos = []string{"http/1.1"}
	}
	return out
}

// meet records the server's chain.
func (s *session) meet(state tls.ConnectionState) error {
	s.attempt.Server = state.PeerCertificates
	return nil
}

// serverInOrder reports whether a client would accept the server.
func (s *session) serverInOrder() bool {
	return len(s.attempt.Server) > 0 && len(examineServer(s.attempt.Server, s.attempt.Roots, s.attempt.ServerName, s.attempt.Now)) == 0
}

// present records what the server requests, and presents the client's certificate if the server's is in order. It is presented
// even if the server does not accept its authority: presenting nothing would be reported as a missing certificate.
func (s *session) present(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	s.attempt.Requested, s.attempt.AcceptableCAs = true, request.AcceptableCAs
	identity := s.endpoint.Identity
	if identity == nil || !s.serverInOrder() {
		return &tls.Certificate{}, nil
	}
	s.attempt.Client, s.attempt.Anchors = identity.Chain, identity.Anchors
	return identity.pair(), nil
}

// listen waits until the server has judged the client, as far as it lets a client see that. A request that is sent before the
// alert has arrived can make the network drop the alert.
func (s *session) listen(ctx context.Context, conn *tls.Conn, tickets *ticketBell) error {
	judgesLater := s.out.Version == tls.VersionTLS13 && s.attempt.Requested
	if s.endpoint.Protocol != TLS {
		if judgesLater {
			return s.hear(ctx, conn, tickets, quiet) // the exchange has the last word
		}
		return nil
	}
	if judgesLater {
		if err := s.hear(ctx, conn, tickets, unheard); err != nil || len(s.first) > 0 || !tickets.heard() {
			return err
		}
	}
	return s.hear(ctx, conn, tickets, quiet)
}

// hear waits for the server to say something. Silence is not an error, unless the time of the whole attempt ends first: a server
// that was not given its time has not accepted anything. A session ticket ends the wait.
func (s *session) hear(ctx context.Context, conn *tls.Conn, tickets *ticketBell, patience time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	until, _ := waiting.Deadline()
	whole, limited := ctx.Deadline()
	cutShort := limited && !until.Before(whole)
	if err := conn.SetReadDeadline(until); err != nil {
		return err
	}
	buffer := make([]byte, 1)
	tickets.arm()
	n, err := conn.Read(buffer)
	rang := tickets.disarm()
	s.first = append(s.first, buffer[:n]...)
	if n > 0 || timedOut(err) && ctx.Err() == nil && (rang || !cutShort) {
		err = nil
	}
	_ = conn.SetReadDeadline(whole) // a connection that is closed already fails at the next read
	return err
}

// ticketBell wakes hear when the first session ticket arrives. A ticket that arrives at any other time wakes nobody: an exchange
// would take it for a time-out. No ticket is kept: every handshake is a full one.
type ticketBell struct {
	conn net.Conn

	mu    sync.Mutex
	armed bool
	rung  bool
}

func (b *ticketBell) arm() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = !b.rung
}

// disarm reports whether the bell rang since arm.
func (b *ticketBell) disarm() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	rang := b.armed && b.rung
	b.armed = false
	return rang
}

func (b *ticketBell) heard() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.rung
}

// Get implements tls.ClientSessionCache.
func (b *ticketBell) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put implements tls.ClientSessionCache. It is called during a read; one that hear waits for then returns at once.
func (b *ticketBell) Put(string, *tls.ClientSessionState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.armed && !b.rung {
		b.rung = true
		_ = b.conn.SetReadDeadline(time.Unix(1, 0)) // if that fails, the read ends later
	}
}
