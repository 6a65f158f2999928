// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"fmt"
	"slices"
)

// Part is one kind of class: its letter, how many there are, and what they have in common.
type Part struct {
	Letter string
	Count  int
	Title  string
	Intro  string
	// Row and Guard head the columns of a class: its title, and how it is seen to.
	Row, Guard string
}

// Parts are all kinds of classes, in the order of the page.
var Parts = []Part{
	{Letter: "R", Count: 29, Title: "What breaks", Intro: "What has taken credentials down elsewhere, or could.", Row: "what goes wrong", Guard: "how rekey prevents it"},
	{Letter: "S", Count: 18, Title: "What leaks, and who gets in", Intro: "What has given credentials away elsewhere, or could.", Row: "what goes wrong", Guard: "how rekey prevents it"},
	{Letter: "T", Count: 9, Title: "What others do around it", Intro: "Rights that are taken away, webhooks that refuse, namespaces that end, objects that are copied, files and numbers that are odd, databases as people run them. Each row sweeps a whole class of trouble, not only the cases that were seen.",
		Row: "what goes wrong", Guard: "how rekey prevents it"},
	{Letter: "I", Count: 10, Title: "What holds at every moment", Intro: "Invariants. The crash matrix, the two processes in any order, and the killed binary check most of them all along, whatever they are about: [the crash matrix](development/crash-matrix.md) lists which, and how.",
		Row: "what holds", Guard: "how rekey sees to it"},
}

// Classes are the names of all classes: R1 ... S1 ... T1 ... I1 ...
func Classes() []string {
	var out []string
	for _, part := range Parts {
		out = append(out, part.Classes()...)
	}
	return out
}

// Classes are the names of the classes of one part.
func (p Part) Classes() []string {
	var out []string
	for number := range p.Count {
		out = append(out, fmt.Sprintf("%s%d", p.Letter, number+1))
	}
	return out
}

// order is where a class stands among all.
func order(class string) int { return slices.Index(Classes(), class) }
