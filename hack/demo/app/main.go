// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rekey/rekey/test/workload/report"
)

func main() {
	var c caller
	flag.StringVar(&c.identity, "identity", "/etc/identity", "folder of the mounted Secret with the client's certificate")
	flag.StringVar(&c.database, "database", "/etc/database", "folder of the mounted Secret with the login")
	flag.StringVar(&c.server, "server", "", "host:port of the server to call")
	flag.StringVar(&c.serverName, "server-name", "", "name that the server's certificate must carry")
	every := flag.Duration("every", time.Second, "time between two calls")
	flag.Parse()
	if c.server == "" || c.serverName == "" || flag.NArg() > 0 || *every <= 0 {
		fmt.Fprintln(os.Stderr, "app: --server and --server-name are required, and only flags are accepted")
		os.Exit(2)
	}
	if err := run(&c, *every, report.NewLines(os.Stdout)); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1)
	}
}

// run makes calls until it is asked to stop. It finishes a call that has started: aborting it would look like a failure,
// or hide one.
func run(c *caller, every time.Duration, lines *report.Lines) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	var count counter
	for {
		said := c.call(context.WithoutCancel(ctx))
		if err := lines.Write(count.add(said)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
