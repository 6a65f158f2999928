// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"github.com/rekey/rekey/test/workload/mount"
	"github.com/rekey/rekey/test/workload/report"
)

// newServer returns a server that reads its certificate and CA from the folder at every handshake.
func newServer(identity string, lines *report.Lines) *http.Server {
	return &http.Server{
		Handler:           greet(lines),
		ErrorLog:          log.New(failures{lines}, "", 0),
		ReadHeaderTimeout: 5 * time.Second,
		TLSConfig: &tls.Config{
			MinVersion:         tls.VersionTLS13,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return load(identity) },
		},
		// HTTP/2 has its own rules about certificates and no use for single requests.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
}

// load returns the configuration of one handshake.
func load(identity string) (*tls.Config, error) {
	files, err := mount.Read(identity, "tls.crt", "tls.key", "ca.crt")
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	pair, err := tls.X509KeyPair(files["tls.crt"], files["tls.key"])
	if err != nil {
		return nil, fmt.Errorf("using the certificate: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(files["ca.crt"]) {
		return nil, errors.New("using the certificate: ca.crt holds no certificate")
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients,
		SessionTicketsDisabled: true, // a resumed session would skip the certificates
	}, nil
}

func greet(lines *report.Lines) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leaf := r.TLS.PeerCertificates[0]
		said := report.Handshake{Time: time.Now().UTC(), Client: leaf.Subject.CommonName, Serial: report.Serial(leaf.SerialNumber)}
		if err := lines.Write(said); err != nil {
			http.Error(w, "the request could not be recorded", http.StatusInternalServerError)
			return
		}
		_, _ = fmt.Fprintln(w, said.Serial) // a client that has gone needs no error
	})
}

// failures turns the HTTP server's log, which holds failed handshakes, into lines.
type failures struct{ lines *report.Lines }

func (f failures) Write(text []byte) (int, error) {
	err := f.lines.Write(report.Handshake{Time: time.Now().UTC(), Error: strings.TrimSpace(string(text))})
	return len(text), err
}
