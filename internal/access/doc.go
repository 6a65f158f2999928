// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package access is about rights that the operator needs and that the API server's RBAC refuses.
//
//   - Missing reads from an error which right was refused, and Failed says it in the same words everywhere: the verb, the
//     resource, the namespace, and the manifest that grants it.
//   - Rights remembers what was refused, shows it as a metric, and wakes whoever waits when it is granted again.
//   - Its informers fill the caches without what may not be listed: one namespace never stops another.
package access
