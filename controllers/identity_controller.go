// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/certificate"
	"github.com/rekey/rekey/internal/keystore"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// identityReconciler reconciles the identities of one kind.
type identityReconciler struct {
	shared
	kind      string
	newObject func() v1alpha1.IdentityObject
}

// identityObject is an identity of either kind with its spec, status and usages.
type identityObject struct {
	object v1alpha1.IdentityObject
	kind   string
	spec   *v1alpha1.IdentitySpec
	status *v1alpha1.IdentityStatus
	usages []v1alpha1.Usage
	// keystores adds the keystores to the Secret; nil if the spec requires none.
	keystores *secretstore.Keystores
}

// maxSerial is the longest serial number that fits the status, in digits. Those that rekey issues have 32. One in an adopted
// Secret may have any length: if it is too long it is omitted, because the API server would reject the whole status.
const maxSerial = 64

func partsOfIdentity(kind string, object v1alpha1.IdentityObject) identityObject {
	return identityObject{object: object, kind: kind, spec: object.GetIdentitySpec(), status: object.GetIdentityStatus(), usages: object.GetUsages()}
}

// Reconcile implements reconcile.Reconciler.
func (r *identityReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := r.newObject()
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, gone(err, func() {
			r.names.forgetUID(r.driver.Attempts, object, request)
			r.secrets.Release(nameOf(object, request))
		})
	}
	r.names.noteUID(r.driver.Attempts, object, request)
	parts := partsOfIdentity(r.kind, object)
	before, ok := object.DeepCopyObject().(v1alpha1.Object)
	if !ok {
		return ctrl.Result{}, fmt.Errorf("copying a %T: not an object", object)
	}
	if !object.GetDeletionTimestamp().IsZero() {
		// The Secret has an owner reference with Delete and none with Retain: nothing is left to do.
		r.driver.Attempts.Forget(string(object.GetUID()))
		return ctrl.Result{}, nil
	}
	parts.keystores = r.keystores(ctx, object.GetNamespace(), parts.spec)
	outcome := r.drive(ctx, r.resolve(ctx, parts))
	if outcome.Conflict || outcome.Snapshot.Ledger.Current != nil {
		r.newObjects.Forget(object.GetUID())
	}
	r.count(parts.kind, outcome)
	return r.report(ctx, before, object, r.describe(parts, outcome))
}

func (r *identityReconciler) now() time.Time { return r.clock.Now().UTC() }

// resolve turns spec, policy and authority into plain values and a Source.
func (r *identityReconciler) resolve(ctx context.Context, parts identityObject) lifecycle.Credential {
	meta := parts.object
	cluster, unowned := r.cluster.Get(ctx)
	subject := lifecycle.Credential{
		Kind:   parts.kind,
		Ref:    credential.Ref{Cluster: cluster, Namespace: meta.GetNamespace(), Name: meta.GetName()},
		UID:    string(meta.GetUID()),
		Rotate: tokenOf(meta, v1alpha1.AnnotationRotate),
	}
	subject = holdUnowned(subject, unowned)
	wanted, err := wantedIdentity(parts)
	if err != nil {
		subject.Preconditions = append(subject.Preconditions, unmetOf(err))
	}
	policy, err := resolvePolicy(ctx, r.client, meta.GetNamespace(), parts.spec.RotationPolicyRef)
	if err != nil {
		// A certificate carries its own due date.
		unmet := unmetOf(err)
		unmet.FirstOnly = true
		subject.Preconditions = append(subject.Preconditions, unmet)
	}
	subject.Policy = certificatePolicy(policy.Policy, parts.spec)
	subject.Suspended = parts.spec.Suspend || policy.suspended
	authority, version, err := r.authorities.resolve(ctx, parts.spec.AuthorityRef, meta.GetNamespace())
	if err != nil {
		subject.Preconditions = append(subject.Preconditions, unmetOf(err))
		subject.SourceErr = err
	} else {
		wanted = certificate.Require(wanted, authority)
		subject.Source = &certificate.Source{Authority: authority, Wanted: wanted, UID: subject.UID, Now: r.now}
	}
	subject.Preconditions = append(subject.Preconditions, waitsForPassword(parts.keystores)...)
	recorded := r.hasCandidate(ctx, parts)
	subject.Traits = certificate.TraitsOf(authority, recorded)
	subject.Fingerprint = wanted.Fingerprint()
	subject.InputHash = fmt.Sprint(meta.GetGeneration(), policy.version, version, r.rights.Returns(meta.GetNamespace()))
	isNew := r.newObjects.Has(meta.GetUID())
	if !isNew || subject.Traits.Durable {
		subject.Unchanged = func(ctx context.Context) error { return r.unchanged(ctx, meta, r.newObject()) }
	}
	subject.Store = r.store(ctx, parts, wanted, authority, subject, isNew, recorded)
	return subject
}

// hasCandidate reports whether a candidate of the identity is recorded, as far as the cache shows.
func (r *identityReconciler) hasCandidate(ctx context.Context, parts identityObject) bool {
	key := client.ObjectKey{Namespace: parts.object.GetNamespace(), Name: secretstore.LedgerName(parts.kind, parts.object.GetName())}
	var secret corev1.Secret
	if r.client.Get(ctx, key, &secret) != nil || secret.Type != v1alpha1.SecretTypeLedger {
		return false
	}
	kind, name, _ := secretstore.OwnerOf(&secret)
	return kind == parts.kind && name == parts.object.GetName()
}

// wantedIdentity returns what the spec requires of a certificate, except the authority.
func wantedIdentity(parts identityObject) (pki.Identity, error) {
	spec := parts.spec
	out := pki.Identity{KeyAlgorithm: pki.KeyAlgorithm(spec.KeyAlgorithm), Lifetime: spec.Lifetime.Duration, Habits: pki.Habits{Backdate: pki.Backdate}}
	for _, usage := range parts.usages {
		out.Usages = append(out.Usages, pki.Usage(usage))
	}
	names, err := pki.ParseNames(spec.CommonName, texts(spec.Organizations), texts(spec.DNSNames), texts(spec.URIs),
		texts(spec.IPAddresses), texts(spec.EmailAddresses))
	if err != nil {
		return out, err
	}
	out.Names = names
	return out, nil
}

// certificatePolicy adds the identity's own settings. A certificate has its own deadline, and no overlap to wait for.
func certificatePolicy(policy rotation.Policy, spec *v1alpha1.IdentitySpec) rotation.Policy {
	policy.MaxAge, policy.Overlap = 0, 0
	policy.RenewBefore = spec.Lifetime.Duration / renewShare
	if spec.RenewBefore != nil {
		policy.RenewBefore = spec.RenewBefore.Duration
	}
	return policy
}

func (r *identityReconciler) store(ctx context.Context, parts identityObject, wanted pki.Identity, authority *issuer.Authority, subject lifecycle.Credential, isNew, recorded bool) lifecycle.Store {
	labels, annotations := templateOf(parts.spec.SecretTemplate)
	formats := make([]pki.Format, 0, len(parts.spec.Formats))
	for _, format := range parts.spec.Formats {
		formats = append(formats, pki.Format(format))
	}
	secrets := r.secrets.Client(nameOf(parts.object, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(parts.object)}), r.client, r.live)
	var reader client.Reader = secrets
	if parts.keystores != nil {
		reader = r.live // the cache holds neither keystores nor the private key that their seal needs
	}
	var candidates client.Client
	if subject.Traits.Durable || recorded { // one of an asynchronous authority that the identity had before has to be settled
		candidates = r.client
	}
	return secretstore.NewPublished(secretstore.PublishedOptions{
		Options: secretstore.Options{
			Client: secrets, Live: r.live,
			Owner:          handedOver(ctx, r.live, ownerFor(parts.kind, parts.object, subject.Ref.Cluster, parts.object.GetNamespace())),
			DeletionPolicy: parts.spec.DeletionPolicy, Namespace: parts.object.GetNamespace(),
			SecretName: string(parts.spec.SecretName), SecretType: corev1.SecretTypeTLS,
			Labels: labels, Annotations: annotations,
			DataKeys: secretKeys(parts.spec), Keystores: parts.keystores,
			Present: func(ctx context.Context) error { return r.present(ctx, parts.object, r.newObject()) },
			Data: func(current secretstore.Record) (map[string][]byte, error) {
				return pki.TLSSecretData(certificate.Refreshed(current.Material, authority, r.now()), formats), nil
			},
		},
		Reader:      reader,
		Candidates:  candidates,
		Fresh:       isNew,
		RecordIssue: certificate.RecordsIssue(authority) || subject.Traits.Durable, // including a candidate whose authority is missing
		Parse: func(m credential.Material, issued time.Time) (rotation.Version, error) {
			published, err := certificate.Read(m, wanted, authority, issued, r.now())
			return rotation.Version{
				ProposedAt: published.IssuedAt, CommittedAt: published.IssuedAt, NotAfter: published.NotAfter, Fingerprint: published.Fingerprint,
			}, err
		},
	})
}

// describe returns what the reconcile found.
func (r *identityReconciler) describe(parts identityObject, outcome lifecycle.Outcome) report.Facts {
	subject := fmt.Sprintf("The certificate in Secret %s/%s", parts.object.GetNamespace(), parts.spec.SecretName)
	found := factsOf(subject, outcome, fault.IssuanceFailed)
	status, current := parts.status, outcome.Snapshot.Ledger.Current
	published := status.SerialNumber
	status.NextAttemptTime = shownAttempt(outcome)
	if outcome.Observation.Now.IsZero() || outcome.Conflict {
		return found
	}
	status.RenewalTime = timeRef(outcome.Health.Due)
	if current == nil {
		status.Revision, status.SerialNumber, status.SHA256 = 0, "", ""
		status.NotBefore, status.NotAfter, status.Binding = nil, nil, nil
		return found
	}
	if found.Ready == metav1.ConditionTrue && !certificate.Verifies(current.Material, outcome.Observation.Now) {
		found.Ready, found.Reason = metav1.ConditionFalse, v1alpha1.ReasonCertificateInvalid
		found.Message = fmt.Sprintf("%s does not verify: no path leads from it to a certificate in ca.crt beside it. It is reissued as soon as nothing prevents it.", subject)
	}
	status.Revision = current.Seq
	status.Binding = &v1alpha1.Binding{Name: parts.spec.SecretName}
	if leaf := certificate.Leaf(current.Material); leaf != nil {
		status.SerialNumber, status.SHA256 = pki.SerialNumber(leaf.SerialNumber), pki.SHA256(leaf)
		if len(status.SerialNumber) > maxSerial {
			status.SerialNumber = ""
		}
		status.NotBefore, status.NotAfter = timeRef(leaf.NotBefore), timeRef(leaf.NotAfter)
	}
	describeKeystores(parts, outcome, &found)
	if status.SerialNumber != published && current.Seq > 0 {
		found.Events = append(found.Events, report.ExtraEvent{Reason: v1alpha1.ReasonIssued, Action: report.ActionPublish, Message: fmt.Sprintf(
			"Revision %d is published in Secret %s: serial number %s, valid until %s, due to be renewed at %s.",
			current.Seq, parts.spec.SecretName, status.SerialNumber, fault.FormatTime(current.NotAfter), fault.FormatTime(outcome.Health.Due))})
	}
	return found
}

func templateOf(template *v1alpha1.SecretTemplate) (labels, annotations map[string]string) {
	if template == nil {
		return nil, nil
	}
	annotations = plain(template.Annotations)
	// The object may have been stored before the API server rejected this annotation. The cache does not hold kubectl's copy, so
	// the Secret would differ in every reconcile.
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	return plain(template.Labels), annotations
}

func plain[V ~string](in map[string]V) map[string]string {
	out := make(map[string]string, len(in))
	for key, value := range in {
		out[key] = string(value)
	}
	return out
}

// keystores returns what adds keystores to the Secret of an identity; nil if the spec requires none. It reads the password live: that
// Secret cannot be watched.
func (r *identityReconciler) keystores(ctx context.Context, namespace string, spec *v1alpha1.IdentitySpec) *secretstore.Keystores {
	settings := keystoreSettings(spec)
	if len(settings.Formats) == 0 {
		return nil
	}
	out := &secretstore.Keystores{Keys: settings.Files()}
	password, err := r.keystorePassword(ctx, namespace, spec.Keystore)
	if err != nil {
		out.Unknown = fmt.Errorf("%s wait for their password, as does a first certificate; a published one is renewed without them: %w",
			strings.Join(out.Keys, ", "), err)
		return out
	}
	settings.Password = password
	out.Encode, out.Seal = settings.Encode, settings.Seal
	return out
}

// keystoreSettings returns what the spec requires of keystores, except the password.
func keystoreSettings(spec *v1alpha1.IdentitySpec) keystore.Settings {
	var out keystore.Settings
	for _, format := range spec.Formats {
		if of := keystore.Format(format); len(of.Files()) > 0 {
			out.Formats = append(out.Formats, of)
		}
	}
	if spec.Keystore != nil {
		out.Alias, out.Profile = spec.Keystore.Alias, keystore.Profile(spec.Keystore.Profile)
	}
	return out
}

// keystorePassword reads the password. The errors are those of secretstore.ReadSource. An admin Secret is refused: its password would
// be as easy to guess as the weakest keystore allows.
func (r *identityReconciler) keystorePassword(ctx context.Context, namespace string, spec *v1alpha1.Keystore) (credential.Sensitive, error) {
	if spec == nil {
		return credential.Sensitive{}, fault.Permanent(fault.IdentityInvalid, errors.New("spec.keystore is missing: set spec.keystore.passwordSecretRef"))
	}
	ref := spec.PasswordSecretRef
	values, err := secretstore.ReadSourceValues(ctx, r.live, namespace, string(ref.Name),
		secretstore.SourceValue{Key: ref.Key, MaxBytes: keystore.MaxPassword}, secretstore.SourceValue{Key: secretstore.KeyHost, Optional: true})
	if err != nil {
		return credential.Sensitive{}, err
	}
	if _, admin := values[secretstore.KeyHost]; admin && ref.Key != secretstore.KeyHost {
		return credential.Sensitive{}, fault.Blocked(fault.SecretInvalid, fmt.Errorf("secret %s/%s: its key %s shows that it is the admin Secret of a server: put the password of the keystores into a Secret of its own",
			namespace, ref.Name, secretstore.KeyHost))
	}
	password := values[ref.Key]
	if err := keystore.CheckPassword(password); err != nil {
		return credential.Sensitive{}, fault.Blocked(fault.SecretInvalid, fmt.Errorf("secret %s/%s: its key %s %w", namespace, ref.Name, ref.Key, err))
	}
	return password, nil
}

// waitsForPassword returns the precondition of a first certificate that keystores have; none if there are no keystores or their
// password is known. A published certificate is renewed without them.
func waitsForPassword(keystores *secretstore.Keystores) []rotation.Unmet {
	if keystores == nil || keystores.Unknown == nil {
		return nil
	}
	unmet := unmetOf(keystores.Unknown)
	unmet.FirstOnly = true
	return []rotation.Unmet{unmet}
}

// secretKeys returns the keys that the Secret of an identity may have.
func secretKeys(spec *v1alpha1.IdentitySpec) []string {
	out := []string{credential.KeyCertificate, credential.KeyPrivateKey, credential.KeyAuthority}
	for _, format := range spec.Formats {
		out = append(out, pki.Format(format).Keys()...)
		out = append(out, keystore.Format(format).Files()...)
	}
	return out
}
