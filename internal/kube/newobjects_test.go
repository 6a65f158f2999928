// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/rekey/rekey/api/v1alpha1"
)

func TestAnObjectIsNewOnlyIfNoOtherProcessCanHaveReconciledIt(t *testing.T) {
	created := TrackNewObjects(nil)
	listed := &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{UID: "1"}}
	watched := &v1alpha1.ClientIdentity{ObjectMeta: metav1.ObjectMeta{UID: "2"}}
	for _, e := range []event.CreateEvent{{Object: listed, IsInInitialList: true}, {Object: watched}} {
		if !created.Created().Create(e) {
			t.Error("an event was held back")
		}
	}
	if created.Has(listed.UID) {
		t.Error("an object that existed before the start is new")
	}
	if !created.Has(watched.UID) {
		t.Error("an object that was created while this process works is not new")
	}
	if created.Forget(watched.UID); created.Has(watched.UID) {
		t.Error("an object for which something was created is new")
	}
	created.Created().Create(event.CreateEvent{Object: watched})
	if created.Created().Delete(event.DeleteEvent{Object: watched}); created.Has(watched.UID) {
		t.Error("an object that was deleted before any lookup is remembered")
	}
	var none *NewObjects
	none.Forget("1")
	if !none.Created().Create(event.CreateEvent{Object: listed}) || none.Has(listed.UID) {
		t.Error("without a memory something is new, or an event was held back")
	}
}
