// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// peerBytes is a connection to a peer that sends fixed bytes.
type peerBytes struct {
	io.Reader

	wrote bytes.Buffer
}

func (p *peerBytes) Write(b []byte) (int, error) { return p.wrote.Write(b) }

// fullConn is a connection to a peer that never stops sending.
type fullConn struct{ net.Conn }

func (fullConn) Read(p []byte) (int, error) { return len(p), nil }

func TestNoMoreIsReadOfAPeerThanTheLimit(t *testing.T) {
	read, err := io.Copy(io.Discard, &limitedConn{Conn: fullConn{}, left: maxBytes})
	if read != maxBytes || !errors.Is(err, errTooMuch) {
		t.Errorf("read %d bytes, and then %v", read, err)
	}
	if end, _, note := Diagnose(err); end != EndProtocol || note == "" {
		t.Errorf("it ended as %d (%s)", end, note)
	}
}

func TestAnswersOfHTTPServers(t *testing.T) {
	const head = "HTTP/1.1 "
	page := func(text string) string {
		return fmt.Sprintf(head+"400 Bad Request\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	}
	for name, tc := range map[string]struct {
		sent      string
		requested bool
		want      Reply
	}{
		"a page":                                 {head + "200 OK\r\n\r\n", true, ReplyWelcome},
		"nginx without a certificate":            {page("<center>No required SSL certificate was sent</center>"), true, ReplyNoCertificate},
		"nginx with one it refuses":              {page("<center>The SSL certificate error</center>"), true, ReplyBadCertificate},
		"another bad request":                    {page("missing Host"), true, ReplyWelcome},
		"nginx's own status for none":            {head + "496 \r\n\r\n", true, ReplyNoCertificate},
		"nginx's own status for a bad one":       {head + "495 \r\n\r\n", true, ReplyBadCertificate},
		"unauthorized, a certificate requested":  {head + "401 Unauthorized\r\n\r\n", true, ReplyUnclear},
		"forbidden, a certificate requested":     {head + "403 Forbidden\r\n\r\n", true, ReplyUnclear},
		"forbidden, nothing of it was requested": {head + "403 Forbidden\r\n\r\n", false, ReplyWelcome},
		"a server error":                         {head + "503 Service Unavailable\r\n\r\n", true, ReplyWelcome},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readHTTP(strings.NewReader(tc.sent), tc.requested)
			if err != nil || got.reply != tc.want || got.note == "" {
				t.Errorf("got reply %d (%s), %v, want %d", got.reply, got.note, err, tc.want)
			}
		})
	}
}

// errorResponse is PostgreSQL's, with a code and a message.
func errorResponse(code, message string) string {
	body := "SFATAL\x00C" + code + "\x00M" + message + "\x00\x00"
	return "E" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))) + body
}

func TestAnswersOfPostgreSQL(t *testing.T) {
	for name, tc := range map[string]struct {
		sent string
		want Reply
	}{
		"a request for a password":        {"R\x00\x00\x00\x08\x00\x00\x00\x03", ReplyWelcome},
		"another version of the protocol": {"v\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00", ReplyWelcome},
		"a certificate is required":       {errorResponse("28000", "connection requires a valid client certificate"), ReplyNoCertificate},
		"the same in another language":    {errorResponse("28000", "Verbindung erfordert ein gültiges Client-Zertifikat"), ReplyUnclear},
		"no entry in pg_hba.conf":         {errorResponse("28000", `no pg_hba.conf entry for host "10.0.0.1", user "app"`), ReplyWelcome},
		"an unknown role":                 {errorResponse("28000", `role "app" does not exist`), ReplyWelcome},
		"a wrong password":                {errorResponse("28P01", "password authentication failed"), ReplyWelcome},
		"no connection left":              {errorResponse("53300", "sorry, too many clients already"), ReplyWelcome},
	} {
		t.Run(name, func(t *testing.T) {
			peer := &peerBytes{Reader: strings.NewReader(tc.sent)}
			got, err := exchangePostgreSQL(peer, "app")
			if err != nil || got.reply != tc.want || got.note == "" {
				t.Errorf("got reply %d (%s), %v, want %d", got.reply, got.note, err, tc.want)
			}
			if wrote := peer.wrote.String(); !strings.HasPrefix(wrote[4:], "\x00\x03\x00\x00user\x00app\x00") || !strings.HasSuffix(wrote, "X\x00\x00\x00\x04") {
				t.Errorf("it wrote %q", wrote)
			}
		})
	}
	for sent, want := range map[string]string{"N": "has TLS turned off", "E": "refused the connection before TLS", "H": "does not speak PostgreSQL"} {
		if err := openPostgreSQL(&peerBytes{Reader: strings.NewReader(sent)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("after %q: %v, want %q", sent, err, want)
		}
	}
}

// A login that is broken off counts toward max_connect_errors, and blocks a whole host at 100 of them: each is answered to its end.
func TestALoginToMySQLIsNotBrokenOff(t *testing.T) {
	denied := string(mysqlPacket(5, []byte("\xff\x15\x04#28000Access denied")))
	login := string(mysqlPacket(2, append(append(append(mysqlLogin(), madeUpUser...), 0, 0), mysqlNative+"\x00"...)))
	ask := func(plugin string) string {
		return string(mysqlPacket(3, []byte("\xfe"+plugin+"\x00nonce of 20 charactrs\x00")))
	}
	for name, tc := range map[string]struct{ sent, wrote, note string }{
		"it is refused at once":              {denied, login, "error 1045"},
		"the same plugin is requested":       {ask(mysqlNative) + denied, login + "\x00\x00\x00\x04", "error 1045"},
		"another plugin is requested":        {ask("caching_sha2_password") + denied, login + "\x01\x00\x00\x04\x00", "error 1045"},
		"more is sent before the answer":     {ask("caching_sha2_password") + "\x02\x00\x00\x05\x01\x04" + denied, login + "\x01\x00\x00\x04\x00", "error 1045"},
		"anyone may log in":                  {"\x07\x00\x00\x03\x00\x00\x00\x02\x00\x00\x00", login + "\x01\x00\x00\x00\x01", "without a password"},
		"the server requests without an end": {strings.Repeat(ask(mysqlNative), 9), login + "\x00\x00\x00\x04\x00\x00\x00\x06\x00\x00\x00\x08", "continued with the login"},
	} {
		t.Run(name, func(t *testing.T) {
			peer := &peerBytes{Reader: strings.NewReader(tc.sent)}
			got, err := exchangeMySQL(peer)
			if err != nil || got.reply != ReplyWelcome || !strings.Contains(got.note, tc.note) {
				t.Errorf("got reply %d (%s), %v", got.reply, got.note, err)
			}
			if diff := cmp.Diff(tc.wrote, peer.wrote.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever a peer sends, reading it ends, says something about it, and repeats none of it.
func FuzzWhatAPeerSends(f *testing.F) {
	const mark = "s3cr3tw0rd"
	f.Add([]byte("S"))
	f.Add([]byte("N"))
	f.Add([]byte("E\x00\x00\x00\x30SFATAL\x00VFATAL\x00C28000\x00Mconnection requires a valid client certificate\x00\x00"))
	f.Add([]byte("R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\nDate: Mon, 01 Mar 2027 12:00:00 GMT\r\nContent-Length: 60\r\n\r\n<center>No required SSL certificate was sent</center>"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n" + mark))
	f.Add([]byte("J\x00\x00\x00\x0a10.11.6-MariaDB\x00\x01\x00\x00\x00abcdefgh\x00\xff\xff\x21\x02\x00\xff\xc1\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00ijklmnopqrst\x00mysql_native_password\x00"))
	f.Add([]byte("\x17\x00\x00\x01\xff\x15\x04#28000Access denied " + mark))
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > 1<<17 {
			return
		}
		var notes []string
		note := func(text string, err error) {
			if err != nil {
				_, _, text = Diagnose(err)
			}
			notes = append(notes, text)
		}
		for _, protocol := range Protocols() {
			err := open(protocol, &peerBytes{Reader: bytes.NewReader(sent)})
			note("", err)
		}
		got, err := exchangePostgreSQL(&peerBytes{Reader: bytes.NewReader(sent)}, "app")
		note(got.note, err)
		got, err = exchangeMySQL(&peerBytes{Reader: bytes.NewReader(sent)})
		note(got.note, err)
		page, err := readHTTP(bytes.NewReader(sent), true)
		note(page.note, err)
		for _, text := range notes {
			if len(text) > 400 || strings.Contains(text, mark) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("a note repeats what a peer sent: %q", text)
			}
		}
	})
}
