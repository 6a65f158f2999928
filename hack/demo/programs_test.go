// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/test/workload/mount"
	"github.com/rekey/rekey/test/workload/report"
)

// built are the two programs, as a pod would run them.
var built programs

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	source, err := findSource()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "rekey-demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "creating a folder for the programs:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	built = programs{source: source, dir: dir}
	if err := built.build(context.Background(), &transcript{}, "hack/demo", "./app", "./server"); err != nil {
		fmt.Fprintln(os.Stderr, "building the programs of the demo:", err)
		return 1
	}
	return m.Run()
}

// issuer is a small CA: the programs are tested without the operator.
type issuer struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{serial: 1}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	i.key, i.cert = i.sign(t, template, nil)
	return i
}

func (i *issuer) sign(t *testing.T, template *x509.Certificate, parent *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	by := i.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// secret returns the data of a Secret with a new certificate.
func (i *issuer) secret(t *testing.T, name string, usage x509.ExtKeyUsage) map[string][]byte {
	t.Helper()
	i.serial++
	key, cert := i.sign(t, &x509.Certificate{SerialNumber: big.NewInt(i.serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{usage}}, i.cert)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"ca.crt":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}),
	}
}

// loginWith sets the password of a login and returns the data of its Secret.
func loginWith(t *testing.T, db *database, user, password string) map[string][]byte {
	t.Helper()
	if err := db.Exec(t.Context(), "postgres",
		"DO $$ BEGIN CREATE ROLE "+user+" LOGIN IN ROLE "+ownerRole+"; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
		"ALTER ROLE "+user+" LOGIN PASSWORD '"+password+"'", "ALTER ROLE "+user+" SET role = '"+ownerRole+"'"); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"uri":          fmt.Appendf(nil, "postgresql://%s:%s@%s/%s?sslmode=verify-full", user, password, db.Address(), databaseName),
		"password":     []byte(password),
		"certificates": db.Authority.PEM,
	}
}

// calls returns the application's lines.
func calls(t *testing.T, said *transcript) []report.Call {
	t.Helper()
	var all []report.Call
	for line := range strings.Lines(said.String()) {
		var call report.Call
		if err := json.Unmarshal([]byte(line), &call); err != nil {
			t.Fatalf("the application said %q: %v", line, err)
		}
		all = append(all, call)
	}
	return all
}

// stage is a running server and application, with the volumes that they read.
type stage struct {
	issuer                  *issuer
	db                      *database
	identity, served, login string
	said                    said
}

func setStage(t *testing.T) *stage {
	t.Helper()
	dir := t.TempDir()
	db, err := startDatabase(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Stop)
	s := &stage{issuer: newIssuer(t), db: db,
		identity: filepath.Join(dir, "identity"), served: filepath.Join(dir, "served"), login: filepath.Join(dir, "login")}
	s.write(t, s.identity, s.issuer.secret(t, "orders", x509.ExtKeyUsageClientAuth))
	s.write(t, s.served, s.issuer.secret(t, serverName, x509.ExtKeyUsageServerAuth))
	s.write(t, s.login, loginWith(t, db, "orders_app_a", "first-password-of-a"))
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	health, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	start := func(name string, to *transcript, args ...string) {
		started, err := launch(name, program(dir, nil, to, to, built.binary(name), args...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { started.stop(5 * time.Second) })
	}
	start("server", &s.said.server, "--identity="+s.served, "--listen="+address, "--health="+health)
	s.until(t, "the server answers", func() bool { return answers(t.Context(), "http://"+health+"/") == nil })
	start("app", &s.said.app, "--identity="+s.identity, "--database="+s.login, "--server="+address, "--server-name="+serverName, "--every=50ms")
	return s
}

func (s *stage) write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	if err := mount.Write(dir, files); err != nil {
		t.Fatal(err)
	}
}

// until waits until the condition holds.
func (s *stage) until(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("after a minute, still waiting until %s; the application: %s; the server: %s", what, s.said.app.String(), s.said.server.String())
		case <-tick.C:
		}
	}
}

// last returns the application's last line once it has made that many calls.
func (s *stage) last(t *testing.T, atLeast int) report.Call {
	t.Helper()
	s.until(t, fmt.Sprintf("%d calls were made", atLeast), func() bool { return strings.Count(s.said.app.String(), "\n") >= atLeast })
	all := calls(t, &s.said.app)
	return all[len(all)-1]
}

func TestTheApplicationFollowsEveryVolumeWithoutAFailedCallAndReportsARefusedLogin(t *testing.T) {
	s := setStage(t)
	call := s.last(t, 2)
	for round, user := range []string{"orders_app_b", "orders_app_a", "orders_app_b"} {
		s.write(t, s.login, loginWith(t, s.db, user, fmt.Sprintf("password-of-round-%d", round)))
		s.write(t, s.identity, s.issuer.secret(t, "orders", x509.ExtKeyUsageClientAuth))
		s.write(t, s.served, s.issuer.secret(t, serverName, x509.ExtKeyUsageServerAuth))
		want := report.Seen{Clients: round + 2, Servers: round + 2, Passwords: round + 2}
		s.until(t, fmt.Sprintf("everything of round %d was used", round), func() bool { call = s.last(t, call.Call+1); return call.Seen == want })
		if call.Failed > 0 || call.Login != user || call.Owner != ownerRole {
			t.Fatalf("round %d: %+v", round, call)
		}
	}
	if err := s.db.Exec(t.Context(), "postgres", "ALTER ROLE orders_app_b NOLOGIN PASSWORD NULL"); err != nil {
		t.Fatal(err)
	}
	s.until(t, "the rejected login is a failed call", func() bool { call = s.last(t, call.Call+1); return call.Failed > 0 })
	if !strings.Contains(call.Error, "28P01") && !strings.Contains(call.Error, "28000") {
		t.Errorf("the failed call says %q, want PostgreSQL's answer", call.Error)
	}
	for _, secret := range []string{"password-of-round", "first-password"} {
		if strings.Contains(s.said.app.String(), secret) {
			t.Errorf("the application shows %q", secret)
		}
	}
}

func TestTheServerRefusesAClientOfAnotherAuthorityAndBothSidesCountIt(t *testing.T) {
	s := setStage(t)
	s.last(t, 1)
	foreign := newIssuer(t).secret(t, "orders", x509.ExtKeyUsageClientAuth)
	foreign["ca.crt"] = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.issuer.cert.Raw}) // it trusts the server
	s.write(t, s.identity, foreign)
	call := s.last(t, 1)
	s.until(t, "a call fails", func() bool { call = s.last(t, call.Call+1); return call.Failed > 0 })
	d := &demo{past: newPast(), out: &printer{to: &transcript{}}}
	s.until(t, "the server reports it", func() bool { return strings.Contains(s.said.server.String(), `"error"`) })
	for line := range strings.Lines(s.said.server.String()) {
		d.serverSaid(line)
	}
	if len(d.past.refusals) == 0 || !strings.Contains(d.past.refusals[0], "unknown authority") {
		t.Errorf("no refused handshake in %s", s.said.server.String())
	}
}

func TestAnIndependentClientDistinguishesARefusalFromSilence(t *testing.T) {
	db, err := startDatabase(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Stop)
	secret := loginWith(t, db, "orders_app_a", "first-password-of-a")
	accepted, words, err := try(t.Context(), secret)
	if !accepted || err != nil {
		t.Errorf("a good login: %v %q %v", accepted, words, err)
	}
	loginWith(t, db, "orders_app_a", "second-password-of-a")
	accepted, words, err = try(t.Context(), secret)
	if accepted || err != nil || !strings.Contains(words, "28P01") {
		t.Errorf("an old password: %v %q %v, want the server's refusal", accepted, words, err)
	}
	db.Halt()
	if _, _, err = try(t.Context(), secret); err == nil {
		t.Error("a server that does not answer is taken for an answer")
	}
}
