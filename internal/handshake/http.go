// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"time"
)

const (
	// maxAnswer limits what is read of an HTTP answer, maxBody of its body.
	maxAnswer = 64 << 10
	maxBody   = 8 << 10
)

// The status codes with which nginx and its relatives report a client certificate, where they do not report 400 instead.
const (
	statusBadCertificate = 495
	statusNoCertificate  = 496
)

// httpAnswer is an answer to GET: its status, the server's clock (zero if unknown), and what both show.
type httpAnswer struct {
	answer

	status int
	date   time.Time
}

// exchangeHTTP requests / and judges the answer. A server that demands a certificate in HTTP has completed the handshake.
func (s *session) exchangeHTTP(conn *tls.Conn) (answer, error) {
	request := fmt.Sprintf("GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: rekey\r\nAccept: */*\r\nConnection: close\r\n\r\n", s.hostHeader())
	got, err := ask(s.withFirst(conn), []byte(request), func(r io.Reader) (httpAnswer, error) { return readHTTP(r, s.attempt.Requested) })
	if err != nil {
		return answer{}, err
	}
	s.out.Status, s.attempt.ServerTime = got.status, got.date
	return got.answer, nil
}

func (s *session) hostHeader() string {
	host := s.endpoint.serverName()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if _, port, err := net.SplitHostPort(s.endpoint.Address); err == nil && port != "443" {
		host += ":" + port
	}
	return host
}

// readHTTP reads an answer to GET. An error is that of the connection, or a *protocolError.
func readHTTP(r io.Reader, requested bool) (httpAnswer, error) {
	source := &rememberedReader{Reader: io.LimitReader(r, maxAnswer)}
	response, err := http.ReadResponse(bufio.NewReader(source), nil)
	if err != nil {
		return httpAnswer{}, source.failure(err)
	}
	defer func() { _ = response.Body.Close() }()
	out := httpAnswer{status: response.StatusCode}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		out.date = date
	}
	var body []byte
	if response.StatusCode == http.StatusBadRequest {
		body, _ = io.ReadAll(io.LimitReader(response.Body, maxBody)) // what could be read of it counts
	}
	out.answer = judgeHTTP(response.StatusCode, body, requested)
	return out, nil
}

// judgeHTTP returns what an answer shows about the client's certificate. nginx reports it with the status 400 and a page in
// English (ngx_http_special_response.c); 495 and 496 are its own status codes. Servers that judge the certificate in the
// application answer 401 or 403, which can mean something else.
func judgeHTTP(status int, body []byte, requested bool) answer {
	note := fmt.Sprintf("answered with the HTTP status %d", status)
	switch {
	case status == statusNoCertificate, status == http.StatusBadRequest && bytes.Contains(body, []byte("No required SSL certificate was sent")):
		return answer{ReplyNoCertificate, note + ", because it requires a client certificate"}
	case status == statusBadCertificate, status == http.StatusBadRequest && bytes.Contains(body, []byte("The SSL certificate error")):
		return answer{ReplyBadCertificate, note + ", because it refuses the client certificate"}
	case requested && (status == http.StatusUnauthorized || status == http.StatusForbidden):
		return answer{ReplyUnclear, note + ", which may be about the client certificate"}
	}
	return answer{ReplyWelcome, note}
}

// rememberedReader remembers the error of the connection: the parser replaces it.
type rememberedReader struct {
	io.Reader

	err  error
	some bool
}

// Read implements io.Reader.
func (r *rememberedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.some = r.some || n > 0
	if err != nil {
		r.err = err
	}
	return n, err
}

// failure returns why no answer could be read.
func (r *rememberedReader) failure(err error) error {
	var malformed textproto.ProtocolError
	switch {
	case r.err != nil && !errors.Is(r.err, io.EOF):
		return r.err
	case r.err != nil && !r.some:
		return io.EOF
	case errors.As(err, &malformed), r.some:
		return &protocolError{"completed the handshake, but does not answer in HTTP/1.1"}
	}
	return err
}
