// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// formerOf returns the owner from which a user lets the object take over; empty if the object is being deleted.
func formerOf(object client.Object, namespace string) string {
	if !object.GetDeletionTimestamp().IsZero() {
		return ""
	}
	return secretstore.FormerOwner(object.GetAnnotations()[v1alpha1.AnnotationTakeOverFrom], namespace, object.GetName())
}

// formerGone returns an error unless the object of this kind that former names, as cluster/namespace/name, is gone. Only
// objects of this cluster can be looked up.
func formerGone(ctx context.Context, live client.Reader, kind, cluster, former string) error {
	parts := strings.SplitN(former, "/", 3)
	if len(parts) < 3 || parts[0] != cluster || strings.Contains(parts[2], "/") {
		return nil // it is in another cluster, or no object can have this name
	}
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	key := client.ObjectKey{Namespace: parts[1], Name: parts[2]}
	err := live.Get(ctx, key, object)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return refusal.Fault(fmt.Sprintf("reading %s %s, which must no longer exist before anything is taken over from it", kind, key), err, nil)
	}
	what, instead := "what it owns stays with it", "delete the copied Secret"
	if kind == kindDatabaseCredential {
		what, instead = "its logins stay with it", "choose another username in a new object"
	}
	return fault.Permanent(fault.Fenced, fmt.Errorf(
		"%s %s still exists in this cluster, so %s: delete it first (with deletionPolicy Retain nothing else is deleted), or remove the annotation %s and %s",
		kind, key, what, v1alpha1.AnnotationTakeOverFrom, instead))
}

// handedOver returns the owner, without its former owner if that one still exists: a private key in two places is a conflict,
// even with the annotation.
func handedOver(ctx context.Context, live client.Reader, owner secretstore.Owner) secretstore.Owner {
	if owner.Former == "" {
		return owner
	}
	if err := formerGone(ctx, live, owner.GVK.Kind, owner.Cluster, owner.Former); err != nil {
		owner.Former, owner.Held = "", err.Error()
	}
	return owner
}

// ownerFor returns the object as an owner of Secrets in namespace.
func ownerFor(kind string, object client.Object, cluster, namespace string) secretstore.Owner {
	return secretstore.Owner{
		GVK: v1alpha1.GroupVersion.WithKind(kind), Name: object.GetName(), UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
		Cluster: cluster, Namespace: namespace, Former: formerOf(object, namespace),
	}
}

// holdUnowned prevents anything from being created or changed while the UID of the cluster cannot be read. unowned is the
// reason; nil if it can be read.
func holdUnowned(s lifecycle.Credential, unowned error) lifecycle.Credential {
	if unowned == nil {
		return s
	}
	s.Unowned = unowned
	unmet := unmetOf(unowned)
	unmet.Brake = true
	s.Preconditions = append([]rotation.Unmet{unmet}, s.Preconditions...)
	return s
}
