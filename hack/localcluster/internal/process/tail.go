// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"strings"
)

// Tail returns the last lines of a log, indented, for an error message.
func Tail(file string, lines int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Sprintf("  (no log: %v)", err)
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return fmt.Sprintf("  last lines of %s:\n  | %s", file, strings.Join(all, "\n  | "))
}
