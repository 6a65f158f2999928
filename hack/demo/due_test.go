// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestTheNextDueTimeIsTheEarliestThatIsStillToCome(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	at := func(seconds int) string { return now.Add(time.Duration(seconds) * time.Second).Format(time.RFC3339) }
	object := func(name string, status map[string]any) unstructured.Unstructured {
		return unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name}, "status": status}}
	}
	tests := map[string]struct {
		objects []unstructured.Unstructured
		want    time.Duration
	}{
		"nothing is due: an hour": {want: time.Hour},
		"past times do not count": {
			objects: []unstructured.Unstructured{object("a", map[string]any{"renewalTime": at(-1), "notAfter": at(90)})}, want: 90 * time.Second,
		},
		"the end of an overlap counts": {
			objects: []unstructured.Unstructured{object("a", map[string]any{"nextRotationTime": at(40), "previous": map[string]any{"retireAfter": at(20)}})},
			want:    20 * time.Second,
		},
		"the forgotten identity warns before its end": {
			objects: []unstructured.Unstructured{object(forgottenName, map[string]any{"notAfter": at(60)})}, want: 32 * time.Second,
		},
		"the forgotten identity's renewal becomes overdue": {
			objects: []unstructured.Unstructured{object(forgottenName, map[string]any{"renewalTime": at(-20), "notAfter": at(120)})}, want: 10 * time.Second,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, nextDue(tc.objects, now).Sub(now)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
