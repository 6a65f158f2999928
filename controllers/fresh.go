// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// freshMargin makes up for whole seconds in the time of a creation.
const freshMargin = 2 * time.Second

// fresh knows the objects that were created after this process began to work. Nobody else works at that time, so a Secret of
// theirs that the cache does not show is not there, but for one of a stranger; and where one is there all the same, its
// creation is refused, and from then on it is looked up. A nil one knows none.
type fresh struct {
	clock clock.PassiveClock
	skew  func() (off time.Duration, known bool)

	once    sync.Once
	begun   time.Time
	doubted sync.Map
}

// is tells whether the object is fresh. The first call is when the work began.
func (f *fresh) is(o client.Object) bool {
	if f == nil {
		return false
	}
	f.once.Do(func() { f.begun = f.clock.Now() })
	off, known := f.skew()
	if _, doubted := f.doubted.Load(o.GetUID()); doubted || !known {
		return false
	}
	return o.GetCreationTimestamp().After(f.begun.Add(off + freshMargin))
}

// doubt looks twice at the object from now on.
func (f *fresh) doubt(uid types.UID) {
	if f != nil {
		f.doubted.Store(uid, struct{}{})
	}
}

func (f *fresh) forget(uid types.UID) {
	if f != nil {
		f.doubted.Delete(uid)
	}
}
