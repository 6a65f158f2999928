// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// toggleSuspend is a user who repeatedly suspends and resumes rotation. The second time in a life the same Events are emitted
// again, and counted.
func (b *workload) toggleSuspend(object *v1alpha1.ClientIdentity) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, suspend := range []bool{true, false} {
			if err := merge(ctx, object, map[string]any{"spec": map[string]any{"suspend": suspend}}); err != nil {
				return err
			}
			err := await(ctx, patience, func(ctx context.Context) error {
				now := &v1alpha1.ClientIdentity{}
				if err := env.kube.Get(ctx, client.ObjectKeyFromObject(object), now); err != nil {
					return err
				}
				if meta.IsStatusConditionTrue(now.Status.Conditions, v1alpha1.ConditionSuspended) != suspend {
					return fmt.Errorf("%s does not report that its spec.suspend is %t", object.Name, suspend)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
}
