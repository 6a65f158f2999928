// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package access handles permissions that the operator needs and the API server's RBAC refuses.
//
//   - Missing determines from an error which permission was refused, and Failed reports it in the same words everywhere: the verb,
//     the resource, the namespace, and the manifest that grants it.
//   - Rights remembers what was refused, exports it as a metric, and wakes the waiting objects when it is granted again.
//   - Its informers fill the caches without the objects that may not be listed: one namespace never blocks another.
package access
