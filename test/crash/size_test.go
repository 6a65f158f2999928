// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import "github.com/rekey/rekey/test/size"

// extent is how much of the space a run covers.
type extent struct {
	every       bool // a kill at every point
	sample      int  // further kills at random points
	randomKills int  // kills at random instants
	between     int  // kills between two complete checks
}

// extentOf returns the extent for REKEY_SIZE.
func extentOf() extent {
	if size.Full() {
		return extent{every: true, sample: 45, randomKills: 55, between: 25}
	}
	return extent{sample: 19, randomKills: 5, between: 13}
}
