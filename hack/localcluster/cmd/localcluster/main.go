// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command localcluster builds a Kubernetes from Go modules and runs it, from a
// bare API server up to a node with pods, in one scratch folder.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const usage = `usage: localcluster COMMAND [flags]

  assets                      build the Kubernetes programs once; print their folder
  up      [--level L] [...]   start a cluster; stay until interrupted, or --detach
  down    [--dir DIR]         end the cluster in DIR
  status  [--dir DIR]         say what runs in DIR, as KEY=value lines
  run     [--level L] -- CMD  start a cluster, run CMD with its KUBECONFIG, end it
  load    [--dir DIR] TAR...  import images into the node of the cluster in DIR
  doctor                      say what each level needs and what is missing here

Levels: api (etcd, API server), control (and controllers, scheduler), node (and
a node that runs pods; needs root). "localcluster COMMAND -h" lists the flags.
`

// errUsage says that the command line was wrong and that it has been explained.
var errUsage = errors.New("wrong usage")

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if os.Args[1] == nodeCommand { // we are the first process of a node
		os.Exit(nodeMain(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(exitCode(dispatch(ctx, os.Args[1], os.Args[2:])))
}

func dispatch(ctx context.Context, name string, args []string) error {
	commands := map[string]func(context.Context, []string) error{
		"assets": assetsCommand, "up": upCommand, "down": downCommand, "status": statusCommand,
		"run": runCommand, "load": loadCommand, "doctor": doctorCommand,
	}
	command, ok := commands[name]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		return errUsage
	}
	return command(ctx, args)
}

// exitCode is the child's own where a command ran one.
func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errUsage):
		return 2
	case errors.As(err, &exit):
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			return 128 + int(status.Signal())
		}
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "localcluster:", err)
	return 1
}
