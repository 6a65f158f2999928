// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshakes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed" // The programs.
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/handshake"
)

var (
	//go:embed programs/server.js
	nodeServer []byte
	//go:embed programs/Server.java
	javaServer []byte
)

// place is the scratch folder of a peer, with the files that it reads.
type place struct {
	dir, port string
	// combined is certificate and key in one file.
	crt, key, combined, clients string
	// only13 excludes TLS 1.2.
	only13 bool
	// strict means that the peer checks revocations, a revocation list, and refuses names other than localhost: whichever it can.
	strict      bool
	revocations string
	// backend is the address of a server in plain text.
	backend string
}

// address is what the peer listens on.
func (p place) address() string { return net.JoinHostPort("127.0.0.1", p.port) }

// either returns one of two settings.
func (p place) either(both, only13 string) string {
	if p.only13 {
		return only13
	}
	return both
}

// strictly returns settings if the peer has to be strict.
func (p place) strictly(format string, args ...any) string {
	if !p.strict {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// peer is a kind of server.
type peer struct {
	name     string
	protocol handshake.Protocol
	// prepare creates what all runs of the peer share; nil for nothing.
	prepare func(*testing.T, place)
	// run starts it and returns when it listens; it returns how to stop it.
	run func(*testing.T, place) (stop func(), err error)
	// always12 means that it cannot be restricted to TLS 1.3. revokes means that it can read a revocation list, and selects means
	// that it can refuse names that it does not serve.
	always12, revokes, selects bool
}

// daemon returns a peer that is one process.
func daemon(name string, protocol handshake.Protocol, start func(*testing.T, place) *process) peer {
	return peer{name: name, protocol: protocol, run: func(t *testing.T, p place) (func(), error) {
		t.Helper()
		process := start(t, p)
		return process.stop, process.await(t, p.address())
	}}
}

func peers() []peer {
	etcd := daemon("etcd", handshake.HTTPS, startEtcd)
	etcd.always12 = true
	mariadb := daemon("MariaDB", handshake.MySQL, startMariaDB)
	mariadb.prepare = installMariaDB
	out := []peer{
		daemon("nginx", handshake.HTTPS, startNginx), daemon("HAProxy", handshake.HTTPS, startHAProxy), daemon("Apache", handshake.HTTPS, startApache),
		daemon("stunnel", handshake.HTTPS, startStunnel), daemon("OpenSSL s_server", handshake.HTTPS, startOpenSSL),
		{name: "Go", protocol: handshake.HTTPS, run: runGo},
		daemon("Java", handshake.HTTPS, startJava), daemon("Node", handshake.HTTPS, startNode),
		{name: "PostgreSQL", protocol: handshake.PostgreSQL, run: runPostgreSQL}, mariadb,
		daemon("Redis", handshake.TLS, startRedis), etcd,
	}
	for i := range out {
		out[i].revokes = !slices.Contains([]string{"Go", "Redis"}, out[i].name)
		out[i].selects = slices.Contains([]string{"nginx", "HAProxy", "Go", "Java"}, out[i].name)
	}
	return out
}

func startNginx(t *testing.T, p place) *process {
	t.Helper()
	config := fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  ssl_protocols %[6]s;
  %[7]s
  server {
    listen %[2]s ssl;
    server_name localhost;
    ssl_certificate %[3]s;
    ssl_certificate_key %[4]s;
    ssl_client_certificate %[5]s;
    ssl_verify_client on;
    %[8]s
    return 200 "ok";
  }
}
`, p.dir, p.address(), p.crt, p.key, p.clients, p.either("TLSv1.2 TLSv1.3", "TLSv1.3"),
		p.strictly("server { listen %s ssl default_server; ssl_reject_handshake on; }", p.address()), p.strictly("ssl_crl %s;", p.revocations))
	return spawn(t, p.dir, "nginx", "-c", write(t, p.dir, "nginx.conf", []byte(config)), "-e", p.dir+"/start.log")
}

func startHAProxy(t *testing.T, p place) *process {
	t.Helper()
	config := fmt.Sprintf(`global
  maxconn 64
defaults
  mode http
  timeout client 20s
  timeout connect 5s
  timeout server 20s
frontend test
  bind %s ssl crt %s ca-file %s verify required ssl-min-ver %s %s
  http-request return status 200
`, p.address(), p.combined, p.clients, p.either("TLSv1.2", "TLSv1.3"), p.strictly("strict-sni crl-file %s", p.revocations))
	return spawn(t, p.dir, "haproxy", "-db", "-f", write(t, p.dir, "haproxy.cfg", []byte(config)))
}

func startApache(t *testing.T, p place) *process {
	t.Helper()
	var modules strings.Builder
	for _, name := range []string{"mpm_event", "authz_core", "ssl"} {
		fmt.Fprintf(&modules, "LoadModule %[1]s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", name)
	}
	config := modules.String() + fmt.Sprintf(`ServerName localhost
ServerRoot %[1]s
DefaultRuntimeDir %[1]s
Mutex file:%[1]s default
PidFile %[1]s/apache.pid
ErrorLog %[1]s/error.log
DocumentRoot %[1]s
Listen %[2]s
SSLSessionCache none
<VirtualHost *>
  SSLEngine on
  SSLCertificateFile %[3]s
  SSLCertificateKeyFile %[4]s
  SSLCACertificateFile %[5]s
  SSLVerifyClient require
  SSLVerifyDepth 3
  SSLProtocol %[6]s
  %[7]s
</VirtualHost>
`, p.dir, p.address(), p.crt, p.key, p.clients, p.either("-all +TLSv1.2 +TLSv1.3", "-all +TLSv1.3"),
		p.strictly("SSLCARevocationFile %s\nSSLCARevocationCheck chain", p.revocations))
	return spawn(t, p.dir, "apache2", "-X", "-f", write(t, p.dir, "apache.conf", []byte(config)))
}

func startStunnel(t *testing.T, p place) *process {
	t.Helper()
	config := fmt.Sprintf(`foreground = yes
pid =
[test]
accept = %s
connect = %s
cert = %s
key = %s
CAfile = %s
verifyChain = yes
requireCert = yes
sslVersionMin = %s
%s
`, p.address(), p.backend, p.crt, p.key, p.clients, p.either("TLSv1.2", "TLSv1.3"), p.strictly("CRLfile = %s", p.revocations))
	return spawn(t, p.dir, "stunnel4", write(t, p.dir, "stunnel.conf", []byte(config)))
}

func startOpenSSL(t *testing.T, p place) *process {
	t.Helper()
	args := []string{"s_server", "-accept", p.address(), "-cert", p.crt, "-key", p.key, "-CAfile", p.clients, "-Verify", "3", "-verify_return_error", "-www"}
	if p.only13 {
		args = append(args, "-tls1_3")
	}
	if p.strict {
		args = append(args, "-CRL", p.revocations, "-crl_check")
	}
	return spawn(t, p.dir, "openssl", args...)
}

func startJava(t *testing.T, p place) *process {
	t.Helper()
	return spawn(t, p.dir, "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", write(t, p.dir, "Server.java", javaServer),
		p.port, p.key, p.crt, p.clients, p.either("TLSv1.2,TLSv1.3", "TLSv1.3"), p.strictly("%s", p.revocations))
}

func startNode(t *testing.T, p place) *process {
	t.Helper()
	return spawn(t, p.dir, "node", write(t, p.dir, "server.js", nodeServer), p.port, p.key, p.crt, p.clients, p.either("TLSv1.2", "TLSv1.3"), p.strictly("%s", p.revocations))
}

func installMariaDB(t *testing.T, p place) {
	t.Helper()
	out, err := command(t, p.dir, "mariadb-install-db", "--no-defaults", "--datadir="+p.dir+"/data", "--auth-root-authentication-method=normal", "--skip-test-db",
		"--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M").CombinedOutput()
	if err != nil {
		t.Fatalf("mariadb-install-db: %v: %s", err, out)
	}
}

func startMariaDB(t *testing.T, p place) *process {
	t.Helper()
	args := []string{
		"--no-defaults", "--datadir=" + p.dir + "/data", "--bind-address=127.0.0.1", "--port=" + p.port, "--socket=" + p.dir + "/s.sock",
		"--pid-file=" + p.dir + "/mariadb.pid", "--ssl-ca=" + p.clients, "--ssl-cert=" + p.crt, "--ssl-key=" + p.key, "--tls-version=" + p.either("TLSv1.2,TLSv1.3", "TLSv1.3"),
		"--innodb-log-file-size=4M", "--innodb-buffer-pool-size=8M", "--performance-schema=OFF", "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve",
	}
	if p.strict {
		args = append(args, "--ssl-crl="+p.revocations)
	}
	return spawn(t, p.dir, "mariadbd", args...)
}

func startRedis(t *testing.T, p place) *process {
	t.Helper()
	config := fmt.Sprintf(`bind 127.0.0.1
port 0
tls-port %s
tls-cert-file %s
tls-key-file %s
tls-ca-cert-file %s
tls-auth-clients yes
tls-protocols "%s"
save ""
dir %s
`, p.port, p.crt, p.key, p.clients, p.either("TLSv1.2 TLSv1.3", "TLSv1.3"), p.dir)
	return spawn(t, p.dir, "redis-server", write(t, p.dir, "redis.conf", []byte(config)))
}

func startEtcd(t *testing.T, p place) *process {
	t.Helper()
	url, peerURL := "https://"+p.address(), "http://127.0.0.1:"+freePort(t)
	args := []string{
		"--data-dir=" + p.dir + "/etcd-" + p.port, "--listen-client-urls=" + url, "--advertise-client-urls=" + url, "--listen-peer-urls=" + peerURL,
		"--initial-advertise-peer-urls=" + peerURL, "--initial-cluster=default=" + peerURL, "--client-cert-auth", "--trusted-ca-file=" + p.clients,
		"--cert-file=" + p.crt, "--key-file=" + p.key, "--logger=zap", "--log-level=error",
	}
	if p.strict {
		args = append(args, "--client-crl-file="+p.revocations)
	}
	return spawn(t, p.dir, "etcd", args...)
}

func runGo(t *testing.T, p place) (func(), error) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(p.crt, p.key)
	if err != nil {
		return nil, err
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(read(t, p.clients))
	listener, err := net.Listen("tcp", p.address())
	if err != nil {
		return nil, err
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	_ = server.Listener.Close()
	server.Listener = listener
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
	if p.only13 {
		server.TLS.MinVersion = tls.VersionTLS13
	}
	if p.strict {
		server.TLS.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if hello.ServerName != "localhost" {
				return nil, errors.New("the name is not served")
			}
			return nil, nil // the usual one
		}
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	return server.Close, nil
}

// runPostgreSQL starts a server that demands a client certificate of everyone.
func runPostgreSQL(t *testing.T, p place) (func(), error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var port int
	if _, err := fmt.Sscan(p.port, &port); err != nil {
		return nil, err
	}
	server, err := pgtest.Start(ctx, pgtest.Options{
		Port: port, HBA: []string{"hostssl all all all scram-sha-256 clientcert=verify-ca"}, //nolint:dupword // pg_hba.conf: database, user, address
		Settings: map[string]string{
			"ssl_cert_file": p.crt, "ssl_key_file": p.key, "ssl_ca_file": p.clients, "ssl_min_protocol_version": p.either("TLSv1.2", "TLSv1.3"),
			"ssl_crl_file": p.strictly("%s", p.revocations),
		},
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(server.Stop)
	return server.Stop, nil
}
