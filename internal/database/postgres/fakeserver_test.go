// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/fault"
)

// fakeServer speaks just enough of PostgreSQL's protocol to request a password by an insecure method, and records everything
// that it receives.
type fakeServer struct {
	port   int
	script func(*fakeConn)
	cert   *tls.Config

	mu       sync.Mutex
	received []byte
}

type fakeConn struct {
	net.Conn
	*pgproto3.Backend
	server *fakeServer
}

// Read records what the client sends, after TLS.
func (c *fakeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.received = append(c.server.received, p[:n]...)
	return n, err
}

func (c *fakeConn) say(messages ...pgproto3.BackendMessage) {
	for _, message := range messages {
		c.Send(message)
	}
	_ = c.Flush() // the client may be gone
}

func startFake(t *testing.T, cert *tls.Config, script func(*fakeConn)) *fakeServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{port: l.Addr().(*net.TCPAddr).Port, script: script, cert: cert}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wait.Wait()
	})
	return f
}

func (f *fakeServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if f.cert != nil {
		request := make([]byte, 8)
		if _, err := io.ReadFull(conn, request); err != nil || binary.BigEndian.Uint32(request[4:]) != 80877103 {
			return
		}
		_, _ = conn.Write([]byte("S"))
		conn = tls.Server(conn, f.cert)
	}
	c := &fakeConn{Conn: conn, server: f}
	c.Backend = pgproto3.NewBackend(c, conn)
	if _, err := c.ReceiveStartupMessage(); err != nil {
		return
	}
	f.script(c)
}

func (f *fakeServer) heard() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return string(f.received)
}

func (f *fakeServer) target(mode database.TLSMode, ca []byte) testTarget {
	return testTarget{
		Target:   database.Target{Username: "app", Strategy: database.AlternatingUsers},
		settings: settings{Database: "orders", Owner: testOwner},
		Server: testServer{
			Server: database.Server{
				Host: "localhost", Port: f.port, TLS: mode, CA: ca, AllowLoopback: true,
				Admin:            database.Admin{Username: testAdmin, Password: credential.SensitiveString(testAdminPassword)},
				AllowedUsernames: []string{"app*"},
			},
			serverSettings: serverSettings{AllowedOwners: []string{testOwner}},
		},
	}
}

// answerAnything acts as a server that has admitted a client.
func (c *fakeConn) answerAnything() {
	c.say(&pgproto3.AuthenticationOk{}, &pgproto3.ParameterStatus{Name: "server_version", Value: "15.18"}, &pgproto3.BackendKeyData{SecretKey: []byte{0, 0, 0, 1}}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	for {
		message, err := c.Receive()
		if err != nil {
			return
		}
		if _, ok := message.(*pgproto3.Query); ok {
			name := func(text string) pgproto3.FieldDescription {
				return pgproto3.FieldDescription{Name: []byte(text), DataTypeOID: 19, DataTypeSize: 64, TypeModifier: -1}
			}
			c.say(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{name("session_user"), name("current_user")}},
				&pgproto3.DataRow{Values: [][]byte{[]byte("app_a"), []byte(testOwner)}}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
		}
	}
}

// scram runs the server's side of SCRAM without checking the client's proof. With the right ServerKey the client takes it
// for the real server; with another it must not.
func (c *fakeConn) scram(saltedPassword []byte, salt string) bool {
	c.say(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})
	if c.SetAuthType(pgproto3.AuthTypeSASL) != nil {
		return false
	}
	message, err := c.Receive()
	first, ok := message.(*pgproto3.SASLInitialResponse)
	if err != nil || !ok {
		return false
	}
	_, bare, _ := strings.Cut(string(first.Data), ",,")
	_, nonce, _ := strings.Cut(bare, "r=")
	serverFirst := "r=" + nonce + "server,s=" + base64.StdEncoding.EncodeToString([]byte(salt)) + ",i=4096"
	c.say(&pgproto3.AuthenticationSASLContinue{Data: []byte(serverFirst)})
	if c.SetAuthType(pgproto3.AuthTypeSASLContinue) != nil {
		return false
	}
	message, err = c.Receive()
	last, ok := message.(*pgproto3.SASLResponse)
	if err != nil || !ok {
		return false
	}
	withoutProof, _, _ := strings.Cut(string(last.Data), ",p=")
	sign := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	signature := sign(sign(saltedPassword, "Server Key"), bare+","+serverFirst+","+withoutProof)
	c.say(&pgproto3.AuthenticationSASLFinal{Data: []byte("v=" + base64.StdEncoding.EncodeToString(signature))})
	return true
}

func fakeTLS(t *testing.T) (*tls.Config, []byte) {
	t.Helper()
	authority, err := pgtest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := authority.Issue([]string{"localhost"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, authority.PEM
}

func TestAFakeServerGetsNothing(t *testing.T) {
	certificate, ca := fakeTLS(t)
	cases := map[string]struct {
		script func(*fakeConn)
		want   fault.Reason
	}{
		"requests the password in clear text": {func(c *fakeConn) {
			c.say(&pgproto3.AuthenticationCleartextPassword{})
			_, _ = c.Receive()
		}, fault.AuthenticationMethodInsecure},
		"requests MD5": {func(c *fakeConn) {
			c.say(&pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}})
			_, _ = c.Receive()
		}, fault.AuthenticationMethodInsecure},
		"offers no known mechanism": {func(c *fakeConn) {
			c.say(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"PLAIN"}})
			_, _ = c.Receive()
		}, fault.AuthenticationMethodInsecure},
		"requests nothing": {func(c *fakeConn) { c.answerAnything() }, fault.AuthenticationNotEnforced},
		"plays SCRAM without knowing the verifier": {func(c *fakeConn) {
			if c.scram([]byte("a guess"), "0123456789abcdef") {
				c.answerAnything()
			}
		}, fault.AuthenticationMethodInsecure},
	}
	for name, tc := range cases {
		for mode, config := range map[database.TLSMode]*tls.Config{database.TLSDisable: nil, database.TLSVerifyFull: certificate} {
			t.Run(name+", TLS "+string(mode), func(t *testing.T) {
				fake := startFake(t, config, tc.script)
				target := fake.target(mode, ca)
				s := open(t, target)
				_, err := testEngine().Check(t.Context(), encoded(target.Server))
				wantFault(t, err, fault.ClassPermanent, tc.want)
				login := propose(t, target, "a")
				answer, err := s.Verify(t.Context(), testRef(1, "a"), login)
				wantFault(t, err, fault.ClassPermanent, tc.want)
				if answer != credential.Unknown {
					t.Errorf("got %s, want Unknown", answer)
				}
				for _, secret := range []string{testAdminPassword, login.String(credential.KeyPassword)} {
					if strings.Contains(fake.heard(), secret) || strings.Contains(fake.heard(), "md5") {
						t.Error("the server received the password")
					}
				}
			})
		}
	}
}

// The negative control: this server knows the verifier and proves it, but admits every client.
func TestAServerThatDoesNotCheckTheProofProvesNothing(t *testing.T) {
	target := (&fakeServer{}).target(database.TLSDisable, nil)
	login := propose(t, target, "a")
	salt := "0123456789abcdef"
	salted, err := pbkdf2.Key(sha256.New, login.String(credential.KeyPassword), []byte(salt), 4096, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	fake := startFake(t, nil, func(c *fakeConn) {
		if c.scram(salted, salt) {
			c.answerAnything()
		}
	})
	s := open(t, fake.target(database.TLSDisable, nil))
	refused, err := s.try(t.Context(), testRef(1, "a"), "app_a", login[credential.KeyPassword])
	if refused != nil || err != nil {
		t.Fatalf("the right password: refused %+v, %v", refused, err)
	}
	answer, err := s.Verify(t.Context(), testRef(1, "a"), login)
	wantFault(t, err, fault.ClassPermanent, fault.AuthenticationNotEnforced)
	if answer != credential.Unknown {
		t.Errorf("got %s, want Unknown", answer)
	}
}

func TestAServerThatSaysNothingTimesOut(t *testing.T) {
	port, _ := listener(t)
	_, ca := fakeTLS(t)
	for _, mode := range []database.TLSMode{database.TLSDisable, database.TLSVerifyFull} {
		t.Run(string(mode), func(t *testing.T) {
			target := (&fakeServer{port: port}).target(mode, ca)
			calls := map[string]func(context.Context, *session) error{
				"Verify": func(ctx context.Context, s *session) error {
					answer, err := s.Verify(ctx, testRef(1, "a"), propose(t, target, "a"))
					if answer != credential.Unknown {
						t.Errorf("got %s, want Unknown", answer)
					}
					return err
				},
				"Stage": func(ctx context.Context, s *session) error {
					_, err := s.Stage(ctx, credential.Change{Ref: testRef(1, "a"), Material: propose(t, target, "a")})
					return err
				},
				"Marker": func(ctx context.Context, s *session) error { _, err := s.Marker(ctx, testRef(1, "a")); return err },
			}
			for name, call := range calls {
				for bound, options := range map[string]Options{
					"by the context":         {Dialer: viaIPv4(), ConnectTimeout: time.Minute, CallTimeout: time.Minute},
					"by the connect timeout": {Dialer: viaIPv4(), ConnectTimeout: 100 * time.Millisecond, CallTimeout: time.Minute},
					"by the call timeout":    {Dialer: viaIPv4(), ConnectTimeout: time.Minute, CallTimeout: 100 * time.Millisecond},
				} {
					opened, err := openOn(t.Context(), New(options), target)
					if err != nil {
						t.Fatal(err)
					}
					ctx, cancel := context.WithCancel(t.Context())
					if bound == "by the context" {
						ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
					}
					start := time.Now()
					wantFault(t, call(ctx, opened.(*session)), fault.ClassTransient, fault.ServerUnreachable, "no answer in time")
					if took := time.Since(start); took > 30*time.Second {
						t.Errorf("%s, bounded %s, took %s", name, bound, took)
					}
					cancel()
					opened.Close()
				}
			}
		})
	}
}

func TestAServerOtherThanPostgreSQLCountsAsUnknown(t *testing.T) {
	for name, words := range map[string]string{"HTTP": "HTTP/1.1 400 Bad Request\r\n\r\n", "a huge message": "R\x7f\xff\xff\xff", "nothing": "", "zeroes": strings.Repeat("\x00", 100)} {
		t.Run(name, func(t *testing.T) {
			fake := startFake(t, nil, func(c *fakeConn) { _, _ = c.Write([]byte(words)) })
			s := open(t, fake.target(database.TLSDisable, nil))
			answer, err := s.Verify(t.Context(), testRef(1, "a"), propose(t, s.target, "a"))
			if answer != credential.Unknown || fault.Classify(err) != fault.ClassTransient {
				t.Errorf("got %s, %v; want Unknown and a transient error", answer, err)
			}
		})
	}
}

// A server must not be able to smuggle text into our messages.
func TestAnSQLSTATEIsFiveLettersOrNothing(t *testing.T) {
	for code, want := range map[string]string{"28P01": "28P01", "": "?????", "28p01": "?????", "28P01; DROP": "?????", "\x00\x00\x00\x00\x00": "?????"} {
		if got := sqlstate(code); got != want {
			t.Errorf("sqlstate(%q) = %q", code, got)
		}
	}
}
