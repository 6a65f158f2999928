// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// options come from the environment: `make demo` has no other way to pass them.
type options struct {
	// keep leaves everything running after the summary, until Ctrl-C.
	keep bool
	// kubeconfig names an existing cluster; empty means a local one.
	kubeconfig string
	// level of the local cluster: node, or control, with the operator and the programs as processes.
	level string
	// source is the root of the repository.
	source string
}

func readOptions() (options, error) {
	o := options{keep: os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0", kubeconfig: os.Getenv("KUBECONFIG"), level: os.Getenv("LEVEL")}
	switch o.level {
	case "":
		o.level = levelNode
	case levelNode, levelControl:
	default:
		return o, fmt.Errorf("LEVEL=%s: must be node (operator and programs as pods) or control (as processes)", o.level)
	}
	var err error
	o.source, err = findSource()
	return o, err
}

// findSource returns the root of the repository that contains the working folder.
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
			return "", fmt.Errorf("neither the working folder nor its parents have rekey's go.mod: run the demo in the repository")
		}
		dir = parent
	}
}
