// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// options are what the environment asks for: `make demo` has no other way to hand them on.
type options struct {
	// keep leaves everything running after the summary, until Ctrl-C.
	keep bool
	// kubeconfig names a cluster that is there already; empty means a local one.
	kubeconfig string
	// level of the local cluster: node, or control for operator and programs as processes.
	level string
	// source is the project's folder.
	source string
}

func readOptions() (options, error) {
	o := options{keep: os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0", kubeconfig: os.Getenv("KUBECONFIG"), level: os.Getenv("LEVEL")}
	switch o.level {
	case "":
		o.level = levelNode
	case levelNode, levelControl:
	default:
		return o, fmt.Errorf("LEVEL=%s: the demo knows node (operator and programs as pods) and control (as processes)", o.level)
	}
	var err error
	o.source, err = findSource()
	return o, err
}

// findSource looks for the project's folder from the working folder upwards.
func findSource() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the working folder: %w", err)
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.Contains(string(text), "module github.com/rekey/rekey\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no go.mod of rekey from the working folder upwards: run this in the repository")
		}
		dir = parent
	}
}
