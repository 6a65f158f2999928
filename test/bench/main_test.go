// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"
)

// These are measured instead of what is built here.
var (
	rekeyBinary = flag.String("rekey", "", "the rekey binary to measure; by default it is built as `make build` builds it")
	floorBinary = flag.String("floor", "", "the bare operator to measure; by default it is built")
)

// binaries are the programs under test.
var binaries struct{ rekey, floor string }

func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-ended
		endServers()
		os.Exit(1)
	}()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rekey-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, binary := range []struct {
		given, path string
		at          *string
	}{{*rekeyBinary, ".", &binaries.rekey}, {*floorBinary, "./test/bench/floor", &binaries.floor}} {
		*binary.at = binary.given
		if binary.given != "" {
			continue
		}
		*binary.at = filepath.Join(dir, "operator"+strings.ReplaceAll(binary.path, "/", "-"))
		if err := build(filepath.Join("..", ".."), *binary.at, binary.path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return m.Run()
}

// build builds a command from a source tree as `make build` does.
func build(source, output, path string) error {
	command := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version=bench", "-o", output, path)
	command.Dir = source
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w: %s", path, err, said)
	}
	return nil
}
