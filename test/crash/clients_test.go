// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/test/workload/login"
	"github.com/rekey/rekey/test/workload/mount"
)

const (
	// rest of a client between two uses.
	rest = 200 * time.Millisecond
	// brisk is how long one use may take.
	brisk = 10 * time.Second
)

// clients use what the Secrets show, as pods that mount them, all the time.
type clients struct {
	published *published
	ctx       context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup

	mu         sync.Mutex
	logins     int
	handshakes int
	late       int // refusals that prove nothing: that pod was slower than the overlap
	refusals   []refusal
	failures   []error
}

// refusal of a login, of which is told at the end whether it came too late.
type refusal struct {
	credential string
	password   []byte
	at         time.Time
	err        error
}

// judge sorts the refusals: a pod that is slower than the overlap proves nothing.
func (c *clients) judge() {
	for _, r := range c.refusals {
		replaced, err := c.published.replaced(r.credential, r.password)
		if err == nil && !replaced.IsZero() && r.at.Sub(replaced) >= overlap {
			c.late++
			continue
		}
		c.failures = append(c.failures, fmt.Errorf("at %s: logging in with what %s showed (replaced at %s): %w",
			r.at.UTC().Format(time.RFC3339Nano), r.credential, replaced.UTC().Format(time.RFC3339Nano), errors.Join(r.err, err)))
	}
}

func startClients(ctx context.Context, p *published) *clients {
	ctx, cancel := context.WithCancel(ctx)
	return &clients{published: p, ctx: ctx, stop: cancel}
}

// repeat does something again and again, and brings to its end what has begun.
func (c *clients) repeat(use func(context.Context)) {
	c.running.Go(func() {
		for pause(c.ctx, rest) {
			once, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), brisk)
			use(once)
			cancel()
		}
	})
}

// logIn makes a client of the Secret of a PostgreSQL login.
func (c *clients) logIn(secret string, dice *rand.Rand) {
	dir := c.published.mount(c.ctx, secret, dice)
	c.repeat(func(ctx context.Context) {
		files, err := mount.Read(dir, append([]string{"username"}, login.Keys...)...)
		if err != nil {
			if c.published.last(secret) != nil && time.Since(c.published.all(secret)[0].at) > overlap {
				c.failed(fmt.Errorf("reading the volume of %s: %w", secret, err))
			}
			return // it has not been published yet
		}
		err = logIn(ctx, files)
		if err == nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.logins++
			return
		}
		if errors.Is(err, errRefused) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.refusals = append(c.refusals, refusal{strings.TrimSuffix(secret, "-login"), files["password"], time.Now(), err})
			return
		}
		c.failed(fmt.Errorf("logging in with what %s showed: %w", secret, err))
	})
}

func (c *clients) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, fmt.Errorf("at %s: %w", time.Now().UTC().Format(time.RFC3339Nano), err))
}

// shake makes a server and a client that prove themselves to each other, each by its own Secret. The client calls no more once
// hangUp has returned.
func (c *clients) shake(t *testing.T, server, client string, dice *rand.Rand) (hangUp func()) {
	t.Helper()
	serves, calls := c.published.mount(c.ctx, server, dice), c.published.mount(c.ctx, client, dice)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	context.AfterFunc(c.ctx, func() { _ = listener.Close() })
	config := &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pair, roots, err := identity(serves)
		return &tls.Config{Certificates: pair, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert}, err
	}}
	c.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			_ = greet(tls.Server(conn, config)) // the client is told
		}
	})
	var line sync.Mutex // held during a call
	dead := false
	c.repeat(func(ctx context.Context) {
		line.Lock()
		defer line.Unlock()
		if dead || c.published.last(server) == nil || c.published.last(client) == nil || time.Since(c.published.all(server)[0].at) < overlap ||
			time.Since(c.published.all(client)[0].at) < overlap {
			return // not published yet
		}
		if err := handshake(ctx, listener.Addr().String(), calls, "called.crash.example"); err != nil {
			c.failed(fmt.Errorf("a handshake of %s with %s: %w", client, server, err))
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.handshakes++
	})
	return func() {
		line.Lock()
		defer line.Unlock()
		dead = true
	}
}

// identity reads a mounted key pair and the authorities that come with it.
func identity(dir string) ([]tls.Certificate, *x509.CertPool, error) {
	files, err := mount.Read(dir, "tls.crt", "tls.key", "ca.crt")
	if err != nil {
		return nil, nil, err
	}
	return parsed(files)
}

// parsed reads a key pair and the authorities that come with it.
func parsed(files map[string][]byte) ([]tls.Certificate, *x509.CertPool, error) {
	pair, err := tls.X509KeyPair(files["tls.crt"], files["tls.key"])
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files["ca.crt"]) {
		return nil, nil, errors.New("ca.crt holds no certificate")
	}
	return []tls.Certificate{pair}, roots, nil
}

// greet waits for a byte and gives it back: only then the client knows that it was let in (TLS 1.3).
func greet(conn *tls.Conn) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(brisk)); err != nil {
		return err
	}
	_, err := io.CopyN(conn, conn, 1)
	return err
}

// meet makes a client and a server shake hands that trust each other's authorities, each with what its Secret shows.
func meet(ctx context.Context, client, server map[string][]byte, name string) error {
	calls, ofClient, err := parsed(client)
	if err != nil {
		return err
	}
	serves, ofServer, err := parsed(server)
	if err != nil {
		return err
	}
	near, far := net.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- greet(tls.Server(far, &tls.Config{Certificates: serves, ClientCAs: ofClient, ClientAuth: tls.RequireAndVerifyClientCert}))
	}()
	conn := tls.Client(near, &tls.Config{Certificates: calls, RootCAs: ofServer, ServerName: name})
	err = conn.HandshakeContext(ctx)
	if err == nil {
		err = ask(conn, time.Now().Add(brisk))
	}
	return errors.Join(err, near.Close(), <-ended)
}

func handshake(ctx context.Context, address, dir, name string) error {
	pair, roots, err := identity(dir)
	if err != nil {
		return err
	}
	dialer := tls.Dialer{Config: &tls.Config{Certificates: pair, RootCAs: roots, ServerName: name}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	return ask(conn, deadline)
}

// ask sends a byte and waits until it comes back.
func ask(conn net.Conn, deadline time.Time) error {
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{'r'}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// end waits until every use has ended, and tells of those that failed.
func (c *clients) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.running.Wait()
	c.judge()
	for _, err := range c.failures[:min(len(c.failures), 10)] {
		t.Error(err)
	}
	if c.late > c.logins/20 {
		t.Errorf("%d of %d logins came later than the overlap: too slow a machine to tell anything", c.late, c.logins)
	}
}
