// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/netguard"
)

// delaying returns a server that answers a wrong password only after a delay.
func delaying(t *testing.T, version int, delay time.Duration) *lab {
	t.Helper()
	return own(t, pgtest.Options{Version: version, Settings: map[string]string{
		"shared_preload_libraries": "auth_delay", "auth_delay.milliseconds": strconv.FormatInt(delay.Milliseconds(), 10),
	}})
}

// The timeout for a connection is separate from the one for the answer to a password.
func TestAServerThatDelaysRefusalsIsWaitedFor(t *testing.T) {
	t.Parallel()
	onEvery(t, func(t *testing.T, shared *lab) {
		t.Helper()
		l := delaying(t, shared.Version, 1500*time.Millisecond)
		target := l.target()
		opened, err := openOn(t.Context(), New(Options{Dialer: viaIPv4(), ConnectTimeout: time.Second}), target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(opened.Close)
		s := opened.(*session)
		r := testRef(1, "a")
		got := mustStage(t, s, r)
		wantAnswer(t, s, r, got, credential.Accepted)
		wantAnswer(t, s, r, propose(t, target, "a"), credential.Rejected)
		server := target.Server
		server.Admin.Password = credential.SensitiveString("wrong-0123456789")
		_, err = New(Options{Dialer: viaIPv4(), ConnectTimeout: time.Second}).Check(t.Context(), encoded(server))
		wantFault(t, err, fault.ClassBlocked, fault.AdminRejected, "28P01")
		if err := s.Retire(t.Context(), credential.Change{Ref: r}); err != nil {
			t.Error(err)
		}

		// If the delay exceeds the timeout, the error reports it and names the setting.
		mustExec(t, l, "ALTER SYSTEM SET auth_delay.milliseconds = 20000")
		if err := l.SetHBA(t.Context()); err != nil { // which makes the server reread its files
			t.Fatal(err)
		}
		r.Seq = 2
		got = mustStage(t, s, r)
		answer, err := s.Verify(t.Context(), r, got)
		wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable, "deliberately wrong", "3s", "auth_delay.milliseconds")
		if answer != credential.Unknown {
			t.Errorf("got %s, want Unknown", answer)
		}
		answer, err = s.Verify(t.Context(), r, propose(t, target, "a"))
		wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable, "was not answered within 3s", "auth_delay")
		if answer != credential.Unknown {
			t.Errorf("got %s, want Unknown", answer)
		}

		// If the control runs only at first, nothing provokes a refusal afterwards.
		target.Server.NegativeControl = database.ControlAtFirst
		if opened, err = openOn(t.Context(), New(Options{Dialer: viaIPv4(), ConnectTimeout: time.Second}), target); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(opened.Close)
		wantAnswer(t, opened.(*session), r, got, credential.Accepted)
		_, err = opened.Verify(credential.First(t.Context()), r, got)
		wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable, "deliberately wrong")
	})
}

// failedLogins counts the wrong passwords that the server has logged for a login.
func failedLogins(l *lab, login string) int {
	return strings.Count(l.LogText(), `password authentication failed for user "`+login+`"`)
}

func TestTheNegativeControlRunsAtTheIntervalInTheSpec(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		for control, want := range map[database.NegativeControl][3]int{"": {1, 2, 3}, database.ControlAlways: {1, 2, 3}, database.ControlAtFirst: {1, 1, 1}} {
			target := l.target()
			target.Server.NegativeControl = control
			s := open(t, target)
			r := testRef(1, "a")
			got := mustStage(t, s, r)
			login := loginName(target, "a")
			if answer, err := s.Verify(credential.First(t.Context()), r, got); answer != credential.Accepted {
				t.Fatalf("%q: %s, %v", control, answer, err)
			}
			seen := [3]int{0: failedLogins(l, login)}
			wantAnswer(t, s, r, got, credential.Accepted)
			seen[1] = failedLogins(l, login)
			if err := s.Retire(t.Context(), credential.Change{Ref: r}); err != nil {
				t.Error(err)
			}
			if seen[2] = failedLogins(l, login); seen != want {
				t.Errorf("%q: after the first proof, another one and the retirement the server logged %v wrong passwords, want %v", control, seen, want)
			}
		}
		// A server that accepts any password is detected before anything is published.
		target := l.target()
		target.Server.NegativeControl = database.ControlAtFirst
		s := open(t, target)
		got := mustStage(t, s, testRef(1, "a"))
		if err := l.SetHBA(t.Context(), "host all rotator all scram-sha-256", trustAll); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := l.SetHBA(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		_, err := s.Verify(credential.First(t.Context()), testRef(1, "a"), got)
		wantFault(t, err, fault.ClassPermanent, fault.AuthenticationNotEnforced)
	})
}

func TestCertificatesThatChannelBindingCannotUseAreNamed(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, err := pgtest.AuthorityOf(key)
	if err != nil {
		t.Fatal(err)
	}
	big, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rivest, err := pgtest.AuthorityOf(big)
	if err != nil {
		t.Fatal(err)
	}
	onEvery(t, func(t *testing.T, shared *lab) {
		t.Helper()
		l := own(t, pgtest.Options{Version: shared.Version, Authority: edwards})
		for _, mode := range []database.TLSMode{database.TLSVerifyFull, database.TLSVerifyCA, database.TLSRequire} {
			target := l.target()
			if target.Server.TLS = mode; mode == database.TLSRequire {
				target.Server.CA = nil
			}
			_, err := testEngine().Check(t.Context(), encoded(target.Server))
			wantFault(t, err, fault.ClassPermanent, fault.ServerCertificateInvalid, "Ed25519", "channel binding", "RSA or ECDSA")
			answer, err := open(t, target).Verify(t.Context(), testRef(1, "a"), propose(t, target, "a"))
			wantFault(t, err, fault.ClassPermanent, fault.ServerCertificateInvalid, "Ed25519")
			if answer != credential.Unknown {
				t.Errorf("got %s, want Unknown", answer)
			}
		}
		l = own(t, pgtest.Options{Version: shared.Version, Authority: rivest})
		if _, err := testEngine().Check(t.Context(), encoded(l.server())); err != nil {
			t.Errorf("signed with RSA: %v", err)
		}
	})
}

// balancer terminates TLS in front of a server, and connects to it in clear text or over its own TLS.
func balancer(t *testing.T, l *lab, again bool) (port int) {
	t.Helper()
	cert, key, err := l.Authority.Issue([]string{"localhost"}, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	request := make([]byte, 8)
	binary.BigEndian.PutUint32(request, 8)
	binary.BigEndian.PutUint32(request[4:], 80877103)
	var wait sync.WaitGroup
	serve := func(client net.Conn) {
		defer func() { _ = client.Close() }()
		_ = client.SetDeadline(time.Now().Add(20 * time.Second))
		server, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(l.Port)))
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		asked := make([]byte, 8)
		if _, err := io.ReadFull(client, asked); err != nil {
			return
		}
		_, _ = client.Write([]byte("S"))
		client = tls.Server(client, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
		if again {
			_, _ = server.Write(request)
			if _, err := io.ReadFull(server, asked[:1]); err != nil {
				return
			}
			server = tls.Client(server, &tls.Config{InsecureSkipVerify: true})
		}
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		_, _ = io.Copy(client, server)
	}
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() { serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wait.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port
}

func TestTLSThatTerminatesBeforeTheServerIsNamed(t *testing.T) {
	onEvery(t, func(t *testing.T, l *lab) {
		t.Helper()
		for _, again := range []bool{false, true} {
			target := l.target()
			got := mustStage(t, open(t, target), testRef(1, "a"))
			target.Server.Port = balancer(t, l, again)
			_, err := testEngine().Check(t.Context(), encoded(target.Server))
			wantFault(t, err, fault.ClassPermanent, fault.AuthenticationMethodInsecure, "load balancer", "point address at the server itself")
			answer, err := open(t, target).Verify(t.Context(), testRef(1, "a"), got)
			wantFault(t, err, fault.ClassPermanent, fault.AuthenticationMethodInsecure, "load balancer")
			if answer != credential.Unknown {
				t.Errorf("got %s, want Unknown", answer)
			}
		}
	})
}

func TestWhiteSpaceAroundTheAdminsLoginIsNamedAndNotShown(t *testing.T) {
	l := labOf(t, 15)
	for _, tc := range []struct{ username, password, hint string }{
		{testAdmin, testAdminPassword + "\n", "its password starts or ends with white space"},
		{testAdmin, " " + testAdminPassword, "its password starts or ends with white space"},
		{testAdmin, testAdminPassword + "\r\n", "its password starts or ends with white space"},
		{testAdmin + "\n", testAdminPassword, "its username starts or ends with white space"},
		{testAdmin + " ", testAdminPassword + "\t", "its password and its username starts or ends with white space"},
		{testAdmin, "wrong-0123456789", ""},
	} {
		server := l.server()
		server.Admin = database.Admin{Username: tc.username, Password: credential.SensitiveString(tc.password), Secret: "data/orders-admin"}
		_, err := testEngine().Check(t.Context(), encoded(server))
		wantFault(t, err, fault.ClassBlocked, fault.AdminRejected, "correct Secret data/orders-admin", tc.hint)
		if tc.hint == "" && strings.Contains(err.Error(), "white space") {
			t.Errorf("%v mentions white space, but there is none", err)
		}
		if strings.Contains(err.Error(), strings.TrimSpace(tc.password)) || strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("%q shows the password, or is not one line", err)
		}
	}
}

// nowhere resolves nothing.
func nowhere(_ context.Context, host string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func TestAHostWithoutADotIsExplained(t *testing.T) {
	for host, hinted := range map[string]bool{"orders-db": true, "orders-db.data": false, "127.0.0.1": false, "localhost": false, "::1": false} {
		for what, lookup := range map[string]Options{"that resolves": {Dialer: viaIPv4()}, "that does not": {}} {
			if what == "that does not" && (host == "127.0.0.1" || host == "::1" || host == "localhost") {
				continue
			}
			options := lookup
			if options.Dialer == nil {
				options.Dialer = &netguard.Dialer{Resolve: nowhere}
			}
			server := (&fakeServer{port: 1}).target(database.TLSDisable, nil).Server
			server.Host = host
			_, err := New(options).Check(t.Context(), encoded(server))
			wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable)
			if said := strings.Contains(err.Error(), `write `+host+`.<namespace>`); said != hinted {
				t.Errorf("host %q %s: %v; want a hint about the namespace: %t", host, what, err, hinted)
			}
		}
	}
}

// A failure before anything was sent, or because of what the driver refuses to do, is never called "no connection".
func TestADriverFailureIsNotABrokenConnection(t *testing.T) {
	broken := "no connection, or it broke"
	for name, tc := range map[string]struct {
		script func(*fakeConn)
		broke  bool
	}{
		"speaks HTTP":        {func(c *fakeConn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, false},
		"demands Kerberos":   {func(c *fakeConn) { _, _ = c.Write([]byte("R\x00\x00\x00\x08\x00\x00\x00\x07")); _, _ = c.Receive() }, false},
		"a message too long": {func(c *fakeConn) { _, _ = c.Write([]byte("R\x7f\xff\xff\xff")) }, false},
		"a challenge without salt": {func(c *fakeConn) {
			c.say(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})
			c.challenge("r=x,i=4096")
		}, false},
		"a nonce of its own": {func(c *fakeConn) {
			c.say(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}})
			c.challenge("r=x,s=MTIz,i=4096")
		}, false},
		"hangs up": {func(*fakeConn) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			fake := startFake(t, nil, tc.script)
			_, err := testEngine().Check(t.Context(), encoded(fake.target(database.TLSDisable, nil).Server))
			if err == nil || strings.Contains(err.Error(), broken) != tc.broke {
				t.Errorf("got %v; want it called a broken connection: %t", err, tc.broke)
			}
		})
	}
	if f := diagnose(errors.New("tls: no application protocol"), &authWatch{}); f.kind != failedDriver {
		t.Errorf("an error of unknown origin is of kind %d", f.kind)
	}
	if f := diagnose(&pgconn.PgError{Code: "28000"}, &authWatch{binding: true, asked: []uint32{authSASL, authSASLNext}}); f.kind != failedUnbound {
		t.Errorf("a binding that the server refuses is of kind %d", f.kind)
	}
}

// challenge answers the client's first message of SCRAM.
func (c *fakeConn) challenge(text string) {
	if c.SetAuthType(pgproto3.AuthTypeSASL) != nil {
		return
	}
	if _, err := c.Receive(); err == nil {
		c.say(&pgproto3.AuthenticationSASLContinue{Data: []byte(text)})
	}
	_, _ = c.Receive()
}
