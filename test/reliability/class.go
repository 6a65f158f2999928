// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"slices"
)

// Part is a group of classes: its letter, their number, and what they have in common.
type Part struct {
	Letter string
	Count  int
	Title  string
	Intro  string
	// Row and Guard are the column headers of a class: its title, and how rekey prevents or ensures it.
	Row, Guard string
}

// Parts are all groups of classes, in the order of the page.
var Parts = []Part{
	{Letter: "R", Count: 34, Title: "What breaks", Intro: "Failures that have taken credentials down elsewhere, or could.", Row: "what goes wrong", Guard: "how rekey prevents it"},
	{Letter: "S", Count: 18, Title: "What leaks, and who gets in", Intro: "Failures that have exposed credentials elsewhere, or could.", Row: "what goes wrong", Guard: "how rekey prevents it"},
	{Letter: "T", Count: 10, Title: "What the surroundings do", Intro: "Rights that are removed, webhooks that refuse writes, namespaces that are deleted, objects that are copied, odd files and numbers, databases as administrators run them, peers that refuse a handshake. Each row sweeps a whole class of failures, not only known cases.",
		Row: "what goes wrong", Guard: "how rekey prevents it"},
	{Letter: "I", Count: 10, Title: "What holds at every moment", Intro: "Invariants. The crash matrix, the two processes in any order and the killed binary check most of them throughout, whatever else they test: [the crash matrix](development/crash-matrix.md) lists which ones, and how.",
		Row: "what holds", Guard: "how rekey ensures it"},
}

// Classes returns the names of all classes: R1 ... S1 ... T1 ... I1 ...
func Classes() []string {
	var out []string
	for _, part := range Parts {
		out = append(out, part.Classes()...)
	}
	return out
}

// Classes returns the names of the classes of one part.
func (p Part) Classes() []string {
	var out []string
	for number := range p.Count {
		out = append(out, fmt.Sprintf("%s%d", p.Letter, number+1))
	}
	return out
}

// order returns the position of a class among all, or -1.
func order(class string) int { return slices.Index(Classes(), class) }
