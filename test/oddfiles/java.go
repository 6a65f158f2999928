// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"bufio"
	"bytes"
	_ "embed" // The judge's program.
	"encoding/base64"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed Judge.java
var judgeProgram []byte

// Java is one virtual machine that answers questions until the test ends.
type Java struct {
	mu  sync.Mutex
	in  io.WriteCloser
	out *bufio.Reader
	// said is its error output.
	said *bytes.Buffer
}

// StartJava starts it. The JDK compiles the program itself, from one file.
func StartJava(tb testing.TB) *Java {
	tb.Helper()
	path, err := exec.LookPath("java")
	if err != nil {
		tb.Fatal("the command java was not found; run hack/install-deps.sh java")
	}
	file := filepath.Join(tb.TempDir(), "Judge.java")
	if err := os.WriteFile(file, judgeProgram, 0o600); err != nil {
		tb.Fatal(err)
	}
	command := exec.CommandContext(tb.Context(), path, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m", file)
	j := &Java{said: &bytes.Buffer{}}
	command.Stderr = j.said
	if j.in, err = command.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	j.out = bufio.NewReader(out)
	if err := command.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = j.in.Close()
		_ = command.Wait()
	})
	return j
}

// ask sends one question, and waits for its answer.
func (j *Java) ask(tb testing.TB, words ...string) error {
	tb.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := io.WriteString(j.in, strings.Join(words, " ")+"\n"); err != nil {
		tb.Fatalf("asking Java: %v: %s", err, j.said)
	}
	answer, err := j.out.ReadString('\n')
	if err != nil {
		tb.Fatalf("Java has exited: %v: %s", err, j.said)
	}
	if answer = strings.TrimSpace(answer); answer != "yes" {
		return errors.New(answer)
	}
	return nil
}

func millis(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }

func encoded(data []byte) string {
	if len(data) == 0 {
		return "-"
	}
	return base64.StdEncoding.EncodeToString(data)
}
