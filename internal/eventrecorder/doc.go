// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package eventrecorder writes Events (events.k8s.io/v1). It replaces client-go's recorder for two reasons. client-go's recorder
// aggregates Events that differ only in their note, so a second cause shows up under the first one's text for minutes; here the
// note counts. It also keeps every Event for minutes, which dominates the memory of thousands of objects issued at once; this
// package remembers a few hundred.
//
// The Events of one object are written one after the other, in the order in which they were recorded.
package eventrecorder
