// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/test/workload/login"
	"github.com/rekey/rekey/test/workload/mount"
	"github.com/rekey/rekey/test/workload/report"
)

// patience is the limit of one call. A healthy one takes milliseconds.
const patience = 5 * time.Second

// caller makes calls.
type caller struct {
	identity, database string // folders of the mounted Secrets
	server, serverName string
}

// call makes one call with new connections.
func (c *caller) call(ctx context.Context) outcome {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	o := outcome{at: time.Now()}
	o.err = errors.Join(c.request(ctx, &o), c.query(ctx, &o))
	return o
}

// request sends one request over a new connection with mutual TLS.
func (c *caller) request(ctx context.Context, o *outcome) error {
	files, err := mount.Read(c.identity, "tls.crt", "tls.key", "ca.crt")
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(files["tls.crt"], files["tls.key"])
	if err != nil {
		return fmt.Errorf("using the certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files["ca.crt"]) {
		return errors.New("using the certificate: ca.crt holds no certificate")
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, ServerName: c.serverName, RootCAs: roots, Certificates: []tls.Certificate{pair},
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+c.server+"/", nil)
	if err != nil {
		return fmt.Errorf("creating a request: %w", err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("calling the server: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("reading the server's answer: %w", err)
	}
	mine := report.Serial(pair.Leaf.SerialNumber)
	if response.StatusCode != http.StatusOK || strings.TrimSpace(string(said)) != mine {
		return fmt.Errorf("calling the server: status %d, and it saw certificate %q instead of %q", response.StatusCode, said, mine)
	}
	o.client, o.server = mine, report.Serial(response.TLS.PeerCertificates[0].SerialNumber)
	return nil
}

// query logs in and runs one statement.
func (c *caller) query(ctx context.Context, o *outcome) error {
	files, err := mount.Read(c.database, login.Keys...)
	if err != nil {
		return fmt.Errorf("reading the login: %w", err)
	}
	config, err := login.Config(files, "demo-app")
	if err != nil {
		return err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	// The statement writes, so a read-only login fails.
	if err := conn.QueryRow(ctx, "INSERT INTO calls DEFAULT VALUES RETURNING session_user, current_user").Scan(&o.login, &o.owner); err != nil {
		return fmt.Errorf("running a query as %s: %w", config.User, err)
	}
	o.password = sha256.Sum256(files["password"])
	return nil
}
