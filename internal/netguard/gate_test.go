// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package netguard

import "testing"

func TestASilentAddressIsDialedByOneCallAtATime(t *testing.T) {
	var g gates
	for range 3 {
		if may, alone := g.enter("a"); !may || alone {
			t.Fatal("an address that is not known to be silent is refused")
		}
	}
	g.leave("a", false, false)
	if may, alone := g.enter("a"); !may || !alone {
		t.Fatal("a silent address is not dialed again")
	}
	if may, _ := g.enter("a"); may {
		t.Error("two attempts to reach a silent address run at once")
	}
	if may, _ := g.enter("b"); !may {
		t.Error("another address is refused")
	}
	g.leave("a", false, false) // an attempt that started before it was known
	if may, _ := g.enter("a"); may {
		t.Error("two attempts to reach a silent address run at once, after a third one gave up")
	}
	g.leave("a", true, false)
	if may, alone := g.enter("a"); !may || !alone {
		t.Error("the next attempt is refused")
	}
	g.leave("a", true, true)
	if may, alone := g.enter("a"); !may || alone {
		t.Error("an answer does not open the gate")
	}
	if len(g.silent) != 0 {
		t.Error("an address that answers is still recorded as silent")
	}
}
