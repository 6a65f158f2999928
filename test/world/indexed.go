// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/test/fixture"
)

// policyIndex is the only index of the manager's cache that a controller queries itself. The API server has no indexes.
const policyIndex = "rekey.policy"

// listed lists as the manager's cache does, which has indexes.
func listed(ctx context.Context, c client.Client, list client.ObjectList, opts []client.ListOption) error {
	wanted := (&client.ListOptions{}).ApplyOptions(opts)
	if wanted.FieldSelector == nil {
		return c.List(ctx, list, opts...)
	}
	name, found := wanted.FieldSelector.RequiresExactMatch(policyIndex)
	if !found {
		return fmt.Errorf("listing %T by %s: the world has no such index", list, wanted.FieldSelector)
	}
	wanted.FieldSelector = nil
	if err := c.List(ctx, list, wanted); err != nil {
		return err
	}
	all, err := meta.ExtractList(list)
	if err != nil {
		return fmt.Errorf("extracting the items of a %T: %w", list, err)
	}
	var kept []runtime.Object
	for _, o := range all {
		if fixture.PolicyOf(o) == name {
			kept = append(kept, o)
		}
	}
	if err := meta.SetList(list, kept); err != nil {
		return fmt.Errorf("setting the items of a %T: %w", list, err)
	}
	return nil
}
