// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
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
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/secretstore"
)

// keyPairAge is how long a key pair is used before it is read again. Its Secret cannot be watched.
const keyPairAge = 30 * time.Second

// keyPairPatience is how long a reconcile waits for the API server to return a key pair.
const keyPairPatience = 20 * time.Second

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

// authorities finds the authority of an identity. It caches parsed key pairs: each is read and parsed once for many identities.
type authorities struct {
	reader, live      client.Reader
	keyPairs          issuer.KeyPairs
	clock             clock.PassiveClock
	operatorNamespace string
	cluster           *kube.ClusterID
	// started is when this process started: what it has to create may not exist yet.
	started time.Time

	mu    sync.Mutex
	known map[authorityID]*knownAuthority
}

// knownAuthority caches one authority's key pair. Except answers, only the holder of the turn may access its fields.
type knownAuthority struct {
	turn kube.Turn
	// answers counts how often the key pair was read. A caller that waited meanwhile uses that result, even if it is an error.
	answers   atomic.Int64
	version   string
	readAt    time.Time
	authority *issuer.Authority
	err       error
}

// resolve returns the authority that ref names for an object in namespace, and the version of the authority's object. An
// authority that does not exist and one that does not admit the namespace return the same error.
func (a *authorities) resolve(ctx context.Context, ref v1alpha1.AuthorityReference, namespace string) (*issuer.Authority, string, error) {
	object, err := a.find(ctx, ref, namespace)
	if err != nil {
		return nil, "", err
	}
	version := string(object.object.GetUID()) + "/" + object.object.GetResourceVersion()
	authority, err := a.load(ctx, object)
	if err == nil {
		err = authority.Check(ctx, a.clock.Now().UTC())
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
	err := a.reader.Get(ctx, client.ObjectKey{Namespace: id.namespace, Name: id.name}, object)
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
	if err := a.reader.Get(ctx, client.ObjectKey{Name: namespace}, &object); err != nil {
		return false, refusal.Fault("reading namespace "+namespace, err, nil)
	}
	return parsed.Matches(labels.Set(object.Labels)), nil
}

// load returns the parsed authority, from memory if it was read recently.
func (a *authorities) load(ctx context.Context, object authorityObject) (*issuer.Authority, error) {
	if err := namesSecret(object); err != nil {
		return nil, err
	}
	if object.spec.Managed != nil {
		if _, err := a.owner(ctx, object); err != nil {
			return nil, err // not cached: it can be read again at any time
		}
	}
	known := a.entry(object.id)
	before := known.answers.Load()
	if err := known.turn.Take(ctx); err != nil {
		return nil, fault.Transient(fault.APIServerFailed, fmt.Errorf("waiting for its key pair: %w", err))
	}
	defer known.turn.Give()
	now := a.clock.Now()
	version := fmt.Sprintf("%s/%d", object.object.GetUID(), object.object.GetGeneration())
	age := now.Sub(known.readAt)
	settled := known.answers.Load() != before || known.authority != nil ||
		fault.Classify(known.err) == fault.ClassPermanent || fault.Classify(known.err) == fault.ClassBlocked
	if settled && known.version == version && age >= 0 && age < keyPairAge {
		return known.authority, known.err
	}
	asking, cancel := context.WithTimeout(ctx, keyPairPatience)
	defer cancel()
	authority, err := a.read(asking, object)
	if err != nil && ctx.Err() != nil { // the reconcile has ended, which says nothing about the key pair
		return nil, err
	}
	known.authority, known.err = authority, err
	known.version, known.readAt = version, now
	known.answers.Add(1)
	return authority, err
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

// forget makes the next load read the key pair again.
func (a *authorities) forget(id authorityID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, id)
}

// read reads the key pair live and parses it.
func (a *authorities) read(ctx context.Context, object authorityObject) (*issuer.Authority, error) {
	crt, key, anchors, err := a.keyPair(ctx, object)
	if err != nil {
		return nil, err
	}
	return a.keyPairs.Parse(crt, key.Reveal(), anchors, constraintsOf(object.spec.Constraints), a.clock.Now().UTC())
}

func (a *authorities) keyPair(ctx context.Context, object authorityObject) (crt []byte, key credential.Sensitive, anchors []byte, err error) {
	at := a.secretKey(object)
	if object.spec.KeyPair != nil {
		// Trust anchors above the chain are optional. All three values come from one state of the Secret. Invalid anchors are an
		// error; they do not count as absent.
		pair, err := secretstore.ReadSourceValues(ctx, a.live, at.Namespace, at.Name,
			secretstore.SourceValue{Key: credential.KeyCertificate, MaxBytes: pki.MaxCertificateBytes},
			secretstore.SourceValue{Key: credential.KeyPrivateKey},
			secretstore.SourceValue{Key: credential.KeyAuthority, MaxBytes: pki.MaxCertificateBytes, Optional: true})
		if err != nil {
			return nil, key, nil, err
		}
		return pair[credential.KeyCertificate].Reveal(), pair[credential.KeyPrivateKey], pair[credential.KeyAuthority].Reveal(), nil
	}
	secret, err := a.managedSecret(ctx, object)
	if err != nil {
		return nil, key, nil, err
	}
	if secret != nil {
		if err := a.compareRecord(ctx, object, secret); err != nil {
			return nil, key, nil, err
		}
	}
	if young := min(a.clock.Since(object.object.GetCreationTimestamp().Time), a.clock.Since(a.started)) < keyPairAge; secret == nil && young {
		return nil, key, nil, fault.Pending(time.Second, fmt.Errorf("its key pair is being made"))
	}
	if secret == nil {
		return nil, key, nil, fault.Blocked(fault.SecretNotFound, fmt.Errorf("its key pair Secret %s does not exist", at))
	}
	return secret.Data[credential.KeyCertificate], credential.NewSensitive(secret.Data[credential.KeyPrivateKey]), nil, nil
}

// managedSecret reads the Secret of a managed authority live; nil if it does not exist. A Secret that does not belong to the
// authority is an error, and nothing in it is used.
func (a *authorities) managedSecret(ctx context.Context, object authorityObject) (*corev1.Secret, error) {
	at := a.secretKey(object)
	var secret corev1.Secret
	err := a.live.Get(ctx, at, &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // no Secret and no error: it does not exist
	}
	if err != nil {
		return nil, refusal.Fault(fmt.Sprintf("reading Secret %s", at), err, nil)
	}
	if err := a.checkOwner(ctx, object, &secret); err != nil {
		return nil, err
	}
	return &secret, nil
}

// namesSecret returns an error if the spec names no Secret, as in objects that were stored before managed and keyPair had secretName.
func namesSecret(object authorityObject) error {
	if object.spec.SecretName() != "" {
		return nil
	}
	block := "managed"
	if object.spec.KeyPair != nil {
		block = "keyPair"
	}
	return fault.Permanent(fault.AuthorityInvalid, fmt.Errorf(
		"spec.%s has no secretName: set it to the name of the Secret that holds the key pair of this authority", block))
}

func (a *authorities) secretKey(object authorityObject) client.ObjectKey {
	namespace := object.id.namespace
	if object.id.kind == v1alpha1.AuthorityKindCluster {
		namespace = a.operatorNamespace
	}
	return client.ObjectKey{Namespace: namespace, Name: string(object.spec.SecretName())}
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
