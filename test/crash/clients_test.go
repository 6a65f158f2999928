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
	// rest is a client's pause between two uses.
	rest = 200 * time.Millisecond
	// useTimeout bounds one use.
	useTimeout = 10 * time.Second
)

// clients continuously use the Secrets, like pods that mount them.
type clients struct {
	published *published
	ctx       context.Context
	stop      context.CancelFunc
	running   sync.WaitGroup

	mu         sync.Mutex
	logins     int
	handshakes int
	late       int // inconclusive rejections: that pod was slower than the overlap
	refusals   []refusal
	failures   []error
}

// refusal is a rejected login. At the end of the test it is decided whether the client was too late.
type refusal struct {
	credential string
	password   []byte
	at         time.Time
	err        error
}

// classify sorts the refusals: if a pod was slower than the overlap, its refusal is inconclusive.
func (c *clients) classify() {
	for _, r := range c.refusals {
		replaced, err := c.published.replacedAt(r.credential, r.password)
		if err == nil && !replaced.IsZero() && r.at.Sub(replaced) >= overlap {
			c.late++
			continue
		}
		c.failures = append(c.failures, fmt.Errorf("at %s: logging in with the credential from %s (replaced at %s): %w",
			r.at.UTC().Format(time.RFC3339Nano), r.credential, replaced.UTC().Format(time.RFC3339Nano), errors.Join(r.err, err)))
	}
}

func startClients(ctx context.Context, p *published) *clients {
	ctx, cancel := context.WithCancel(ctx)
	return &clients{published: p, ctx: ctx, stop: cancel}
}

// repeat runs a use repeatedly, and finishes the last one.
func (c *clients) repeat(use func(context.Context)) {
	c.running.Go(func() {
		for pause(c.ctx, rest) {
			once, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), useTimeout)
			use(once)
			cancel()
		}
	})
}

// logIn starts a client that logs in to PostgreSQL with a Secret.
func (c *clients) logIn(secret string, random *rand.Rand) {
	dir := c.published.mount(c.ctx, secret, random)
	c.repeat(func(ctx context.Context) {
		files, err := mount.Read(dir, append([]string{"username"}, login.Keys...)...)
		if err != nil {
			if c.published.last(secret) != nil && time.Since(c.published.all(secret)[0].at) > overlap {
				c.failed(fmt.Errorf("reading the volume of %s: %w", secret, err))
			}
			return // not published yet
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
		c.failed(fmt.Errorf("logging in with the credential from %s: %w", secret, err))
	})
}

func (c *clients) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failures = append(c.failures, fmt.Errorf("at %s: %w", time.Now().UTC().Format(time.RFC3339Nano), err))
}

// startHandshakes starts a server and a client that authenticate each other, each with its own Secret. The client makes no more
// connections once hangUp has returned.
func (c *clients) startHandshakes(t *testing.T, server, client string, random *rand.Rand) (hangUp func()) {
	t.Helper()
	serves, calls := c.published.mount(c.ctx, server, random), c.published.mount(c.ctx, client, random)
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
			_ = echoByte(tls.Server(conn, config)) // the client gets an error
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
			c.failed(fmt.Errorf("handshake of %s with %s: %w", client, server, err))
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

// identity reads a mounted key pair and its authorities.
func identity(dir string) ([]tls.Certificate, *x509.CertPool, error) {
	files, err := mount.Read(dir, "tls.crt", "tls.key", "ca.crt")
	if err != nil {
		return nil, nil, err
	}
	return parsed(files)
}

// parsed parses a key pair and its authorities.
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

// echoByte reads one byte and sends it back. Only then does the client know that the server accepted it (TLS 1.3).
func echoByte(conn *tls.Conn) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(useTimeout)); err != nil {
		return err
	}
	_, err := io.CopyN(conn, conn, 1)
	return err
}

// inMemoryHandshake performs a TLS handshake between a client and a server that trust each other's authorities, each with its
// own Secret.
func inMemoryHandshake(ctx context.Context, client, server map[string][]byte, name string) error {
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
		ended <- echoByte(tls.Server(far, &tls.Config{Certificates: serves, ClientCAs: ofClient, ClientAuth: tls.RequireAndVerifyClientCert}))
	}()
	conn := tls.Client(near, &tls.Config{Certificates: calls, RootCAs: ofServer, ServerName: name})
	err = conn.HandshakeContext(ctx)
	if err == nil {
		err = exchangeByte(conn, time.Now().Add(useTimeout))
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
	return exchangeByte(conn, deadline)
}

// exchangeByte sends a byte and waits until it comes back.
func exchangeByte(conn net.Conn, deadline time.Time) error {
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write([]byte{'r'}); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// end waits until every use has finished, and reports the failures.
func (c *clients) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.running.Wait()
	c.classify()
	for _, err := range c.failures[:min(len(c.failures), 10)] {
		t.Error(err)
	}
	if c.late > c.logins/20 {
		t.Errorf("%d of %d logins came later than the overlap: this machine is too slow for a conclusive test", c.late, c.logins)
	}
}
