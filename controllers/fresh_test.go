// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rekey/rekey/api/v1alpha1"
)

func TestAnObjectIsFreshOnlyWhereNobodyElseCanHaveWorkedOnIt(t *testing.T) {
	begun := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	cases := map[string]struct {
		created time.Duration
		off     time.Duration
		unknown bool
		doubted bool
		want    bool
	}{
		"created before the work began":                  {created: -time.Hour},
		"created in the same second":                     {created: time.Second},
		"created afterwards":                             {created: time.Minute, want: true},
		"created afterwards by a clock that is not ours": {created: time.Minute, off: 2 * time.Minute},
		"the clock of the API server is not known":       {created: time.Minute, unknown: true},
		"its Secret was there already":                   {created: time.Minute, doubted: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := &fresh{clock: clocktesting.NewFakePassiveClock(begun), skew: func() (time.Duration, bool) { return tc.off, !tc.unknown }}
			o := &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{UID: "1", CreationTimestamp: metav1.NewTime(begun.Add(tc.created))}}
			if tc.doubted {
				f.doubt(o.UID)
			}
			if got := f.is(o); got != tc.want {
				t.Errorf("fresh is %t, want %t", got, tc.want)
			}
			f.forget(o.UID)
			if tc.doubted && !f.is(o) {
				t.Error("the doubt outlives the object")
			}
		})
	}
	var none *fresh
	none.doubt("1")
	none.forget("1")
	if none.is(&v1alpha1.ClientIdentity{}) {
		t.Error("without a memory of the beginning something is fresh")
	}
}
