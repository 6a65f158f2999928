// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Indexes over the kinds that refer to others. Their values are what indexed gives, for what is in the namespace of the
// object, and the name alone for what belongs to the cluster.
const (
	indexAuthority        = "rekey.authority"
	indexClusterAuthority = "rekey.clusterauthority"
	indexPolicy           = "rekey.policy"
	indexServer           = "rekey.server"
)

// indexed is the value of an index for an object that is referred to by name; nothing where there is no name.
func indexed(namespace, name string) string {
	if name == "" {
		return ""
	}
	return namespace + "/" + name
}

// referrers are the kinds that refer to others.
func referrers() []client.Object {
	return []client.Object{&v1alpha1.ClientIdentity{}, &v1alpha1.ServerIdentity{}, &v1alpha1.DatabaseCredential{}}
}

// valuesOf gives, by index, what an object of the kind refers to.
func valuesOf(kind client.Object) map[string]func(client.Object) string {
	policy := func(o client.Object) string { return indexed(o.GetNamespace(), policyNamed(o)) }
	if _, login := kind.(*v1alpha1.DatabaseCredential); login {
		return map[string]func(client.Object) string{indexPolicy: policy, indexServer: func(o client.Object) string {
			return indexed(o.GetNamespace(), string(o.(*v1alpha1.DatabaseCredential).Spec.ServerRef.Name)) //nolint:forcetypeassert // indexed by type
		}}
	}
	return map[string]func(client.Object) string{
		indexAuthority: func(o client.Object) string {
			return indexed(o.GetNamespace(), authorityNamed(v1alpha1.AuthorityKindNamespaced)(o))
		},
		indexClusterAuthority: authorityNamed(v1alpha1.AuthorityKindCluster), indexPolicy: policy,
	}
}

func namesPolicy(o client.Object) []string {
	if name := policyNamed(o); name != "" {
		return []string{name}
	}
	return nil
}

// indexes find objects by what they refer to, without copying a single one: an authority may have tens of thousands of users,
// and copies of all of them at once are what a process needs the most memory for.
type indexes struct {
	cache  cache.Cache
	scheme *runtime.Scheme
}

// keeper is a cache that can be asked by index: that of all namespaces. With --namespaces there is one for each, behind
// something that cannot.
type keeper interface{ GetIndexer() toolscache.Indexer }

// addIndexes has the caches keep them. The policy's own count of its users goes through the client, which knows other indexes.
func addIndexes(ctx context.Context, caches cache.Cache) error {
	for _, kind := range referrers() {
		if err := caches.IndexField(ctx, kind, indexPolicy, namesPolicy); err != nil {
			return fmt.Errorf("adding an index of %T: %w", kind, err)
		}
		informer, err := caches.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("finding the cache of %T: %w", kind, err)
		}
		if _, ok := informer.(keeper); !ok {
			continue
		}
		if err := informer.AddIndexers(indexersOf(kind)); err != nil {
			return fmt.Errorf("adding indexes of %T: %w", kind, err)
		}
	}
	return nil
}

func indexersOf(kind client.Object) toolscache.Indexers {
	out := toolscache.Indexers{}
	for name, value := range valuesOf(kind) {
		out[name] = func(object any) ([]string, error) {
			if o, ok := object.(client.Object); ok && value(o) != "" {
				return []string{value(o)}, nil
			}
			return nil, nil
		}
	}
	return out
}

// find gives the objects of a kind that have the value in the index.
func (i indexes) find(ctx context.Context, kind client.Object, index, value string) ([]types.NamespacedName, error) {
	informer, err := i.cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, fmt.Errorf("finding the cache of %T: %w", kind, err)
	}
	one, ok := informer.(keeper)
	if !ok {
		return i.search(ctx, kind, index, value)
	}
	keys, err := one.GetIndexer().IndexKeys(index, value)
	if err != nil {
		return nil, fmt.Errorf("looking %s up in %s of %T: %w", value, index, kind, err)
	}
	out := make([]types.NamespacedName, 0, len(keys))
	for _, key := range keys {
		namespace, name, err := toolscache.SplitMetaNamespaceKey(key)
		if err != nil {
			return nil, fmt.Errorf("reading a key of the cache: %w", err)
		}
		out = append(out, types.NamespacedName{Namespace: namespace, Name: name})
	}
	return out, nil
}

// search finds them by looking at every object of the kind, in the namespace where the value has one.
func (i indexes) search(ctx context.Context, kind client.Object, index, value string) ([]types.NamespacedName, error) {
	gvk, err := apiutil.GVKForObject(kind, i.scheme)
	if err != nil {
		return nil, fmt.Errorf("finding the list of %T: %w", kind, err)
	}
	made, err := i.scheme.New(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	list, ok := made.(client.ObjectList)
	if err != nil || !ok {
		return nil, fmt.Errorf("making the list of %T: %w", kind, err)
	}
	options := []client.ListOption{client.UnsafeDisableDeepCopy}
	wanted := valuesOf(kind)[index]
	if index == toolscache.NamespaceIndex {
		wanted = client.Object.GetNamespace
	}
	if namespace, _, found := strings.Cut(value, "/"); found || index == toolscache.NamespaceIndex {
		options = append(options, client.InNamespace(namespace))
	}
	if err := i.cache.List(ctx, list, options...); err != nil {
		return nil, fmt.Errorf("listing %T: %w", kind, err)
	}
	var out []types.NamespacedName
	err = meta.EachListItem(list, func(item runtime.Object) error {
		if o, ok := item.(client.Object); ok && wanted(o) == value {
			out = append(out, client.ObjectKeyFromObject(o))
		}
		return nil
	})
	return out, err
}
