// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/fault"
)

// sightedClient goes past the cache where that may not be filled: reads are live, and nobody waits for the cache to show a
// write that it will never hear of.
type sightedClient struct {
	client.Client
	live   client.Client
	rights *access.Rights
}

func (c sightedClient) of(o client.Object) client.Client {
	if _, blind := c.rights.Blind(o, o.GetNamespace()); blind {
		return c.live
	}
	return c.Client
}

// Get implements client.Reader.
func (c sightedClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
	if _, blind := c.rights.Blind(o, key.Namespace); blind {
		return c.live.Get(ctx, key, o, options...)
	}
	return c.Client.Get(ctx, key, o, options...)
}

// List implements client.Reader. What may not be listed is not said to be nothing.
func (c sightedClient) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	var asked client.ListOptions
	asked.ApplyOptions(options)
	if one := itemOf(list); one != nil {
		if missing, blind := c.rights.Blind(one, asked.Namespace); blind {
			return fault.Blocked(fault.Forbidden, fmt.Errorf("listing: %s", missing.Text()))
		}
	}
	return c.Client.List(ctx, list, options...)
}

// itemOf is an empty object of the kind that a list holds; nil where the list is none of ours.
func itemOf(list client.ObjectList) runtime.Object {
	switch list.(type) {
	case *v1alpha1.ClientIdentityList:
		return &v1alpha1.ClientIdentity{}
	case *v1alpha1.ServerIdentityList:
		return &v1alpha1.ServerIdentity{}
	case *v1alpha1.DatabaseCredentialList:
		return &v1alpha1.DatabaseCredential{}
	}
	return nil
}

// Create implements client.Writer.
func (c sightedClient) Create(ctx context.Context, o client.Object, options ...client.CreateOption) error {
	return c.of(o).Create(ctx, o, options...)
}

// Update implements client.Writer.
func (c sightedClient) Update(ctx context.Context, o client.Object, options ...client.UpdateOption) error {
	return c.of(o).Update(ctx, o, options...)
}

// Delete implements client.Writer.
func (c sightedClient) Delete(ctx context.Context, o client.Object, options ...client.DeleteOption) error {
	return c.of(o).Delete(ctx, o, options...)
}

// Status implements client.StatusClient.
func (c sightedClient) Status() client.SubResourceWriter {
	return sightedStatus{c.Client.Status(), c}
}

type sightedStatus struct {
	client.SubResourceWriter
	client sightedClient
}

// Update implements client.SubResourceWriter.
func (s sightedStatus) Update(ctx context.Context, o client.Object, options ...client.SubResourceUpdateOption) error {
	return s.client.of(o).Status().Update(ctx, o, options...)
}

// followed are the kinds that the controller of a kind is woken by.
func followed(object client.Object) []runtime.Object {
	switch object.(type) {
	case *v1alpha1.ClientIdentity, *v1alpha1.ServerIdentity:
		return []runtime.Object{object, &corev1.Secret{}, &v1alpha1.CertificateAuthority{}, &v1alpha1.ClusterCertificateAuthority{},
			&v1alpha1.RotationPolicy{}, &corev1.Namespace{}}
	case *v1alpha1.DatabaseCredential:
		return []runtime.Object{object, &corev1.Secret{}, &v1alpha1.DatabaseServer{}, &v1alpha1.RotationPolicy{}}
	case *v1alpha1.CertificateAuthority, *v1alpha1.ClusterCertificateAuthority:
		return []runtime.Object{object, &corev1.Secret{}}
	case *v1alpha1.RotationPolicy:
		return []runtime.Object{object, &v1alpha1.ClientIdentity{}, &v1alpha1.ServerIdentity{}, &v1alpha1.DatabaseCredential{}}
	}
	return []runtime.Object{object}
}

// unfollowed says that changes are seen late, because a cache may not be filled. Everything else goes on.
func (s *shared) unfollowed(object client.Object) *trouble {
	for _, kind := range followed(object) {
		if missing, blind := s.rights.Blind(kind, object.GetNamespace()); blind {
			return &trouble{class: fault.ClassBlocked, reason: string(fault.Forbidden), message: fmt.Sprintf(
				"changes are seen late, at most five minutes afterwards: %s", missing.Text())}
		}
	}
	return nil
}
