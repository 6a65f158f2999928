// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command floor is a bare operator: the best that the API server allows. For each ClientIdentity it creates the Secret, the
// status and the Event that rekey creates, of the same size, with one key from its start and without a single check. One
// informer, twenty workers, no limit of its own on requests.
package main
