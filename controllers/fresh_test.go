// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/rekey/rekey/api/v1alpha1"
)

func TestAnObjectIsFreshOnlyWhereNobodyElseCanHaveWorkedOnIt(t *testing.T) {
	f := newFresh(nil)
	listed := &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{UID: "1"}}
	watched := &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{UID: "2"}}
	for _, e := range []event.CreateEvent{{Object: listed, IsInInitialList: true}, {Object: watched}} {
		if !f.created().Create(e) {
			t.Error("an event was held back")
		}
	}
	if f.is(listed.UID) {
		t.Error("an object that was there before the work began is fresh")
	}
	if !f.is(watched.UID) {
		t.Error("an object that was created while this process works is not fresh")
	}
	if f.forget(watched.UID); f.is(watched.UID) {
		t.Error("an object that something was made for is fresh")
	}
	f.created().Create(event.CreateEvent{Object: watched})
	if f.created().Delete(event.DeleteEvent{Object: watched}); f.is(watched.UID) {
		t.Error("an object that was deleted before anybody looked at it is remembered")
	}
	var none *fresh
	none.forget("1")
	if !none.created().Create(event.CreateEvent{Object: listed}) || none.is(listed.UID) {
		t.Error("without a memory something is fresh, or an event was held back")
	}
}
