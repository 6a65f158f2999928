// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package eventlog writes Events (events.k8s.io/v1). It stands in for the recorder of client-go for two reasons. That one
// takes two Events that differ in their note alone for one, so that for minutes a second cause is shown under the words of the
// first one; here the note counts. And that one keeps every Event for minutes, which is most of what thousands of objects
// cost that are issued at once; here a few hundred are remembered.
//
// The Events of one object are written one after the other, in the order in which they were told.
package eventlog
