// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// tryOverlapping tests a login that was just replaced: pods that have not picked up the new one still use it.
func (o *observer) tryOverlapping(ctx context.Context, old *version) error {
	accepted, words, err := try(ctx, old.secret)
	if err != nil {
		return err
	}
	old.inOverlap = &attempt{at: time.Now(), accepted: accepted, words: words}
	kind, verb := "accepted", "still accepts it"
	if !accepted {
		kind, verb = "broken", "already rejects it"
	}
	o.out.tellf(time.Now(), kind, "independent client", "old login %s (revision %d), during the overlap: PostgreSQL %s: %s", old.login, old.revision, verb, words)
	return nil
}

// tryRetired tests a login after the operator reported its retirement.
func (o *observer) tryRetired(ctx context.Context, old *version) error {
	accepted, words, err := try(ctx, old.secret)
	if err != nil {
		return err
	}
	old.afterRetirement = &attempt{at: time.Now(), accepted: accepted, words: words}
	kind, verb := "refused", "rejects it"
	if accepted {
		kind, verb = "broken", "still accepts it"
	}
	o.out.tellf(time.Now(), kind, "independent client", "old login %s (revision %d), after its retirement: PostgreSQL %s: %s", old.login, old.revision, verb, words)
	return nil
}

// seeLogin checks the DatabaseCredential: was the published login proven, and is the previous one retired?
func (o *observer) seeLogin(ctx context.Context) error {
	var credential v1alpha1.DatabaseCredential
	err := o.kube.Get(ctx, client.ObjectKey{Namespace: appNamespace, Name: "orders"}, &credential)
	if err != nil {
		return fmt.Errorf("reading the DatabaseCredential: %w", err)
	}
	versions := o.past.versions[loginSecret]
	if len(versions) == 0 {
		return nil
	}
	status, current := credential.Status, versions[len(versions)-1]
	if status.Revision != current.revision {
		return nil // the status follows the Secret
	}
	o.seeProof(&credential, current)
	if len(versions) == 1 {
		return nil
	}
	old := versions[len(versions)-2]
	if status.Previous != nil {
		o.previous = old.login
		return nil
	}
	if o.previous != old.login || old.afterRetirement != nil {
		return nil
	}
	o.previous = ""
	return o.tryRetired(ctx, old)
}

func (o *observer) seeProof(credential *v1alpha1.DatabaseCredential, current *version) {
	proof := credential.Status.Proof
	verified := meta.IsStatusConditionTrue(credential.Status.Conditions, v1alpha1.ConditionVerified)
	if !current.proven.IsZero() || !verified || proof == nil || proof.Time == nil || proof.Login != current.login {
		return
	}
	current.proven = proof.Time.Time
	o.out.tellf(time.Now(), "verified", appNamespace+"/"+loginSecret, "database login revision %d: proven by logging in as %s to %s at %s",
		current.revision, proof.Login, proof.Endpoint, proof.Time.UTC().Format(stamp))
}

// seeForgotten checks the identity that is not renewed.
func (o *observer) seeForgotten(ctx context.Context) error {
	if o.past.expired != nil {
		return nil
	}
	var identity v1alpha1.ClientIdentity
	err := o.kube.Get(ctx, client.ObjectKey{Namespace: appNamespace, Name: forgottenName}, &identity)
	if apierrors.IsNotFound(err) {
		return nil // not created yet
	}
	if err != nil {
		return fmt.Errorf("reading the forgotten identity: %w", err)
	}
	ready := meta.FindStatusCondition(identity.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason != v1alpha1.ReasonExpired || identity.Status.NotAfter == nil {
		return nil
	}
	end := &expiry{notAfter: identity.Status.NotAfter.Time, transition: ready.LastTransitionTime.Time, seen: time.Now()}
	o.past.expired = end
	o.out.tellf(end.transition, "expired", appNamespace+"/"+forgottenName, "Ready turned False at %s; notAfter was %s",
		end.transition.UTC().Format(stamp), end.notAfter.UTC().Format(stamp))
	return nil
}
