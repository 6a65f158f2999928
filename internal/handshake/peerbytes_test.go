// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
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
