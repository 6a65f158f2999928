// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the name of the superuser of every test server.
const Superuser = "postgres"

// Options are the options of a server to start. The zero value is a PostgreSQL 15 with TLS on a free port of 127.0.0.1.
type Options struct {
	// Version is the major version; 0 means 15.
	Version int
	// BinDir holds initdb and postgres; empty means that Start searches for them.
	BinDir string
	// Dir is where the scratch folder is created; empty means the system's folder for temporary files.
	Dir string
	// Listen is the address to listen on; empty means 127.0.0.1.
	Listen string
	// Port is the port to listen on; 0 means a free one.
	Port int
	// Names are additional names and addresses in the server's certificate, besides localhost and the loopback addresses.
	Names []string
	// Authority signs the server's certificate; nil means a new one.
	Authority *Authority
	// NotAfter is when the server's certificate expires; zero means 2049.
	NotAfter time.Time
	// Plain turns TLS off.
	Plain bool
	// HBA replaces the lines of pg_hba.conf; empty means SCRAM for every user from every address.
	HBA []string
	// Settings are added to postgresql.conf and override the defaults.
	Settings map[string]string
}

// Server is a running PostgreSQL.
type Server struct {
	// Host and Port are the address to dial.
	Host string
	Port int
	// Version is the major version.
	Version int
	// Authority signed the server's certificate.
	Authority *Authority
	// Password is the superuser's password.
	Password string

	options Options
	bin     string
	dir     string // the scratch folder; the data is in dir/data
	account *account
	process *process
}

// DefaultHBA accepts SCRAM only, from every address.
var DefaultHBA = []string{"host all all all scram-sha-256", "host replication all all scram-sha-256"} //nolint:dupword // columns

// Start starts a server and waits until it answers. Call Stop to stop it.
func Start(ctx context.Context, options Options) (*Server, error) {
	if options.Version == 0 {
		options.Version = 15
	}
	if options.Listen == "" {
		options.Listen = "127.0.0.1"
	}
	s := &Server{Host: options.Listen, Port: options.Port, Version: options.Version, Authority: options.Authority, Password: rand.Text(), options: options}
	if net.ParseIP(s.Host).IsUnspecified() {
		s.Host = "127.0.0.1"
	}
	if err := s.prepare(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	if err := s.runOnAFreePort(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// runOnAFreePort tries another port if another process took the first one before the server could.
func (s *Server) runOnAFreePort(ctx context.Context) error {
	const tries = 3
	for try := 1; ; try++ {
		err := s.run(ctx)
		if err == nil || s.options.Port != 0 || try == tries || !strings.Contains(s.LogText(), "could not bind") {
			return err
		}
		if s.Port, err = freePort(s.options.Listen); err != nil {
			return err
		}
		if err := s.configure(); err != nil {
			return err
		}
	}
}

// prepare creates the scratch folder, the cluster and its configuration.
func (s *Server) prepare(ctx context.Context) error {
	var err error
	if s.account, err = unprivileged(); err != nil {
		return err
	}
	if s.dir, err = scratch(s.options.Dir, s.account); err != nil {
		return err
	}
	if s.bin, err = s.locate(); err != nil {
		return err
	}
	if s.Port == 0 {
		if s.Port, err = freePort(s.options.Listen); err != nil {
			return err
		}
	}
	if s.Authority == nil {
		if s.Authority, err = NewAuthority(); err != nil {
			return err
		}
	}
	passwordFile, err := s.write("password", s.Password+"\n")
	if err != nil {
		return err
	}
	output, err := command(ctx, s.account, s.dir, filepath.Join(s.bin, "initdb"), "--pgdata", s.data(), "--username", Superuser, "--pwfile", passwordFile,
		"--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions").CombinedOutput()
	if err != nil {
		return fmt.Errorf("running initdb of PostgreSQL %d: %w: %s", s.Version, err, bytes.TrimSpace(output))
	}
	return s.configure()
}

func (s *Server) locate() (string, error) {
	bin := s.options.BinDir
	if bin == "" {
		var err error
		if bin, err = binaries(s.Version); err != nil {
			return "", err
		}
	}
	if s.account == nil || reachable(bin) {
		return bin, nil
	}
	// The unprivileged user cannot enter the folder, so use a copy.
	target := filepath.Join(s.dir, "dist")
	if err := copyTree(filepath.Dir(bin), target, s.account, nil); err != nil {
		return "", err
	}
	return filepath.Join(target, filepath.Base(bin)), nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// write creates a file in the scratch folder that only the server's user can read.
func (s *Server) write(name, text string) (string, error) {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("writing %s of a test server: %w", name, err)
	}
	return path, s.account.own(path)
}

// configure writes the certificate, pg_hba.conf and the settings.
func (s *Server) configure() error {
	cert, key, err := s.Authority.Issue(append([]string{"localhost", "127.0.0.1", "::1", s.Host}, s.options.Names...), s.options.NotAfter)
	if err != nil {
		return err
	}
	settings := map[string]string{
		"listen_addresses": s.options.Listen, "port": strconv.Itoa(s.Port), "unix_socket_directories": "",
		"max_connections": "60", "shared_buffers": "16MB", "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off",
		"log_statement": "all", "log_connections": "on", "log_disconnections": "on", "log_line_prefix": "%m [%p] %a %u@%d ",
		"password_encryption": "scram-sha-256", "wal_level": "replica", "max_wal_senders": "4", "wal_keep_size": "256MB", "logging_collector": "off",
	}
	if !s.options.Plain {
		settings["ssl"], settings["ssl_cert_file"], settings["ssl_key_file"] = "on", "server.crt", "server.key"
	}
	maps.Copy(settings, s.options.Settings)
	hba := s.options.HBA
	if len(hba) == 0 {
		hba = DefaultHBA
	}
	for name, text := range map[string]string{
		"data/server.crt": string(cert), "data/server.key": string(key),
		"data/pg_hba.conf": strings.Join(hba, "\n") + "\n", "data/postgresql.conf": render(settings),
	} {
		if _, err := s.write(name, text); err != nil {
			return err
		}
	}
	return nil
}

func render(settings map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	return b.String()
}

// run starts the server's process and waits until it answers or exits.
func (s *Server) run(ctx context.Context) error {
	process, err := spawn(s.account, s.logFile(), s.dir, filepath.Join(s.bin, "postgres"), "-D", s.data())
	if err != nil {
		return err
	}
	s.process = process
	return s.await(ctx)
}

func (s *Server) logFile() string { return filepath.Join(s.dir, "server.log") }

func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.done:
			return fmt.Errorf("starting PostgreSQL %d: the server exited: %s", s.Version, tail(s.LogText()))
		case <-ctx.Done():
			return fmt.Errorf("starting PostgreSQL %d: no answer in time: %w: %s", s.Version, err, tail(s.LogText()))
		case <-tick.C:
		}
	}
}

// ready reports whether the server has logged that it is ready since the last start, and accepts a connection.
func (s *Server) ready(ctx context.Context) error {
	if !strings.Contains(s.LogText()[s.process.logOffset:], "ready to accept") {
		return errors.New("not ready yet")
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", s.Address())
	if err != nil {
		return fmt.Errorf("dialing the test server: %w", err)
	}
	_ = conn.Close()
	return nil
}

func tail(text string) string {
	const most = 2000
	return text[max(0, len(text)-most):]
}

// Address returns host:port.
func (s *Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// LogText returns everything that the server has logged.
func (s *Server) LogText() string {
	text, err := os.ReadFile(s.logFile())
	if err != nil {
		return ""
	}
	return string(text)
}

// Stop stops the server and removes its folder. It may be called more than once.
func (s *Server) Stop() {
	s.Halt()
	if s.dir != "" {
		_ = os.RemoveAll(s.dir) // the next start removes a leftover
	}
}

// Halt stops the server and keeps its data: Restart starts it again.
func (s *Server) Halt() {
	if s.process != nil {
		s.Thaw()
		s.process.end()
	}
}

// Restart stops the server, if it runs, and starts it again with the same data and port.
func (s *Server) Restart(ctx context.Context) error {
	s.Halt()
	return s.run(ctx)
}

// Connect logs in as the superuser, over TLS if the server has it.
func (s *Server) Connect(ctx context.Context, database string) (*pgx.Conn, error) {
	mode := "require"
	if s.options.Plain {
		mode = "disable"
	}
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=%s application_name=pgtest channel_binding=disable", s.Host, s.Port, Superuser, database, mode))
	if err != nil {
		return nil, fmt.Errorf("configuring a superuser's connection: %w", err)
	}
	config.Password = s.Password
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting as superuser: %w", err)
	}
	return conn, nil
}

// Exec runs statements as the superuser in the database, each in its own transaction.
func (s *Server) Exec(ctx context.Context, database string, statements ...string) error {
	conn, err := s.Connect(ctx, database)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, statement := range statements {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return fmt.Errorf("running %q: %w", statement, err)
		}
	}
	return nil
}

// SetHBA replaces pg_hba.conf and waits until the server has read it.
func (s *Server) SetHBA(ctx context.Context, lines ...string) error {
	if len(lines) == 0 {
		lines = DefaultHBA
	}
	if _, err := s.write("data/pg_hba.conf", strings.Join(lines, "\n")+"\n"); err != nil {
		return err
	}
	return s.reload(ctx)
}

// reload makes the server reread its files and waits until its log confirms that.
func (s *Server) reload(ctx context.Context) error {
	const said = "received SIGHUP, reloading configuration files"
	before := strings.Count(s.LogText(), said)
	if err := s.process.reload(); err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for strings.Count(s.LogText(), said) == before {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the server to reload: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}
