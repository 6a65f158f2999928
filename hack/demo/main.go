// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// signalWindow is how long repeated signals count as one.
const signalWindow = 2 * time.Second

// Exit statuses.
const (
	allKept     = 0
	broken      = 1
	interrupted = 130
)

func main() {
	log.SetLogger(logr.Discard()) // the client's log is not part of the story
	opts, err := readOptions()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(broken)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-ctx.Done()
		// One Ctrl-C may arrive as several signals. A second one ends the demo immediately, and the kernel stops its children.
		wait(context.Background(), signalWindow)
		stop()
	}()
	os.Exit(run(ctx, opts, newPrinter(os.Stdout)))
}

// run runs the demo, cleans up, and returns the exit status.
func run(ctx context.Context, opts options, out *printer) int {
	d, err := newDemo(opts, out)
	if err != nil {
		out.printf("demo: %v", err)
		return broken
	}
	defer d.cleanUp()
	started := time.Now()
	kept, err := d.show(ctx)
	switch {
	case ctx.Err() != nil:
		out.printf("\nInterrupted.")
		return interrupted
	case err != nil:
		out.printf("\n%s %v", out.paint(red, "The demo could not continue:"), err)
		d.explain(ctx)
	case !kept:
		d.explain(ctx)
		out.printf("\n%s", out.paint(red, "A promise was broken: see the table and the details above."))
	default:
		out.printf("\n%s It took %s.", out.paint(green, "Every promise was kept."), time.Since(started).Round(time.Second))
	}
	if opts.keep && d.cluster != nil {
		lookAround(out, d.cluster)
		<-ctx.Done()
	}
	if err != nil || !kept {
		return broken
	}
	return allKept
}

// show runs from the first step to the summary and reports whether every promise was kept.
func (d *demo) show(ctx context.Context) (bool, error) {
	if err := d.prepare(ctx); err != nil {
		return false, err
	}
	d.out.heading("The story (times are UTC)")
	if err := d.story(ctx); err != nil {
		return false, err
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	secrets, err := d.search(ctx)
	if err != nil {
		return false, err
	}
	d.past.mu.Lock()
	d.past.over = true
	promises := append(d.past.promises(time.Now()), secrets)
	d.past.mu.Unlock()
	return summarize(d.out, promises), nil
}

// noNode explains that the demo continues without a node.
func (d *demo) noNode(why string) {
	d.out.printf("      No node: the operator and the programs run as processes on this machine. The story is the same.")
	if why != "" {
		d.out.printf("      %s", why)
	}
}
