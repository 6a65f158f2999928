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
	// maxNameBytes of a Secret's name (Kubernetes, "Object Names and IDs": DNS subdomain).
	maxNameBytes = 253
	// nameHashDigits keep two long names apart that begin alike, and a ledger's name from being met by chance.
	nameHashDigits = 10
)

// LedgerName is the name of the Secret that holds the ledger of the object of this kind and name: "rekey-", the kind in
// lower case, the name (shortened where it must be) and a hash of both. An object that is deleted and made again finds it.
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
	// Cluster is the UID of the namespace kube-system, and Namespace where the object's Secrets are. Where either is not
	// known, it is not compared and not written.
	Cluster, Namespace string
	// Former is the owner from which a person lets this one take over, as cluster/namespace/name; empty for none.
	Former string
	// Held says why the owner that a person named keeps what it has; empty where it does not.
	Held string
	// ResourceVersion that the caller knows, from a cache that may be old.
	ResourceVersion string
}

// String is "<Kind>/<name>", as the annotations rekey.dev/owner and rekey.dev/adopt hold it.
func (o Owner) String() string { return o.GVK.Kind + "/" + o.Name }

// OwnerOf reads from a Secret which object it belongs to: for a watch that wakes the owner. An object that may take the
// Secret over (rekey.dev/adopt) is not its owner yet.
func OwnerOf(secret client.Object) (kind, name string, ok bool) {
	return strings.Cut(secret.GetAnnotations()[v1alpha1.AnnotationOwner], "/")
}

// Options say which user's Secret a store keeps, for whom, and what it holds. Every field but Labels, Annotations
// and Present is required.
type Options struct {
	// Client writes. Live reads past every cache.
	Client client.Client
	Live   client.Reader
	// Owner of the Secret. With DeletionPolicy Delete it becomes the controller of the user's Secret, so that this is
	// collected with it; with Retain there is no owner reference.
	Owner          Owner
	DeletionPolicy v1alpha1.DeletionPolicy
	// Namespace of the owner's Secrets, and the name and type of the user's.
	Namespace  string
	SecretName string
	SecretType corev1.SecretType
	// Labels and Annotations that the spec's template asks for.
	Labels, Annotations map[string]string
	// Present asks the API server whether the owner, with its UID, is there still; its error ends the Load. It is asked where
	// a Secret was written for an object with another UID: an earlier one of that name, whose Secret is taken over, or a
	// later one, because whoever loads has an old cache, and then nothing of it is his. Nil asks nothing.
	Present func(ctx context.Context) error
	// Data is what the user's Secret holds when it shows current. It copies secrets and does not parse them: Published
	// calls it with a placeholder where the private key stays out of the cache.
	Data func(current Record) (map[string][]byte, error)

	// DataKeys are the keys that Data may have: others of a Secret that is taken over are removed, and it is said before.
	DataKeys []string

	// honoured is the value of rekey.dev/rotate that was carried out last, for a Secret with a ledger: it outlives the
	// ledger there. Empty where there is none, and for a Secret without a ledger, which keeps its own.
	honoured string
	// takenOver is what was taken over last, for a Secret with a ledger: it outlives the ledger there.
	takenOver Handover
	// ledgered is true where a ledger of ours has the current version: then a copy of another's Secret that somebody put
	// in the place of the user's Secret is damage, and is repaired.
	ledgered bool
}

// present looks whether the owner is there, where one of the Secrets was written for an object with another UID.
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

// secretRef is how errors and messages name the user's Secret.
func (o Options) secretRef() string { return o.Namespace + "/" + o.SecretName }

func (o Options) secretKey() client.ObjectKey {
	return client.ObjectKey{Namespace: o.Namespace, Name: o.SecretName}
}
