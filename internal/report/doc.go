// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package report turns the facts of a reconcile into conditions, status, Events, metrics and a Result, in this order.
//
// It is the only place that names a condition. Events follow from the difference between the conditions before and after, once
// the status is written, so that nothing is reported twice, even after a restart. Nothing here decides what to do next: the
// facts state when to reconcile again.
package report
