// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/secretstore"
)

// authorityAge is how long an open authority is used before its Secret is read again. The Secret cannot be watched.
const authorityAge = 30 * time.Second

// authorityPatience is how long a reconcile waits for the API server to return the Secret of an authority, and for the authority to
// report whether it can sign.
const authorityPatience = 20 * time.Second

// authorityID names an authority of either kind.
type authorityID struct {
	kind      v1alpha1.AuthorityKind
	namespace string
	name      string
}

func (id authorityID) String() string {
	if id.namespace == "" {
		return fmt.Sprintf("%s %s", id.kind, id.name)
	}
	return fmt.Sprintf("%s %s/%s", id.kind, id.namespace, id.name)
}

// authorityObject is an authority of either kind with its spec and status.
type authorityObject struct {
	object v1alpha1.AuthorityObject
	id     authorityID
	spec   *v1alpha1.AuthoritySpec
	status *v1alpha1.AuthorityStatus
	// selector is that of the cluster-wide kind; nil selects nothing.
	selector *metav1.LabelSelector
}

func partsOfAuthority(kind v1alpha1.AuthorityKind, object v1alpha1.AuthorityObject) authorityObject {
	return authorityObject{
		object: object, id: authorityID{kind, object.GetNamespace(), object.GetName()},
		spec: object.GetAuthoritySpec(), status: object.GetAuthorityStatus(), selector: object.GetNamespaceSelector(),
	}
}

// authorities finds the authority of an identity. It caches open ones: each is read and opened once for many identities.
type authorities struct {
	cached, live      client.Client
	openers           map[v1alpha1.AuthorityType]issuer.Opener
	clock             clock.PassiveClock
	operatorNamespace string
	cluster           *kube.ClusterID
	// started is when this process started: what it has to create may not exist yet.
	started time.Time

	mu    sync.Mutex
	known map[authorityID]*knownAuthority
}

// knownAuthority caches one open authority. Except answers, only the holder of the turn may access its fields.
type knownAuthority struct {
	turn kube.Turn
	// answers counts how often the authority was opened. A caller that waited meanwhile uses that result, even if it is an error.
	answers   atomic.Int64
	version   string
	readAt    time.Time
	authority *issuer.Authority
	// unready is why the open authority cannot sign; nil if it can.
	unready error
	err     error
}

// resolve returns the authority that ref names for an object in namespace, and the version of the authority's object. An
// authority that does not exist and one that does not admit the namespace return the same error.
func (a *authorities) resolve(ctx context.Context, ref v1alpha1.AuthorityReference, namespace string) (*issuer.Authority, string, error) {
	object, err := a.find(ctx, ref, namespace)
	if err != nil {
		return nil, "", err
	}
	version := string(object.object.GetUID()) + "/" + object.object.GetResourceVersion()
	authority, unready, err := a.load(ctx, object)
	if err == nil {
		err = unready
	}
	if fault.Classify(err) == fault.ClassPending {
		return nil, version, fmt.Errorf("%s is not ready: %w", object.id, err)
	}
	if err != nil {
		return nil, version, fault.Blocked(fault.AuthorityNotReady, fmt.Errorf("%s is not ready: %w", object.id, err))
	}
	return authority, version, nil
}

func (a *authorities) find(ctx context.Context, ref v1alpha1.AuthorityReference, namespace string) (authorityObject, error) {
	id := authorityID{ref.Kind, namespace, string(ref.Name)}
	var object v1alpha1.AuthorityObject = &v1alpha1.CertificateAuthority{}
	if ref.Kind == v1alpha1.AuthorityKindCluster {
		id.namespace, object = "", &v1alpha1.ClusterCertificateAuthority{}
	}
	err := a.cached.Get(ctx, client.ObjectKey{Namespace: id.namespace, Name: id.name}, object)
	if err != nil && !apierrors.IsNotFound(err) {
		return authorityObject{}, refusal.Fault(fmt.Sprintf("reading %s", id), err, nil)
	}
	found := partsOfAuthority(ref.Kind, object)
	admitted := err == nil
	if admitted && ref.Kind == v1alpha1.AuthorityKindCluster {
		if admitted, err = a.admits(ctx, found.selector, namespace); err != nil {
			return authorityObject{}, err
		}
	}
	if admitted {
		return found, nil
	}
	if ref.Kind == v1alpha1.AuthorityKindCluster {
		return authorityObject{}, fault.Blocked(fault.AuthorityNotFound, fmt.Errorf(
			"%s not found, or its namespaceSelector does not select namespace %s: ask the owner of the authority to create it or to admit the namespace", id, namespace))
	}
	return authorityObject{}, fault.Blocked(fault.AuthorityNotFound, fmt.Errorf(
		"%s not found: create it, or change spec.authorityRef", id))
}

// admits reports whether the selector selects the namespace. A nil selector selects nothing.
func (a *authorities) admits(ctx context.Context, selector *metav1.LabelSelector, namespace string) (bool, error) {
	if selector == nil {
		return false, nil
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return false, nil //nolint:nilerr // a selector that cannot be parsed selects nothing; the authority itself reports that
	}
	var object corev1.Namespace
	if err := a.cached.Get(ctx, client.ObjectKey{Name: namespace}, &object); err != nil {
		return false, refusal.Fault("reading namespace "+namespace, err, nil)
	}
	return parsed.Matches(labels.Set(object.Labels)), nil
}

// load returns the open authority, and why it cannot sign; nil if it can. Both are from memory if the Secret was read recently: an
// issuer is asked once for many identities, and one that does not answer holds up few reconciles.
func (a *authorities) load(ctx context.Context, object authorityObject) (authority *issuer.Authority, unready, err error) {
	opener, err := a.opener(object)
	if err != nil {
		return nil, nil, err
	}
	var kept *secretstore.KeyPair
	if len(opener.Keys()) > 0 {
		if err := namesSecret(object); err != nil {
			return nil, nil, err
		}
	}
	if _, ok := opener.(issuer.Creator); ok {
		if kept, err = a.store(ctx, object); err != nil {
			return nil, nil, err // not cached: it can be read again at any time
		}
	}
	known := a.entry(object.id)
	before := known.answers.Load()
	if err := known.turn.Take(ctx); err != nil {
		return nil, nil, fault.Transient(fault.APIServerFailed, fmt.Errorf("waiting until it is opened: %w", err))
	}
	defer known.turn.Give()
	now := a.clock.Now()
	version := fmt.Sprintf("%s/%d", object.object.GetUID(), object.object.GetGeneration())
	age := now.Sub(known.readAt)
	settled := known.answers.Load() != before || known.authority != nil ||
		fault.Classify(known.err) == fault.ClassPermanent || fault.Classify(known.err) == fault.ClassBlocked
	if settled && known.version == version && age >= 0 && age < authorityAge {
		return known.authority, known.unready, known.err
	}
	asking, cancel := context.WithTimeout(ctx, authorityPatience)
	defer cancel()
	if authority, err = a.open(asking, object, opener, kept); err == nil {
		unready = authority.Check(asking, now.UTC())
	}
	if (err != nil || unready != nil) && ctx.Err() != nil { // the reconcile has ended, which says nothing about the authority
		return authority, unready, err
	}
	known.authority, known.unready, known.err = authority, unready, err
	known.version, known.readAt = version, now
	known.answers.Add(1)
	return authority, unready, err
}

func (a *authorities) entry(id authorityID) *knownAuthority {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = map[authorityID]*knownAuthority{}
	}
	if a.known[id] == nil {
		a.known[id] = &knownAuthority{turn: kube.NewTurn()}
	}
	return a.known[id]
}

// forget makes the next load open the authority again.
func (a *authorities) forget(id authorityID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, id)
}

// opener returns the Opener of the authority.
func (a *authorities) opener(object authorityObject) (issuer.Opener, error) {
	member := object.spec.Member()
	if opener := a.openers[member.Type]; opener != nil {
		return opener, nil
	}
	return nil, fault.Permanent(fault.AuthorityInvalid, fmt.Errorf("this build does not support authorities of type %q", member.Type))
}

// open reads what the authority needs live, and opens it. kept is its key pair if the opener is a Creator.
func (a *authorities) open(ctx context.Context, object authorityObject, opener issuer.Opener, kept *secretstore.KeyPair) (*issuer.Authority, error) {
	settings, err := settingsOf(object)
	if err != nil {
		return nil, err
	}
	var secret credential.Material
	if kept != nil {
		secret, err = a.created(ctx, object, kept)
	} else {
		secret, err = a.provided(ctx, object, opener)
	}
	if err != nil {
		return nil, err
	}
	return opener.Open(ctx, issuer.Config{
		Settings: settings, Secret: secret, Constraints: constraintsOf(object.spec.Constraints), Now: a.clock.Now().UTC(),
	})
}

func settingsOf(object authorityObject) ([]byte, error) {
	settings, err := json.Marshal(object.spec.Member().Settings)
	if err != nil {
		return nil, fault.Permanent(fault.AuthorityInvalid, fmt.Errorf("encoding the settings of %s: %w", object.id, err))
	}
	return settings, nil
}

// created reads what the opener, a Creator, created: a key pair, among others.
func (a *authorities) created(ctx context.Context, object authorityObject, kept *secretstore.KeyPair) (credential.Material, error) {
	secret, err := kept.Read(ctx)
	if err != nil || secret != nil {
		return secret, err
	}
	if min(a.clock.Since(object.object.GetCreationTimestamp().Time), a.clock.Since(a.started)) < authorityAge {
		return nil, fault.Pending(time.Second, fmt.Errorf("its key pair is being created"))
	}
	return nil, fault.Blocked(fault.SecretNotFound, fmt.Errorf("its key pair Secret %s does not exist", a.secretKey(object)))
}

// provided reads the values that a user provides. All of them come from one state of the Secret.
func (a *authorities) provided(ctx context.Context, object authorityObject, opener issuer.Opener) (credential.Material, error) {
	keys := opener.Keys()
	if len(keys) == 0 {
		return credential.Material{}, nil
	}
	values := make([]secretstore.SourceValue, 0, len(keys))
	for _, key := range keys {
		values = append(values, secretstore.SourceValue{Key: key.Name, MaxBytes: key.MaxBytes, Optional: key.Optional})
	}
	at := a.secretKey(object)
	return secretstore.ReadSourceValues(ctx, a.live, at.Namespace, at.Name, values...)
}

// store returns the store of the key pair that a Creator creates. It fails if the UID of the cluster is unknown: a copied key could
// not be distinguished from the authority's own.
func (a *authorities) store(ctx context.Context, object authorityObject) (*secretstore.KeyPair, error) {
	cluster, err := a.cluster.Get(ctx)
	if err != nil {
		return nil, err
	}
	at := a.secretKey(object)
	owner := ownerFor(string(object.id.kind), object.object, cluster, at.Namespace)
	resource := "clustercertificateauthorities"
	if object.id.namespace != "" {
		// A former owner of a cluster-wide authority with its kind, name and cluster is that authority itself, with the operator in
		// another namespace.
		owner, resource = handedOver(ctx, a.live, owner), "certificateauthorities"
	}
	return &secretstore.KeyPair{
		Client: a.cached, Live: a.live, Owner: owner, Scope: object.id.namespace, DeletionPolicy: object.spec.DeletionPolicy,
		Namespace: at.Namespace, Name: at.Name, Owned: func(err error) error { return access.Owned(resource, err) },
	}, nil
}

// namesSecret returns an error if the spec names no Secret although the opener needs values of one (Keys), as in objects that were
// stored before the members of the union had a secretName.
func namesSecret(object authorityObject) error {
	member := object.spec.Member()
	if member.SecretName != "" {
		return nil
	}
	return fault.Permanent(fault.AuthorityInvalid, fmt.Errorf(
		"spec.%s has no secretName: set it to the name of the Secret that this authority needs", member.Type))
}

func (a *authorities) secretKey(object authorityObject) client.ObjectKey {
	namespace := object.id.namespace
	if object.id.kind == v1alpha1.AuthorityKindCluster {
		namespace = a.operatorNamespace
	}
	return client.ObjectKey{Namespace: namespace, Name: string(object.spec.Member().SecretName)}
}

func constraintsOf(in v1alpha1.Constraints) issuer.Constraints {
	out := issuer.Constraints{
		MaxLifetime: in.MaxLifetime.Duration, CommonNames: texts(in.CommonNames), Organizations: texts(in.Organizations),
		DNSNames: texts(in.DNSNames), URIs: texts(in.URIs), IPRanges: texts(in.IPRanges), EmailDomains: texts(in.EmailDomains),
	}
	for _, usage := range in.Usages {
		out.Usages = append(out.Usages, issuer.Usage(usage))
	}
	return out
}

func texts[T ~string](in []T) []string {
	out := make([]string, 0, len(in))
	for _, text := range in {
		out = append(out, string(text))
	}
	return out
}
