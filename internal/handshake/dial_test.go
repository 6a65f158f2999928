// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/handshake"
	"github.com/rekey/rekey/internal/netguard"
)

// serve accepts connections on loopback until the test ends, and returns the address.
func serve(t *testing.T, each func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				each(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// world is a server's and a client's certificate under one root.
type world struct {
	root, server, client *signed
}

func newWorld(t *testing.T) world {
	t.Helper()
	root := sign(t, template("root", isAuthority), nil)
	return world{root, sign(t, template("server", nil), root), sign(t, template("app", nil), root)}
}

// config is that of a server that requires a client certificate. Its clock is that of the tests.
func (w world) config() *tls.Config {
	clients := x509.NewCertPool()
	clients.AddCert(w.root.certificate)
	return &tls.Config{
		Certificates: []tls.Certificate{w.server.pair()}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		MinVersion: tls.VersionTLS12, Time: func() time.Time { return now },
	}
}

func (w world) endpoint(t *testing.T, address string) handshake.Endpoint {
	t.Helper()
	return handshake.Endpoint{
		Address: address, ServerName: "app.example.internal", Protocol: handshake.HTTPS, Roots: chain(w.root), Identity: w.client.identity(t, w.root), Time: now,
	}
}

// answerHTTP answers one request over TLS.
func answerHTTP(config *tls.Config, answer string) func(net.Conn) {
	return func(conn net.Conn) {
		secured := tls.Server(conn, config)
		if _, err := secured.Read(make([]byte, 1<<10)); err != nil {
			return
		}
		_, _ = io.WriteString(secured, answer)
		_ = secured.CloseWrite()
		_, _ = io.Copy(io.Discard, conn)
	}
}

const ok = "HTTP/1.1 204 No Content\r\nDate: Mon, 01 Mar 2027 12:00:00 GMT\r\n\r\n"

func dialer(timeout time.Duration) handshake.Dialer {
	return handshake.Dialer{Network: &netguard.Dialer{}, Rules: netguard.Rules{AllowLoopback: true}, Timeout: timeout}
}

// dial dials an endpoint that is valid.
func dial(t *testing.T, d handshake.Dialer, endpoint handshake.Endpoint) handshake.Result {
	t.Helper()
	got, err := d.Dial(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDialReportsWhatWasAgreedOn(t *testing.T) {
	w := newWorld(t)
	address := serve(t, answerHTTP(w.config(), ok))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		endpoint := w.endpoint(t, address)
		endpoint.MaxVersion = version
		got := dial(t, dialer(0), endpoint)
		if got.Outcome != credential.Accepted || len(got.Causes) > 0 {
			t.Fatalf("got %s %v (%s)", got.Outcome, got.Causes, got.Detail)
		}
		switch {
		case got.Version != version || got.Cipher == 0 || got.Status != http.StatusNoContent || !got.ServerTime.Equal(now) || !got.At.Equal(now):
			t.Errorf("got %s, cipher %d, status %d, server time %s, at %s", got.VersionName(), got.Cipher, got.Status, got.ServerTime, got.At)
		case got.Address != address || len(got.Peer) != 1 || !got.Peer[0].Equal(w.server.certificate):
			t.Errorf("got address %s and %d certificates", got.Address, len(got.Peer))
		case !got.Requested || !got.Presented || !handshake.Acceptable(got.AcceptableCAs, chain(w.client), nil):
			t.Errorf("requested %t, presented %t, acceptable: %q", got.Requested, got.Presented, got.AcceptableCAs)
		}
	}
}

// A client with TLS 1.3 has completed the handshake before the server refuses it.
func TestARefusalAfterTheHandshakeIsSeen(t *testing.T) {
	w := newWorld(t)
	foreign := sign(t, template("foreign root", isAuthority), nil)
	intruder := sign(t, template("app", nil), foreign)
	for _, protocol := range []handshake.Protocol{handshake.TLS, handshake.HTTPS} {
		address := serve(t, answerHTTP(w.config(), ok))
		endpoint := w.endpoint(t, address)
		endpoint.Protocol, endpoint.Identity = protocol, intruder.identity(t, foreign)
		got := dial(t, dialer(0), endpoint)
		if got.Outcome != credential.Rejected || !got.Is(handshake.ClientAuthorityNotTrusted) || got.Alert != 48 || got.Version != tls.VersionTLS13 {
			t.Errorf("%s: got %s %v, alert %s (%s)", protocol, got.Outcome, got.Causes, got.Alert, got.Detail)
		}
	}
}

func TestASilentServerHasAcceptedTheClient(t *testing.T) {
	w := newWorld(t)
	for name, tickets := range map[string]bool{"with a session ticket": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := w.config()
			config.SessionTicketsDisabled = !tickets
			address := serve(t, func(conn net.Conn) { _, _ = tls.Server(conn, config).Read(make([]byte, 1)) })
			endpoint := w.endpoint(t, address)
			endpoint.Protocol = handshake.TLS
			if got := dial(t, dialer(0), endpoint); got.Outcome != credential.Accepted {
				t.Errorf("got %s %v (%s)", got.Outcome, got.Causes, got.Detail)
			}
		})
	}
}

// lateConn delays the second flight of a server, which is the session ticket, and what follows: a client that receives both at once
// does not notice the ticket.
type lateConn struct {
	net.Conn

	flights int
}

func (c *lateConn) Write(p []byte) (int, error) {
	switch c.flights++; c.flights {
	case 2:
		time.Sleep(1500 * time.Millisecond)
	case 3:
		time.Sleep(300 * time.Millisecond)
	}
	return c.Conn.Write(p)
}

// Servers send session tickets when they like. One that arrives while rekey waits for an answer is neither an answer nor silence.
func TestASessionTicketDoesNotEndTheExchange(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		clients  tls.ClientAuthType
		versions []uint16
		late     bool
	}{
		"no client certificate is requested": {tls.NoClientCert, []uint16{tls.VersionTLS12, tls.VersionTLS13}, false},
		"it comes late":                      {tls.RequireAndVerifyClientCert, []uint16{tls.VersionTLS13}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := w.config()
			config.ClientAuth = tc.clients
			answering := answerHTTP(config, ok)
			address := serve(t, func(conn net.Conn) {
				if tc.late {
					conn = &lateConn{Conn: conn}
				}
				answering(conn)
			})
			for _, version := range tc.versions {
				endpoint := w.endpoint(t, address)
				endpoint.MaxVersion = version
				got := dial(t, dialer(0), endpoint)
				if got.Outcome != credential.Accepted || got.Status != http.StatusNoContent || got.Requested != (tc.clients != tls.NoClientCert) {
					t.Errorf("%s: got %s %v (%s), status %d, requested %t", tls.VersionName(version), got.Outcome, got.Causes, got.Detail, got.Status, got.Requested)
				}
			}
		})
	}
}

// An impostor must not learn who the client is, but what a real server would accept is still recorded.
func TestNothingIsPresentedToAServerThatIsNotInOrder(t *testing.T) {
	w := newWorld(t)
	var presented atomic.Int32
	config := w.config()
	config.ClientAuth = tls.RequestClientCert
	config.VerifyConnection = func(state tls.ConnectionState) error {
		presented.Add(int32(len(state.PeerCertificates)))
		return nil
	}
	address := serve(t, answerHTTP(config, ok))
	for name, change := range map[string]func(*handshake.Endpoint){
		"another root": func(e *handshake.Endpoint) { e.Roots = chain(sign(t, template("other root", isAuthority), nil)) },
		"another name": func(e *handshake.Endpoint) { e.ServerName = "other.example.internal" },
		"expired":      func(e *handshake.Endpoint) { e.Time = now.Add(365 * day) },
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			endpoint := w.endpoint(t, address)
			endpoint.MaxVersion = version
			change(&endpoint)
			got := dial(t, dialer(0), endpoint)
			if got.Outcome != credential.Rejected || got.Presented || got.Status != 0 {
				t.Errorf("%s: got %s %v, presented %t, status %d", name, got.Outcome, got.Causes, got.Presented, got.Status)
			}
			if !got.Requested || !handshake.Acceptable(got.AcceptableCAs, chain(w.client), nil) {
				t.Errorf("%s: the authorities that the server accepts are unknown", name)
			}
		}
	}
	if presented.Load() != 0 {
		t.Errorf("%d certificates were presented", presented.Load())
	}
}

func TestAnAttemptIsLimitedWhateverThePeerDoes(t *testing.T) {
	w := newWorld(t)
	const timeout = 700 * time.Millisecond
	var sent atomic.Int64
	endless := func(conn io.Writer, what []byte) {
		for {
			n, err := conn.Write(what)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
	slowly := func(conn io.Writer, what byte) {
		for {
			if _, err := conn.Write([]byte{what}); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	block := make([]byte, 32<<10)
	record := append([]byte{22, 3, 3, 0x40, 0}, make([]byte, 16<<10)...)
	secured := func(then func(net.Conn)) func(net.Conn) {
		return func(conn net.Conn) {
			server := tls.Server(conn, w.config())
			if server.Handshake() == nil {
				then(server)
			}
		}
	}
	peers := map[string]func(net.Conn){
		"says nothing":             func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"closes at once":           func(net.Conn) {},
		"resets":                   func(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) },
		"sends zeros":              func(conn net.Conn) { endless(conn, block) },
		"sends records":            func(conn net.Conn) { endless(conn, record) },
		"sends lines":              func(conn net.Conn) { endless(conn, []byte(strings.Repeat("HTTP/1.1 200 OK\r\n", 100))) },
		"is slow":                  func(conn net.Conn) { slowly(conn, 22) },
		"sends TLS and then zeros": secured(func(conn net.Conn) { endless(conn, block) }),
		"sends an endless header":  secured(func(conn net.Conn) { endless(conn, []byte("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 4096)+"\r\n")) }),
		"sends an endless body":    secured(func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"); endless(conn, block) }),
		"is slow after the TLS":    secured(func(conn net.Conn) { slowly(conn, 'H') }),
		"closes after the TLS":     secured(func(net.Conn) {}),
		"offers TLS, says nothing": func(conn net.Conn) { _, _ = conn.Write([]byte("S")); _, _ = io.Copy(io.Discard, conn) },
		"greets like MySQL, badly": func(conn net.Conn) { _, _ = conn.Write([]byte{255, 255, 255, 0}); endless(conn, block) },
		"has no connection left":   func(conn net.Conn) { _, _ = conn.Write([]byte("E\x00\x00\x00\x04")) },
		"announces a long message": secured(func(conn net.Conn) { _, _ = conn.Write([]byte{'R', 0x7f, 0xff, 0xff, 0xff}); endless(conn, block) }),
	}
	answers := map[string]bool{"sends TLS and then zeros": true, "sends an endless header": true, "sends an endless body": true, "is slow after the TLS": true, "announces a long message": true}
	for name, peer := range peers {
		for _, protocol := range handshake.Protocols() {
			t.Run(fmt.Sprintf("%s, %s", name, protocol), func(t *testing.T) {
				t.Parallel()
				endpoint := w.endpoint(t, serve(t, peer))
				endpoint.Protocol = protocol
				begin := time.Now()
				got := dial(t, dialer(timeout), endpoint)
				if took := time.Since(begin); took > timeout+4*time.Second {
					t.Errorf("it took %s", took)
				}
				// Only a peer that answers in HTTP, or with data where anything may be inside, has accepted anything.
				accepts := got.Outcome == credential.Accepted
				if accepts != (len(got.Causes) == 0) || got.Detail == "" || accepts && !answers[name] {
					t.Errorf("got %s %v %q", got.Outcome, got.Causes, got.Detail)
				}
			})
		}
	}
	t.Cleanup(func() {
		// What is not read stays in the buffers of the two sockets.
		if most := int64(len(peers)*len(handshake.Protocols())) * 8 << 20; sent.Load() > most {
			t.Errorf("%d bytes were taken from the peers, more than %d", sent.Load(), most)
		}
	})
}

func TestUnreachableNamesTheStage(t *testing.T) {
	w := newWorld(t)
	closed := serve(t, func(net.Conn) {})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := listener.Addr().String()
	_ = listener.Close()
	cases := map[string]struct {
		address string
		rules   netguard.Rules
		resolve func(context.Context, string) ([]string, error)
		want    handshake.Stage
	}{
		"nothing listens":          {address: refused, rules: netguard.Rules{AllowLoopback: true}, want: handshake.StageRefused},
		"a forbidden address":      {address: closed, want: handshake.StageForbidden},
		"an unknown name":          {address: "db.example.internal:443", resolve: func(context.Context, string) ([]string, error) { return nil, &net.DNSError{IsNotFound: true} }, want: handshake.StageName},
		"a name without addresses": {address: "db.example.internal:443", resolve: func(context.Context, string) ([]string, error) { return nil, nil }, want: handshake.StageName},
		"a resolver that hangs": {address: "db.example.internal:443", want: handshake.StageTimeOut, resolve: func(ctx context.Context, _ string) ([]string, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}},
		"another failure": {address: "db.example.internal:443", resolve: func(context.Context, string) ([]string, error) { return nil, errors.New("out of files") }, want: handshake.StageLocal},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d := handshake.Dialer{Network: &netguard.Dialer{Resolve: tc.resolve}, Rules: tc.rules, Timeout: time.Second}
			got := dial(t, d, w.endpoint(t, tc.address))
			if got.Outcome != credential.Unknown || !got.Is(handshake.Unreachable) || got.Stage != tc.want || got.Detail == "" {
				t.Errorf("got %s %v %q (%s), want %q", got.Outcome, got.Causes, got.Stage, got.Detail, tc.want)
			}
		})
	}
}

// A server that does not answer must not occupy every worker.
func TestASilentEndpointIsDialedByOneCallAtATime(t *testing.T) {
	w := newWorld(t)
	address := serve(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	d := dialer(time.Second)
	endpoint := w.endpoint(t, address)
	dial(t, d, endpoint)
	const calls = 5
	results := make(chan handshake.Result, calls)
	for range calls {
		go func() {
			got, err := d.Dial(t.Context(), endpoint)
			if err != nil {
				t.Error(err)
			}
			results <- got
		}()
	}
	dialed := 0
	for range calls {
		if got := <-results; got.Address != "" {
			dialed++
		} else if got.Stage != handshake.StageTimeOut {
			t.Errorf("a call that did not dial reports %v %q", got.Causes, got.Stage)
		}
	}
	if dialed != 1 {
		t.Errorf("%d calls dialed a silent server at once, want 1", dialed)
	}
}

func TestNoPrivateKeyIsShown(t *testing.T) {
	w := newWorld(t)
	_, key := w.client.pem(t)
	secret := strings.Split(string(key), "\n")[1]
	identity := w.client.identity(t, w.root)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(verb, identity) + fmt.Sprintf(verb, *identity); text != `"CN=app""CN=app"` {
			t.Errorf("%s shows %s", verb, text)
		}
	}
	_, err := handshake.NewIdentity(credential.Material{
		credential.KeyCertificate: credential.NewSensitive(encoded(t, w.client)), credential.KeyPrivateKey: credential.SensitiveString("-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n"),
	})
	if err == nil || strings.Contains(err.Error(), secret[:10]) {
		t.Errorf("a cut key: %v", err)
	}
}

func TestTheKeyOfAnotherCertificateIsRefused(t *testing.T) {
	w := newWorld(t)
	_, key := w.server.pem(t)
	_, err := handshake.NewIdentity(credential.Material{credential.KeyCertificate: credential.NewSensitive(encoded(t, w.client)), credential.KeyPrivateKey: credential.NewSensitive(key)})
	if want := `tls.key is not the key of "CN=app" in tls.crt: no server can accept them together`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func encoded(t *testing.T, s *signed) []byte {
	t.Helper()
	crt, _ := s.pem(t)
	return crt
}

func TestAnEndpointThatCannotBeDialedIsRefusedWithTheFix(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		change func(*handshake.Endpoint)
		want   string
	}{
		"no port":             {func(e *handshake.Endpoint) { e.Address = "db.example.internal" }, `address "db.example.internal": write host:port, with a port from 1 to 65535`},
		"port 0":              {func(e *handshake.Endpoint) { e.Address = "db.example.internal:0" }, `address "db.example.internal:0": write host:port, with a port from 1 to 65535`},
		"a bad host":          {func(e *handshake.Endpoint) { e.Address = "db_1/x:443" }, `address "db_1/x": write a DNS name or an IP address`},
		"a wildcard":          {func(e *handshake.Endpoint) { e.ServerName = "*.example.internal" }, `serverName "*.example.internal": write a DNS name or an IP address`},
		"an unknown protocol": {func(e *handshake.Endpoint) { e.Protocol = "IMAP" }, `protocol "IMAP": write one of [TLS HTTPS PostgreSQL MySQL]`},
		"no roots":            {func(e *handshake.Endpoint) { e.Roots = nil }, "the trust anchors for the server are missing: name a CA certificate"},
		"an empty identity":   {func(e *handshake.Endpoint) { e.Identity = &handshake.Identity{} }, "the identity is empty: create it with NewIdentity"},
		"an old version":      {func(e *handshake.Endpoint) { e.MaxVersion = tls.VersionTLS11 }, "maxVersion 0x302: use TLS 1.2 or TLS 1.3"},
		"no time":             {func(e *handshake.Endpoint) { e.Time = time.Time{} }, "time: it is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			endpoint := w.endpoint(t, "db.example.internal:443")
			tc.change(&endpoint)
			if err := endpoint.Validate(); err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
			if got, err := dialer(0).Dial(t.Context(), endpoint); err == nil || err.Error() != tc.want || len(got.Causes) > 0 || got.Address != "" {
				t.Errorf("it was dialed: %s %v, %v", got.Outcome, got.Causes, err)
			}
		})
	}
	for _, address := range []string{"db.example.internal:443", "10.0.0.1:1", "[fd00::1]:65535", "db.example.internal.:443", "localhost:443"} {
		endpoint := w.endpoint(t, address)
		endpoint.ServerName = ""
		if err := endpoint.Validate(); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}
