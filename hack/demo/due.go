// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// dueFields are the status fields that hold the time of a coming event.
var dueFields = [][]string{
	{"renewalTime"}, {"nextRotationTime"}, {"nextAttemptTime"}, {"notAfter"}, {"previous", "retireAfter"},
}

// Times that a status does not show, as fractions of those that it does, for an identity that is not renewed: its warnings
// (0.7 of the time between renewal and expiry, the alarm scaled as 4h to 24h) and when its renewal counts as overdue.
var (
	warned  = forgottenRenewal * 7 / 10
	alarmed = warned * 4 / 24
	overdue = 30 * time.Second
)

// nextDue returns when the operator will next have something to write; an hour from now if no time is known.
func nextDue(objects []unstructured.Unstructured, now time.Time) time.Time {
	next := now.Add(time.Hour)
	consider := func(at time.Time) {
		if at.After(now) && at.Before(next) {
			next = at
		}
	}
	for _, object := range objects {
		for _, path := range dueFields {
			at := statusTime(object, path...)
			if at.IsZero() {
				continue
			}
			consider(at)
			switch {
			case object.GetName() == forgottenName && path[0] == "notAfter":
				consider(at.Add(-warned))
				consider(at.Add(-alarmed))
			case object.GetName() == forgottenName && path[0] == "renewalTime":
				consider(at.Add(overdue))
			}
		}
	}
	return next
}

func statusTime(object unstructured.Unstructured, path ...string) time.Time {
	text, found, err := unstructured.NestedString(object.Object, append([]string{"status"}, path...)...)
	if err != nil || !found {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return at
}
