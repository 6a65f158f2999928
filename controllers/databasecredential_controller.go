// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/secretstore"
)

// credentialReconciler rotates database logins.
type credentialReconciler struct {
	shared
}

// Reconcile implements reconcile.Reconciler.
func (r *credentialReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := &v1alpha1.DatabaseCredential{}
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		return ctrl.Result{}, gone(err, func() { r.names.forgetUID(r.driver.Attempts, object, request) })
	}
	r.names.noteUID(r.driver.Attempts, object, request)
	deleting := !object.DeletionTimestamp.IsZero()
	if deleting && !controllerutil.ContainsFinalizer(object, v1alpha1.Finalizer) {
		r.driver.Attempts.Forget(string(object.UID))
		return ctrl.Result{}, nil
	}
	if !deleting && controllerutil.AddFinalizer(object, v1alpha1.Finalizer) {
		// Add it before anything is created that would have to be withdrawn.
		if err := r.client.Update(ctx, object); err != nil {
			controllerutil.RemoveFinalizer(object, v1alpha1.Finalizer)
			return r.unfinalized(ctx, object, err)
		}
	}
	before := object.DeepCopy()
	cluster, err := r.cluster.Get(ctx)
	login := r.resolve(ctx, object)
	if login.session != nil {
		defer login.session.Close()
	}
	if err != nil {
		// Without the UID of the cluster, nothing at the server can be identified as ours.
		login.session, login.resolveErr = nil, err
	}
	if login.shapeErr != nil && !deleting {
		return r.unshaped(ctx, before, object, login)
	}
	subject := holdUnowned(r.subject(login, cluster), err)
	outcome := r.rotate(ctx, login, subject)
	if outcome.Withdrawn {
		return ctrl.Result{}, nil
	}
	found := r.describe(ctx, login, cluster, outcome)
	if soon := r.clock.Now().Add(lifecycle.RecheckBroken); err != nil && found.WakeAt.After(soon) {
		found.WakeAt = soon // what was published may well work, but its owner has to be known soon
	}
	return r.report(ctx, before, object, found)
}

// rotate drives the login. If that proves a login that may then be shown, it drives once more.
func (r *credentialReconciler) rotate(ctx context.Context, login *databaseLogin, subject lifecycle.Credential) lifecycle.Outcome {
	proven := func(outcome lifecycle.Outcome) bool {
		current := outcome.Observation.Current
		return current != nil && r.driver.Attempts.Proven(subject.UID, current.Seq, subject.Endpoint)
	}
	outcome := r.drive(ctx, subject)
	r.count(kindDatabaseCredential, outcome)
	if !login.shown && proven(outcome) {
		login.shown = true
		before := outcome.Performed
		outcome = r.drive(ctx, subject)
		r.count(kindDatabaseCredential, outcome)
		outcome.Performed = slices.Concat(before, outcome.Performed)
	}
	return outcome
}

// unfinalized reports that the finalizer could not be added; nothing starts without it. If that needs a user's action, the
// status reports it; otherwise it is retried soon.
func (r *credentialReconciler) unfinalized(ctx context.Context, object *v1alpha1.DatabaseCredential, err error) (ctrl.Result, error) {
	failed := refusal.Fault(fmt.Sprintf("adding the finalizer %s to DatabaseCredential %s/%s", v1alpha1.Finalizer, object.Namespace, object.Name), err, nil)
	if fault.Classify(failed) != fault.ClassBlocked {
		return r.reporter.WriteFailed(ctx, "apiserver", ctrl.Result{RequeueAfter: lifecycle.RecheckBroken}, err)
	}
	return r.report(ctx, object.DeepCopy(), object, report.Facts{
		Ready: metav1.ConditionUnknown, Cause: report.NewFailure(failed, ""), ObservationFailed: true, WakeAt: r.clock.Now().Add(lifecycle.RecheckBroken),
	})
}

// unshaped reports that no server can serve what the spec requests. The ledger is not read, because it could not be interpreted,
// and what is published stays.
func (r *credentialReconciler) unshaped(ctx context.Context, before, object *v1alpha1.DatabaseCredential, login *databaseLogin) (ctrl.Result, error) {
	return r.report(ctx, before, object, report.Facts{
		Ready: metav1.ConditionFalse, Cause: report.NewFailure(login.shapeErr, ""), ObservationFailed: true, WakeAt: r.clock.Now().Add(lifecycle.RecheckHealthy),
	})
}

// release removes the finalizer.
func (r *credentialReconciler) release(ctx context.Context, object *v1alpha1.DatabaseCredential) error {
	object = object.DeepCopy()
	controllerutil.RemoveFinalizer(object, v1alpha1.Finalizer)
	err := r.client.Update(ctx, object)
	if err == nil || apierrors.IsNotFound(err) && refusal.Of(err).Kind == refusal.KindNone {
		return nil
	}
	doing := fmt.Sprintf("removing the finalizer %s of DatabaseCredential %s/%s", v1alpha1.Finalizer, object.Namespace, object.Name)
	if err = refusal.Fault(doing, err, nil); apierrors.IsConflict(err) {
		return lifecycle.Conflict(err)
	}
	return err
}

// namespaceEnds reports whether err is a right that is missing because the namespace is being deleted. It reads live.
func (s *shared) namespaceEnds(ctx context.Context, name string, err error) bool {
	if refusal.Of(err).Kind != refusal.KindForbidden {
		return false
	}
	var namespace corev1.Namespace
	return s.live.Get(ctx, client.ObjectKey{Name: name}, &namespace) == nil && !namespace.DeletionTimestamp.IsZero()
}

func (r *credentialReconciler) ref(object *v1alpha1.DatabaseCredential, cluster string) credential.Ref {
	return credential.Ref{Cluster: cluster, Namespace: object.Namespace, Name: object.Name}
}

// subject converts what was resolved into the driver's input.
func (r *credentialReconciler) subject(login *databaseLogin, cluster string) lifecycle.Credential {
	object, spec := login.object, login.object.Spec
	out := lifecycle.Credential{
		Kind: kindDatabaseCredential, Ref: r.ref(object, cluster), UID: string(object.UID), Policy: login.policy.Policy, Traits: login.shape.Traits,
		TraitsUnknown: login.shapeErr != nil,
		Fingerprint:   passwordFingerprint(spec.Password),
		Rotate:        tokenOf(object, v1alpha1.AnnotationRotate), RetirePrevious: tokenOf(object, v1alpha1.AnnotationRetirePrevious),
		Deleting: !object.DeletionTimestamp.IsZero(), Delete: spec.DeletionPolicy == v1alpha1.DeletionDelete,
		Suspended:        spec.Suspend || login.policy.suspended,
		WithdrawDeadline: withdrawDeadline(object.DeletionTimestamp),
		Served:           object.Status.Revision > 0 || object.Status.LastRotationTime != nil,
		InputHash:        fmt.Sprint(object.Generation, login.policy.version, login.digest, r.rights.Returns(object.Namespace)),
		SourceErr:        login.resolveErr,
		Endpoint:         login.endpoint(),
	}
	if !out.Deleting {
		out.Former = formerOf(object, object.Namespace)
		out.InputHash += "/" + out.Former
		out.FormerGone = func(ctx context.Context, former string) error {
			return formerGone(ctx, r.live, kindDatabaseCredential, cluster, former)
		}
	}
	if ledger := secretstore.LedgerName(kindDatabaseCredential, object.Name); string(spec.SecretName) == ledger {
		out.Preconditions = append(out.Preconditions, unmetOf(fault.Permanent(fault.SecretConflict, fmt.Errorf(
			"spec.secretName %s is the name of the ledger of this object: choose another secretName in a new object", ledger))))
	}
	if login.policyErr != nil {
		// It is unknown whether the policy suspends, so nothing is retired or repaired while it is missing.
		unmet := unmetOf(login.policyErr)
		unmet.Brake = true
		out.Preconditions = append(out.Preconditions, unmet)
	}
	if login.resolveErr != nil {
		out.Preconditions = append(out.Preconditions, unmetOf(login.resolveErr))
	}
	if login.session != nil {
		out.Source = login.session
	}
	out.Unchanged = func(ctx context.Context) error { return r.unchanged(ctx, object, &v1alpha1.DatabaseCredential{}) }
	out.NamespaceEnds = func(ctx context.Context, err error) bool { return r.namespaceEnds(ctx, object.Namespace, err) }
	out.ReportRemains = func(ctx context.Context, left lifecycle.Remains) error { return r.reportRemains(ctx, login, left) }
	out.Release = func(ctx context.Context) error { return r.release(ctx, object) }
	out.Store = r.store(login, out)
	return out
}

func (r *credentialReconciler) store(login *databaseLogin, subject lifecycle.Credential) lifecycle.Store {
	object := login.object
	labels, annotations := templateOf(object.Spec.SecretTemplate)
	options := secretstore.LedgeredOptions{
		Options: secretstore.Options{
			Client: kube.WithoutReadYourWrites(r.client), Live: r.live, // all of its Secrets are read live
			Owner:          ownerFor(kindDatabaseCredential, object, subject.Ref.Cluster, object.Namespace),
			DeletionPolicy: object.Spec.DeletionPolicy, Namespace: object.Namespace,
			SecretName: string(object.Spec.SecretName), SecretType: corev1.SecretType(login.shape.SecretType),
			Labels: labels, Annotations: annotations,
			DataKeys: login.shape.DataKeys,
			Present:  func(ctx context.Context) error { return r.present(ctx, object, &v1alpha1.DatabaseCredential{}) },
			Data: func(current secretstore.Record) (map[string][]byte, error) {
				proven := r.driver.Attempts.Proven(subject.UID, current.Seq, subject.Endpoint)
				login.shown = proven
				return bindingOf(login, current.Material, proven)
			},
		},
		ShownKeys: []string{credential.KeyUsername, credential.KeyPassword},
	}
	derived := derivedLogins(login.shape.Logins)
	options.Check, options.Candidate = derived.check, derived.candidate
	if !subject.Deleting {
		options.Recover = func(ctx context.Context, candidate secretstore.Record, honored string) (secretstore.Ledger, credential.Answer, error) {
			return lifecycle.Recover(ctx, subject, login.shape.Complete, candidate, honored, r.clock.Now().UTC())
		}
	}
	return secretstore.NewLedgered(options)
}
