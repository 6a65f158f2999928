// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/rekey/rekey/api/v1alpha1"
)

func TestOnlyOurOwnLastWriteWakesNobody(t *testing.T) {
	secret := func(version, owner string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "app-mtls", ResourceVersion: version,
			Annotations: map[string]string{v1alpha1.AnnotationOwner: owner}}}
	}
	const owner = kindClientIdentity + "/app"
	w := newOwnWrites()
	clients, servers := w.others(kindClientIdentity), w.others(kindServerIdentity)
	w.note(secret("7", owner))
	// Both kinds watch Secrets, and either may be asked first.
	if !servers.Create(event.CreateEvent{Object: secret("7", owner)}) {
		t.Error("the watch of the other kind took the event for its own")
	}
	if clients.Create(event.CreateEvent{Object: secret("7", owner)}) {
		t.Error("our own write wakes its owner")
	}
	if !clients.Update(event.UpdateEvent{ObjectOld: secret("7", owner), ObjectNew: secret("8", owner)}) {
		t.Error("somebody else's write wakes nobody")
	}
	if clients.Update(event.UpdateEvent{ObjectOld: secret("8", owner), ObjectNew: secret("8", owner)}) {
		t.Error("an update that changes nothing wakes somebody")
	}
	w.note(secret("9", owner))
	if !clients.Update(event.UpdateEvent{ObjectOld: secret("8", kindClientIdentity+"/other"), ObjectNew: secret("9", owner)}) {
		t.Error("whoever lost the Secret to us is not told")
	}
}
