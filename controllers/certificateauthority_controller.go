// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/eventrecorder"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/rotation"
)

const (
	// An authority should be replaced this many times its longest certificate lifetime before it expires, but not in the first
	// half of its own lifetime. It warns when 7/10 of that time are left. It alarms in the last certificate lifetime, when
	// certificates have to be cut short, but not in the first third of the warning period.
	authorityWarnLifetimes = 3
	// maxSubject limits a subject in a status, in bytes.
	maxSubject = 1000
	// maxNamed limits a subject in a message, in bytes.
	maxNamed = 256
)

// authorityRemedy is the next step for an authority that is about to expire. It holds for every issuer:
// rekey replaces none.
const authorityRemedy = "rekey does not renew it: replace it as in docs/runbooks/AuthorityExpired.md."

// authorityReconciler reconciles the authorities of one kind. It monitors all of them, and
// creates the key pair once if the opener is a Creator.
type authorityReconciler struct {
	shared
	kind      v1alpha1.AuthorityKind
	newObject func() v1alpha1.AuthorityObject
}

// Reconcile implements reconcile.Reconciler.
func (r *authorityReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	object := r.newObject()
	if err := r.client.Get(ctx, request.NamespacedName, object); err != nil {
		object.SetNamespace(request.Namespace)
		object.SetName(request.Name)
		return ctrl.Result{}, gone(err, func() { r.authorities.forget(partsOfAuthority(r.kind, object).id) })
	}
	parts := partsOfAuthority(r.kind, object)
	before, ok := object.DeepCopyObject().(v1alpha1.Object)
	if !ok {
		return ctrl.Result{}, fmt.Errorf("copying a %T: not an object", object)
	}
	if !object.GetDeletionTimestamp().IsZero() {
		r.authorities.forget(parts.id)
		return ctrl.Result{}, nil
	}
	return r.report(ctx, before, object, r.observe(ctx, parts))
}

// observe creates what is missing and returns the authority's state.
func (r *authorityReconciler) observe(ctx context.Context, parts authorityObject) report.Facts {
	now := r.clock.Now().UTC()
	var out report.Facts
	kept := r.ensure(ctx, parts)
	// Identities then use the authority that is checked here.
	r.authorities.forget(parts.id)
	var authority *issuer.Authority
	var unready error
	err := kept
	if fault.Classify(kept) != fault.ClassPermanent {
		if authority, unready, err = r.authorities.load(ctx, parts); err != nil && kept != nil {
			err = kept
		}
	}
	if authority != nil {
		showAuthority(parts.status, parts.spec, authority)
		out.Subject = fmt.Sprintf("The certificate of %s (%s)", parts.id, eventrecorder.Bounded(cmp.Or(authority.Subject, "without a subject"), maxNamed))
		out.Remedy = authorityRemedy
		out.Health = authorityHealth(now, parts.spec, authority)
		if err == nil {
			err = unready
		}
		if err == nil {
			err = checkSelector(parts.selector)
		}
	}
	out.WakeAt = earliestOf(now.Add(lifecycle.RecheckHealthy), out.Health.NextLevelAt)
	if err != nil {
		out.Ready = metav1.ConditionFalse
		out.Cause = report.NewFailure(err, "")
		out.WakeAt = earliestOf(now.Add(lifecycle.RecheckBroken), out.Health.NextLevelAt)
		return out
	}
	if kept != nil {
		// The authority signs even if something beside its key pair could not be written.
		out.Cause, out.WakeAt = report.NewFailure(kept, ""), earliestOf(now.Add(lifecycle.RecheckBroken), out.Health.NextLevelAt)
	}
	out.Ready, out.Reason = metav1.ConditionTrue, v1alpha1.ReasonServing
	out.Message = r.serving(parts, authority)
	return out
}

// checkSelector rejects a malformed selector, which selects no namespace. The API server does not validate it.
func checkSelector(selector *metav1.LabelSelector) error {
	if _, err := metav1.LabelSelectorAsSelector(selector); err != nil {
		return fault.Permanent(fault.AuthorityInvalid, fmt.Errorf("spec.namespaceSelector selects no namespace, because it is malformed: %s",
			strings.Join(strings.Fields(err.Error()), " ")))
	}
	return nil
}

// serving returns what a user should know about an authority that works.
func (r *authorityReconciler) serving(parts authorityObject, authority *issuer.Authority) string {
	text := fmt.Sprintf("%s signs with %s", cmp.Or(authority.Subject, "The authority"), authority.SignsWith)
	at := r.authorities.secretKey(parts)
	if at.Name != "" {
		text += fmt.Sprintf(" in Secret %s", at)
	}
	if !authority.NotAfter.IsZero() {
		text += " until " + fault.FormatTime(authority.NotAfter)
	}
	text += "."
	if at.Name != "" && parts.id.kind == v1alpha1.AuthorityKindNamespaced {
		text += fmt.Sprintf(" Anyone who can read Secrets in namespace %s can also sign with this authority.", at.Namespace)
	}
	return strings.Join(append([]string{text}, authority.Notes...), " ")
}

func showAuthority(status *v1alpha1.AuthorityStatus, spec *v1alpha1.AuthoritySpec, authority *issuer.Authority) {
	status.SHA256, status.Subject = authority.SHA256, eventrecorder.Bounded(authority.Subject, maxSubject)
	status.NotBefore, status.NotAfter = timeRef(authority.NotBefore), timeRef(authority.NotAfter)
	status.RenewalTime = timeRef(authority.NotAfter.Add(-longestLifetime(spec, authority)))
}

// longestLifetime returns the longest lifetime that a certificate can have: maxLifetime is often set to mean "no limit".
func longestLifetime(spec *v1alpha1.AuthoritySpec, authority *issuer.Authority) time.Duration {
	return min(spec.Constraints.MaxLifetime.Duration, max(authority.NotAfter.Sub(authority.NotBefore), 0))
}

// authorityHealth counts down to the expiry of the chain.
func authorityHealth(now time.Time, spec *v1alpha1.AuthoritySpec, authority *issuer.Authority) rotation.Health {
	// A lifetime may be as long as a Duration can hold: divide first, so that no multiplication overflows.
	half := max(authority.NotAfter.Sub(authority.NotBefore), 0) / 2
	longest := longestLifetime(spec, authority)
	lead := authorityWarnLifetimes * min(longest, half/authorityWarnLifetimes)
	health := rotation.HealthOf(rotation.Observation{
		Now:     now,
		Policy:  rotation.Policy{RenewBefore: lead, WarnBefore: lead, AlarmBefore: min(longest/7, lead/15) * 10},
		Current: &rotation.Version{Seq: 1, CommittedAt: authority.NotBefore, NotAfter: authority.NotAfter},
	})
	// An authority is not renewed automatically: the warning levels show that it should be replaced.
	health.Overdue = false
	return health
}

// ensure creates the key pair of an authority whose opener is a Creator, once.
func (r *authorityReconciler) ensure(ctx context.Context, parts authorityObject) error {
	opener, err := r.authorities.opener(parts)
	if err != nil {
		return err
	}
	creator, ok := opener.(issuer.Creator)
	if !ok {
		return nil
	}
	if err := namesSecret(parts); err != nil {
		return err
	}
	kept, err := r.authorities.store(ctx, parts)
	if err != nil {
		return err // before a key is created
	}
	settings, err := settingsOf(parts)
	if err != nil {
		return err
	}
	return kept.Ensure(ctx, func(ctx context.Context) error {
		err := r.stillWanted(ctx, parts.object, r.newObject())
		if lifecycle.IsConflict(err) {
			return fault.Pending(lifecycle.ConflictWait, err)
		}
		return err
	}, func() (credential.Material, error) { return creator.Create(settings, r.clock.Now().UTC()) })
}
