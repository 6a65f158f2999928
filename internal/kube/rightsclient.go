// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/fault"
)

// RightsClient returns a client that bypasses a cache that may not be filled: reads are live, and no write waits for a cache
// that will never show it.
func RightsClient(cached, live client.Client, rights *access.Rights, kinds Kinds) client.Client {
	return rightsClient{cached, live, rights, kinds}
}

type rightsClient struct {
	client.Client
	live   client.Client
	rights *access.Rights
	kinds  Kinds
}

func (c rightsClient) of(o client.Object) client.Client {
	if _, blind := c.rights.Blind(o, o.GetNamespace()); blind {
		return c.live
	}
	return c.Client
}

// Get implements client.Reader.
func (c rightsClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if _, blind := c.rights.Blind(o, key.Namespace); blind {
		return c.live.Get(ctx, key, o, options...)
	}
	return c.Client.Get(ctx, key, o, options...)
}

// List implements client.Reader. If listing is forbidden it returns an error, not an empty list.
func (c rightsClient) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	var asked client.ListOptions
	asked.ApplyOptions(options)
	if kind, ok := c.kinds.ofList(list); ok {
		if missing, blind := c.rights.Blind(kind.New(), asked.Namespace); blind {
			return fault.Blocked(fault.Forbidden, fmt.Errorf("listing: %s", missing.Text()))
		}
	}
	return c.Client.List(ctx, list, options...)
}

// Create implements client.Writer.
func (c rightsClient) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	return c.of(o).Create(ctx, o, options...)
}

// Update implements client.Writer.
func (c rightsClient) Update(ctx context.Context, o client.Object, options ...client.UpdateOption) error {
	return c.of(o).Update(ctx, o, options...)
}

// Delete implements client.Writer.
func (c rightsClient) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	return c.of(o).Delete(ctx, o, options...)
}

// Status implements client.StatusClient.
func (c rightsClient) Status() client.SubResourceWriter {
	return rightsStatus{c.Client.Status(), c}
}

type rightsStatus struct {
	client.SubResourceWriter
	client rightsClient
}

// Update implements client.SubResourceWriter.
func (s rightsStatus) Update(ctx context.Context, o client.Object, options ...client.SubResourceUpdateOption) error {
	return s.client.of(o).Status().Update(ctx, o, options...)
}
