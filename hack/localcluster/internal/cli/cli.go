// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line of the launcher.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/rekey/rekey/hack/localcluster/internal/node"
)

const usage = `usage: localcluster COMMAND [flags]

  assets                      build the Kubernetes programs once; print their folder
  up      [--level L] [...]   start a cluster; stay until interrupted, or --detach
  down    [--dir DIR]         stop the cluster in DIR
  status  [--dir DIR]         print what runs in DIR, as KEY=value lines
  run     [--level L] -- CMD  start a cluster, run CMD with its KUBECONFIG, stop it
  load    [--dir DIR] TAR...  import images into the node of the cluster in DIR
  doctor                      print what each level needs and what is missing here

Levels: api (etcd, API server), control (adds controllers, scheduler), node (adds
a node that runs pods; needs root). "localcluster COMMAND -h" lists the flags.
`

// errUsage reports a wrong command line that was already explained.
var errUsage = errors.New("wrong usage")

// Main runs one command and returns the exit status.
func Main(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	if args[0] == node.InitArg { // this is the first process of a node
		return nodeMain(args[1:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	return exitCode(dispatch(ctx, args[0], args[1:]))
}

// nodeMain runs a node's first process.
func nodeMain(args []string) int {
	if len(args) != 1 || os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "localcluster: this command is internal; use `localcluster up --level node`")
		return 2
	}
	if err := node.First(args[0]); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		return 1
	}
	return 0
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

// exitCode returns the child's exit status if the command ran one.
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
