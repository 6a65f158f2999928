// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command localcluster builds a Kubernetes from Go modules and runs it, from a
// bare API server up to a node with pods, in one scratch folder.
package main

import (
	"os"

	"github.com/rekey/rekey/hack/localcluster/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:])) }
