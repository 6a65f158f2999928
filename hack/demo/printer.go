// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Escape codes for colors.
const (
	plain  = ""
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	reset  = "\x1b[0m"
	wipe   = "\r\x1b[K" // clears the line
)

const (
	stamp = "15:04:05Z"
	// progressInterval is how long a step may print nothing if the output is not a terminal.
	progressInterval = 20 * time.Second
	// terminalWidth is the maximum length of a line that is overwritten.
	terminalWidth = 110
)

// printer prints the steps and the story. It keeps what it printed, so that it can be searched for secrets too.
type printer struct {
	to       io.Writer
	terminal bool

	mu    sync.Mutex
	wrote transcript
}

// newPrinter returns a printer for the file, with colors if it is a terminal and NO_COLOR is not set.
func newPrinter(file *os.File) *printer {
	info, err := file.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return &printer{to: file, terminal: terminal}
}

// printf prints one line.
func (p *printer) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf(format, args...) + "\n"
	_, _ = p.wrote.Write([]byte(line)) // it never fails
	if p.terminal {
		line = wipe + line // a step may be shown there
	}
	_, _ = io.WriteString(p.to, line) // nothing can report that standard output is closed
}

func (p *printer) paint(color, text string) string {
	if !p.terminal || color == plain {
		return text
	}
	return color + text + reset
}

// heading starts a part.
func (p *printer) heading(text string) { p.printf("\n%s\n", p.paint(bold, text)) }

// colors of the kinds of lines.
var colors = map[string]string{
	"issued": green, "verified": green, "rotated": green, "mounted": green, "accepted": green, "refused": green,
	"warned": yellow, "expired": yellow, "restart": bold, "calls": faint, "broken": red,
}

// tellf prints one line of the story: when, what kind, which object, what.
func (p *printer) tellf(at time.Time, kind, whose, format string, args ...any) {
	p.printf("%s  %s  %-30s  %s", at.UTC().Format(stamp), p.paint(colors[kind], fmt.Sprintf("%-8s", kind)), whose, fmt.Sprintf(format, args...))
}

// step runs one step and shows its progress: the last line that the step writes to the transcript.
func (p *printer) step(number, total int, name string, run func(progress *transcript) error) error {
	progress := &transcript{}
	label := fmt.Sprintf("[%d/%d] %s", number, total, name)
	started := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- run(progress) }()
	beat := progressInterval
	if p.terminal {
		beat = 200 * time.Millisecond
	}
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			mark, color := "done", green
			if err != nil {
				mark, color = "failed", red
			}
			p.printf("%-58s %s %7s", label, p.paint(color, mark), elapsed(started))
			return err
		case <-tick.C:
			p.beat(label, started, progress.last())
		}
	}
}

// beat shows that a step is still running: it overwrites the line on a terminal, and prints a new one elsewhere.
func (p *printer) beat(label string, started time.Time, saying string) {
	if !p.terminal {
		p.printf("%-58s still running after %s  %s", label, elapsed(started), saying)
		return
	}
	line := fmt.Sprintf("%-58s %12s  %s", label, elapsed(started), strings.TrimSpace(saying))
	if len(line) > terminalWidth {
		line = line[:terminalWidth]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = io.WriteString(p.to, wipe+line)
}

func elapsed(since time.Time) string { return fmt.Sprintf("%.1f s", time.Since(since).Seconds()) }
