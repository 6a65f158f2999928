// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package netguard

import "testing"

func TestASilentAddressIsTriedByOneAtATime(t *testing.T) {
	var g gates
	for range 3 {
		if may, alone := g.enter("a"); !may || alone {
			t.Fatal("an address that nobody knows to be silent is kept from somebody")
		}
	}
	g.leave("a", false, false)
	if may, alone := g.enter("a"); !may || !alone {
		t.Fatal("a silent address is not tried again")
	}
	if may, _ := g.enter("a"); may {
		t.Error("two try a silent address at once")
	}
	if may, _ := g.enter("b"); !may {
		t.Error("another address is kept from somebody")
	}
	g.leave("a", false, false) // one that came before it was known
	if may, _ := g.enter("a"); may {
		t.Error("two try a silent address at once, after a third one gave up")
	}
	g.leave("a", true, false)
	if may, alone := g.enter("a"); !may || !alone {
		t.Error("the next one may not try")
	}
	g.leave("a", true, true)
	if may, alone := g.enter("a"); !may || alone {
		t.Error("an answer does not open the gate")
	}
	if len(g.silent) != 0 {
		t.Error("an address that answers is remembered")
	}
}
