// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

// NextSeq returns the number of the next version: one above every number that was ever used, so that a late transaction of a
// discarded candidate meets a newer marker and is fenced. It is never random: a repeated step uses the same number again.
func NextSeq(o Observation) int64 {
	highest := o.LastSeq
	for _, v := range []*Version{o.Pending, o.Current, o.Previous} {
		if v != nil && v.Seq > highest {
			highest = v.Seq
		}
	}
	return highest + 1
}

// NextSlot returns the slot of the next version: the one that the current version does not use.
func NextSlot(o Observation) string {
	for _, slot := range o.Traits.Slots {
		if o.Current == nil || o.Current.Slot != slot {
			return slot
		}
	}
	return ""
}
