// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation_test

type reorder struct{}

func (*reorder) run(_ *world, _ string, apply func() error) error { return apply() }
