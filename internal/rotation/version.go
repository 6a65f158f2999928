// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

// NextSeq is the number of the next version: one above every number that was ever given, so that a late transaction of
// a discarded candidate meets a newer mark and is fenced. It is never random: a lost step finds the same place again.
func NextSeq(o Observation) int64 {
	highest := o.LastSeq
	for _, v := range []*Version{o.Pending, o.Current, o.Previous} {
		if v != nil && v.Seq > highest {
			highest = v.Seq
		}
	}
	return highest + 1
}

// NextSlot is the place of the next version: the one that the current version does not use.
func NextSlot(o Observation) string {
	for _, slot := range o.Traits.Slots {
		if o.Current == nil || o.Current.Slot != slot {
			return slot
		}
	}
	return ""
}
