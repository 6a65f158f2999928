// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"sync"
)

// transcript keeps everything that is written to it and passes on every whole line.
type transcript struct {
	line func(string) // may be nil

	mu   sync.Mutex
	text []byte
	done int // how much of text was passed on
}

// Write implements io.Writer. Several writers may share a transcript, each with whole lines.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.text = append(t.text, p...)
	var lines []string
	for {
		end := bytes.IndexByte(t.text[t.done:], '\n')
		if end < 0 {
			break
		}
		lines = append(lines, string(t.text[t.done:t.done+end]))
		t.done += end + 1
	}
	t.mu.Unlock()
	if t.line != nil {
		for _, line := range lines {
			t.line(line)
		}
	}
	return len(p), nil
}

// String returns everything so far.
func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// tail returns the last lines.
func (t *transcript) tail(most int) []string {
	lines := strings.Split(strings.TrimRight(t.String(), "\n"), "\n")
	return lines[max(0, len(lines)-most):]
}

// last returns the last line.
func (t *transcript) last() string { return t.tail(1)[0] }
