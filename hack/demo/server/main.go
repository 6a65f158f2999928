// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rekey/rekey/test/workload/report"
)

func main() {
	identity := flag.String("identity", "/etc/identity", "folder of the mounted Secret with the server's certificate")
	listen := flag.String("listen", ":8443", "address to serve on, with mutual TLS")
	health := flag.String("health", "", "address of the health endpoint, without TLS; empty for none")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "server: only flags are accepted")
		os.Exit(2)
	}
	if err := run(*identity, *listen, *health); err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		os.Exit(1)
	}
}

func run(identity, listen, health string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s := newServer(identity, report.NewLines(os.Stdout))
	s.Addr = listen
	ended := make(chan error, 2)
	go func() { ended <- s.ListenAndServeTLS("", "") }()
	if health != "" {
		ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
		probe := &http.Server{Addr: health, Handler: ok, ReadHeaderTimeout: time.Second}
		go func() { ended <- probe.ListenAndServe() }()
		defer func() { _ = probe.Close() }()
	}
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	// A request in flight still gets its answer.
	graceful, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := s.Shutdown(graceful); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("shutting down: %w", err)
	}
	return nil
}
