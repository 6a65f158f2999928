// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

const (
	// maxNameBytes is the maximum length of a Secret's name (Kubernetes, "Object Names and IDs": DNS subdomain).
	maxNameBytes = 253
	// nameHashDigits distinguish two long names with the same prefix, and make a chance match with a ledger's name unlikely.
	nameHashDigits = 10
)

// LedgerName returns the name of the Secret with the ledger of the object of this kind and name: "rekey-", the kind in lower
// case, the name (shortened if necessary) and a hash of both. An object that is deleted and recreated finds it.
func LedgerName(kind, name string) string {
	sum := sha256.Sum256([]byte(kind + "/" + name))
	hash := hex.EncodeToString(sum[:])[:nameHashDigits]
	front := "rekey-" + strings.ToLower(kind) + "-" + name
	if room := maxNameBytes - len(hash) - 1; len(front) > room {
		front = front[:room]
	}
	return strings.TrimRight(front, "-.") + "-" + hash
}

// Owner is the object that a Secret belongs to.
type Owner struct {
	GVK  schema.GroupVersionKind
	Name string
	UID  types.UID
	// Cluster is the UID of the namespace kube-system, and Namespace that of the object's Secrets. If either is unknown, it is
	// neither compared nor written.
	Cluster, Namespace string
	// Former is the owner that this one may take over from at a user's request, as cluster/namespace/name; empty for none.
	Former string
	// Held explains why the former owner that the user named keeps its credential; empty if it does not.
	Held string
	// ResourceVersion is the owner's resource version that the caller knows, from a cache that may be old.
	ResourceVersion string
}

// String returns "<Kind>/<name>", the form of the annotations rekey.dev/owner and rekey.dev/adopt.
func (o Owner) String() string { return o.GVK.Kind + "/" + o.Name }

// OwnerOf returns the object that a Secret belongs to, for a watch that enqueues the owner. An object that may adopt the Secret
// (rekey.dev/adopt) is not its owner yet.
func OwnerOf(secret client.Object) (kind, name string, ok bool) {
	return strings.Cut(secret.GetAnnotations()[v1alpha1.AnnotationOwner], "/")
}

// Options describe the user's Secret that a store keeps, its owner and its contents. Every field is required, except Labels,
// Annotations, Present and Keystores.
type Options struct {
	// Client writes. Live reads past every cache.
	Client client.Client
	Live   client.Reader
	// Owner is the Secret's owner. With DeletionPolicy Delete it becomes the controller of the user's Secret, so that the
	// Secret is garbage-collected with it; with Retain there is no owner reference.
	Owner          Owner
	DeletionPolicy v1alpha1.DeletionPolicy
	// Namespace is that of the owner's Secrets; SecretName and SecretType are those of the user's Secret.
	Namespace  string
	SecretName string
	SecretType corev1.SecretType
	// Labels and Annotations are those of the spec's template.
	Labels, Annotations map[string]string
	// Present asks the API server whether the owner, with its UID, still exists; its error fails the Load. It is called if a
	// Secret was written for an object with another UID: either an earlier one of that name, whose Secret is adopted, or a
	// later one, if the caller's cache is old and the Secret is not the caller's at all. If it is nil, nothing is checked.
	Present func(ctx context.Context) error
	// Data returns the data of the user's Secret when it shows current. It copies secrets without parsing them: Published calls
	// it with a placeholder if the private key is not in the cache.
	Data func(current Record) (map[string][]byte, error)

	// Keystores are added to what Data returns; nil for none. They need the Secret as it is: its Reader must be live.
	Keystores *Keystores

	// DataKeys are the keys that Data and Keystores may return: other keys of an adopted Secret are removed, and the conflict
	// message announces that.
	DataKeys []string

	// honored is the value of rekey.dev/rotate that was carried out last, for a Secret with a ledger: there it outlives the
	// ledger. Empty if there is none, and for a Secret without a ledger, which keeps its own.
	honored string
	// takenOver is the last takeover, for a Secret with a ledger: there it outlives the ledger.
	takenOver Handover
	// ledgered is true if our ledger has the current version: then a copy of another object's Secret in place of the user's
	// Secret is damage, and is repaired.
	ledgered bool
}

// present checks that the owner exists if one of the Secrets was written for an object with another UID.
func (o Options) present(ctx context.Context, secrets ...*corev1.Secret) error {
	for _, secret := range secrets {
		if o.Present == nil || secret == nil || !o.Owner.records(secret) {
			continue
		}
		if uid := secret.Annotations[v1alpha1.AnnotationOwnerUID]; uid != string(o.Owner.UID) {
			return o.Present(ctx)
		}
	}
	return nil
}

// secretRef returns the name of the user's Secret in errors and messages.
func (o Options) secretRef() string { return o.Namespace + "/" + o.SecretName }

func (o Options) secretKey() client.ObjectKey {
	return client.ObjectKey{Namespace: o.Namespace, Name: o.SecretName}
}
