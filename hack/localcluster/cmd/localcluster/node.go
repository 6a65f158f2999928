// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"

	"github.com/rekey/rekey/hack/localcluster/internal/node"
)

// nodeCommand is what the launcher calls itself with, inside the node's namespaces.
const nodeCommand = node.InitArg

func nodeMain(args []string) int {
	if len(args) != 1 || os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "localcluster: this command is the launcher's own; use `localcluster up --level node`")
		return 2
	}
	if err := node.First(args[0]); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		return 1
	}
	return 0
}
