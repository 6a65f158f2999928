// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command floor is a bare operator: what the API server leaves possible at best. For each ClientIdentity it makes the
// Secret, the status and the Event that rekey makes, of the same size, with one key that it made at start and without a
// single check. One informer, twenty workers, no limit of its own on requests.
package main
