// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshakes

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed" // The programs.
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/handshake"
)

var (
	//go:embed programs/client.js
	nodeClient []byte
	//go:embed programs/Client.java
	javaClient []byte
)

// visitor is a real client program: it requests url once.
type visitor struct {
	name  string
	visit func(t *testing.T, v call)
}

// call is what a client has to do. crt and key are empty for no certificate.
type call struct {
	url, host, port, ca, crt, key string
	version                       uint16
}

// reception is one situation, as a server of rekey's meets it.
type reception struct {
	title string
	// want is the true cause; empty if the server must accept.
	want handshake.Cause
	// presents is the client's certificate; nil for none. serves is the server's; nil means one that is in order.
	presents, serves func(*pki) leaf
	// foreign means that the client trusts another authority.
	foreign bool
	// behind is how far rekey's clock is behind. tied means that what a server sees has other causes, too, so that the true one need
	// not be the first.
	behind time.Duration
	tied   bool
}

func comes(title string, want handshake.Cause, presents func(*pki) leaf) reception {
	return reception{title: title, want: want, presents: presents}
}

func meets(title string, want handshake.Cause, serves func(*pki) leaf) reception {
	return reception{title: title, want: want, serves: serves, presents: usualClient}
}

func usualClient(p *pki) leaf { return p.client }

var receptions = []reception{
	comes("nothing is wrong", "", usualClient),
	comes("the client's certificate has expired", handshake.ClientCertificateExpired, func(p *pki) leaf { return p.past }),
	comes("the client's certificate is not valid yet", handshake.ClientCertificateNotYetValid, func(p *pki) leaf { return p.future }),
	comes("the client's authority has expired", handshake.ClientAuthorityExpired, func(p *pki) leaf { return p.underExpired }),
	comes("the server does not trust the client's authority", handshake.ClientAuthorityNotTrusted, func(p *pki) leaf { return p.underForeign }),
	comes("the client's certificate is for servers only", handshake.ClientUsageNotAllowed, func(p *pki) leaf { return p.serverOnly }),
	comes("the client presents no certificate", handshake.ClientCertificateMissing, nil),
	meets("the server's certificate has expired", handshake.ServerCertificateExpired, func(p *pki) leaf { return p.serverPast }),
	// Java names no server without a dot, so that a server cannot know whether its name was the wrong one.
	{title: "the server's certificate is for another name", want: handshake.ServerNameMismatch, presents: usualClient, tied: true, serves: func(p *pki) leaf { return p.serverOther }},
	meets("the server's certificate is for clients only", handshake.ServerUsageNotAllowed, func(p *pki) leaf { return p.clientOnly }),
	{title: "the client does not trust the server's authority", want: handshake.ServerAuthorityNotTrusted, presents: usualClient, foreign: true},
	{title: "rekey's clock is a day and a half behind, and the client's certificate has expired since", behind: day + day/2, presents: func(p *pki) leaf { return p.past }},
	{title: "rekey's clock is a day and a half behind, and the server's certificate has expired since", want: handshake.ClockSkew, behind: day + day/2, tied: true, presents: usualClient, serves: func(p *pki) leaf { return p.serverPast }},
}

// patience is how long a client may take: this machine may be busy.
const patience = time.Minute

// host is a server of rekey's kind: it requests a certificate, names no authority, completes the handshake with any, and judges.
type host struct {
	pki      *pki
	now      time.Time
	served   leaf
	listener net.Listener
	verdicts chan handshake.Verdict
}

func newHost(t *testing.T, p *pki, now time.Time, served leaf) *host {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{pki: p, now: now, served: served, listener: listener, verdicts: make(chan handshake.Verdict, 16)}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { h.verdicts <- h.receive(conn) }()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return h
}

// verdict returns the first one.
func (h *host) verdict(t *testing.T) handshake.Verdict {
	t.Helper()
	select {
	case verdict := <-h.verdicts:
		return verdict
	case <-time.After(2 * patience):
		t.Fatal("the client did not connect")
	}
	return handshake.Verdict{}
}

// receive performs the handshake, reads the start of a request, and judges.
func (h *host) receive(conn net.Conn) handshake.Verdict {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	visit := handshake.Visit{
		Now: h.now, Phase: handshake.PhaseHello, Anchors: []*x509.Certificate{h.pki.trusted.certificate, h.pki.expired.certificate},
		Server: []*x509.Certificate{h.served.certificate}, ServerAnchors: []*x509.Certificate{h.pki.trusted.certificate},
	}
	pair, err := tls.X509KeyPair(h.served.crt, h.served.key)
	if err != nil {
		return handshake.Verdict{Detail: err.Error()}
	}
	secured := tls.Server(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			visit.Phase, visit.ServerName = handshake.PhaseShaking, hello.ServerName
			return nil, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			visit.Client = state.PeerCertificates
			return nil
		},
	})
	if err = secured.HandshakeContext(ctx); err == nil {
		visit.Phase = handshake.PhaseCompleted
		_ = secured.SetDeadline(time.Now().Add(patience))
		_, err = bufio.NewReader(secured).ReadString('\n')
	}
	if err != nil {
		visit.End, visit.Alert, visit.Note = handshake.Diagnose(err)
		return handshake.JudgeClient(visit)
	}
	_, _ = io.WriteString(secured, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	_ = secured.CloseWrite()
	_, _ = io.Copy(io.Discard, io.LimitReader(secured, 64<<10))
	return handshake.JudgeClient(visit)
}

// visitAll lets every client connect in every situation.
func visitAll(t *testing.T, p *pki, seen *visits) {
	t.Helper()
	dir := scratch(t)
	clients := visitors(t, dir)
	for i, situation := range receptions {
		served := p.server
		if situation.serves != nil {
			served = situation.serves(p)
		}
		trusts := p.trusted
		if situation.foreign {
			trusts = p.foreign
		}
		work := call{host: "localhost", ca: write(t, dir, fmt.Sprintf("ca-%d.crt", i), encode(trusts.certificate))}
		if situation.presents != nil {
			of := situation.presents(p)
			work.crt, work.key = write(t, dir, fmt.Sprintf("%d.crt", i), of.crt), write(t, dir, fmt.Sprintf("%d.key", i), of.key)
		}
		for _, client := range clients {
			for _, version := range versions {
				// A client may connect again after a failure: its first connection counts.
				h := newHost(t, p, p.now.Add(-situation.behind), served)
				_, port, _ := net.SplitHostPort(h.listener.Addr().String())
				work.url, work.port, work.version = "https://localhost:"+port+"/", port, version
				client.visit(t, work)
				verdict := h.verdict(t)
				if wrong := situation.wrong(verdict); wrong != "" {
					t.Errorf("%s, %s, %s: %s: %s %v (%s)", client.name, situation.title, tls.VersionName(version), wrong, verdict.Outcome, verdict.Causes, verdict.Detail)
				}
				seen.put(situation.title, version, client.name, verdict)
			}
		}
	}
}

// wrong returns what is wrong with a verdict; empty if it is right, or says that it cannot know.
func (r reception) wrong(verdict handshake.Verdict) string {
	// A client that closes the connection explains nothing.
	if verdict.Outcome == credential.Unknown && slices.Equal(verdict.Causes, []handshake.Cause{handshake.Unreachable}) {
		return ""
	}
	return wrongAbout(r.want, r.tied, r.want == "", verdict)
}

// visitors returns the clients. Java and Node run once, and answer line by line.
func visitors(t *testing.T, dir string) []visitor {
	t.Helper()
	java := talk(t, dir, "java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx128m", write(t, dir, "Client.java", javaClient))
	node := talk(t, dir, "node", write(t, dir, "client.js", nodeClient))
	return []visitor{{"curl", curl}, {"OpenSSL s_client", openSSL}, {"Go", goClient}, {"Java", java.visit("TLSv1.2", "TLSv1.3")}, {"Node", node.visit("TLSv1.2", "TLSv1.3")}}
}

func curl(t *testing.T, c call) {
	t.Helper()
	args := []string{"--silent", "--max-time", "60", "--cacert", c.ca, "--tlsv1.2", "--tls-max", "1.2", c.url}
	if c.version == tls.VersionTLS13 {
		args[5], args[7] = "--tlsv1.3", "1.3"
	}
	if c.crt != "" {
		args = append(args, "--cert", c.crt, "--key", c.key)
	}
	_ = command(t, "/", "curl", args...).Run() // what the server saw counts
}

func openSSL(t *testing.T, c call) {
	t.Helper()
	args := []string{"s_client", "-connect", "127.0.0.1:" + c.port, "-servername", c.host, "-verify_hostname", c.host, "-CAfile", c.ca, "-verify_return_error", "-quiet", "-tls1_2"}
	if c.version == tls.VersionTLS13 {
		args[len(args)-1] = "-tls1_3"
	}
	if c.crt != "" {
		args = append(args, "-cert", c.crt, "-key", c.key)
	}
	cmd := command(t, "/", "openssl", args...)
	cmd.Stdin = strings.NewReader("GET / HTTP/1.1\r\n\r\n")
	_ = cmd.Run() // what the server saw counts
}

func goClient(t *testing.T, c call) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, c.ca))
	config := &tls.Config{RootCAs: roots, MinVersion: c.version, MaxVersion: c.version}
	if c.crt != "" {
		pair, err := tls.LoadX509KeyPair(c.crt, c.key)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: patience}
	if response, err := client.Get(c.url); err == nil {
		_ = response.Body.Close()
	}
}

// talker is a program that makes a request for each line of its input.
type talker struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func talk(t *testing.T, dir, name string, args ...string) *talker {
	t.Helper()
	cmd := command(t, dir, name, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A program that hangs must not cost the whole time of the tests.
	hangs := time.AfterFunc(10*time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		hangs.Stop()
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v: %s", name, err, said.String())
		}
	})
	return &talker{in, bufio.NewReader(out)}
}

func (k *talker) visit(tls12, tls13 string) func(*testing.T, call) {
	return func(t *testing.T, c call) {
		t.Helper()
		version := tls12
		if c.version == tls.VersionTLS13 {
			version = tls13
		}
		if _, err := io.WriteString(k.in, strings.TrimSpace(strings.Join([]string{c.url, c.ca, version, c.crt, c.key}, " "))+"\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := k.out.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
}

// A server that judges only what a client presents must not let a certificate in that it would refuse.
func TestJudgeClientAgreesWithTheStandardServer(t *testing.T) {
	p := newPKI(t)
	anchors := []*x509.Certificate{p.trusted.certificate, p.expired.certificate}
	pool := x509.NewCertPool()
	for _, anchor := range anchors {
		pool.AddCert(anchor)
	}
	for name, of := range map[string]leaf{"valid": p.client, "expired": p.past, "not yet valid": p.future, "under an expired authority": p.underExpired, "foreign": p.underForeign, "for servers": p.serverOnly} {
		_, err := of.certificate.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: p.now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		got := handshake.JudgeClient(handshake.Visit{Now: p.now, Client: []*x509.Certificate{of.certificate}, Anchors: anchors})
		if (err == nil) != (got.Outcome == credential.Accepted) {
			t.Errorf("a client certificate that is %s: Go says %v, rekey %s %v", name, err, got.Outcome, got.Causes)
		}
	}
}
