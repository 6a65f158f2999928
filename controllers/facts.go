// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// quickAttempts is the number of failed attempts after which the next one is at least two minutes away.
const quickAttempts = 8

// tokenOf returns the token under which a request is recorded.
func tokenOf(object client.Object, annotation string) string {
	return secretstore.Token(object.GetAnnotations()[annotation])
}

// drive takes a credential as far as it can go now.
func (s *shared) drive(ctx context.Context, subject lifecycle.Credential) lifecycle.Outcome {
	return s.driver.Drive(ctx, subject)
}

// factsOf returns what a reconcile of a credential found. The kind's controller adds what is specific to the kind.
func factsOf(subject string, outcome lifecycle.Outcome, fallback fault.Reason) report.Facts {
	o := outcome.Observation
	found := report.Facts{Subject: subject, Health: outcome.Health, WakeAt: outcome.WakeAt()}
	found.Cause = causeOf(outcome, fallback)
	found.ObservationFailed = o.Now.IsZero() && found.Cause != nil
	found.SkipStatus = outcome.Conflict || found.ObservationFailed && found.Cause.Class == fault.ClassTransient && outcome.Failures < lifecycle.PatientReads
	found.Standing = standingOf(outcome, found.Cause)
	found.CauseHidden = outcome.Err != nil && !rotates(outcome.FailedStep) && outcome.FailedStep != rotation.StepProbe
	found.Doing = outcome.Decision.Message
	found.Ready, found.Reason, found.Message = readiness(outcome, subject, found.Cause)
	found.Progressing = found.Cause == nil && !o.Suspended && (o.Current == nil || o.Current.Fingerprint != o.Fingerprint && o.Pending != nil)
	found.Rotating = rotatingOf(outcome, found.Cause)
	found.Deleting = o.Deleting
	if took := outcome.Snapshot.Adopted; took != "" {
		found.Events = append(found.Events, report.ExtraEvent{Reason: v1alpha1.ReasonAdopted, Action: report.ActionPublish, Message: took + "."})
	}
	if o.Suspended {
		found.Suspended = &report.State{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSuspended, Message: suspendedMessage(o)}
	}
	return found
}

func suspendedMessage(o rotation.Observation) string {
	text := "Rotation is suspended until spec.suspend is false, here and in the policy."
	switch due := rotation.Due(o); {
	case due.IsZero():
	case due.After(o.Now):
		text += fmt.Sprintf(" The next one is due at %s.", fault.FormatTime(due))
	default:
		text += fmt.Sprintf(" One was due at %s.", fault.FormatTime(due))
	}
	return text
}

// causeOf returns what is wrong: a step that failed, what the planner waits for, or a precondition that will block the next
// rotation, which is reported at once and not only when the rotation is due.
func causeOf(outcome lifecycle.Outcome, fallback fault.Reason) *report.Failure {
	switch {
	case outcome.Err != nil:
		// The time of the next attempt is in the status, not in this message: a repeated failure has the same text, so it is counted.
		return report.NewFailure(outcome.Err, fallback)
	case outcome.Decision.Unmet != nil:
		return report.FailureOf(*outcome.Decision.Unmet)
	case outcome.Observation.Deleting:
		return nil
	}
	return firstUnmet(outcome.Observation)
}

// firstUnmet returns the first precondition that does not hold. One that could not be checked is reported once it blocks a step.
func firstUnmet(o rotation.Observation) *report.Failure {
	for _, unmet := range o.Preconditions {
		if !unmet.Transient {
			return report.FailureOf(unmet)
		}
	}
	return nil
}

// standingOf returns what else blocks the next rotation, besides the cause.
func standingOf(outcome lifecycle.Outcome, cause *report.Failure) *report.Failure {
	standing := firstUnmet(outcome.Observation)
	if cause == nil || standing == nil || outcome.Observation.Deleting || standing.Reason == cause.Reason || standing.Class == fault.ClassPending {
		return nil
	}
	return standing
}

// readiness judges only what the user's Secret shows: a failing rotation does not change that.
func readiness(outcome lifecycle.Outcome, subject string, cause *report.Failure) (status metav1.ConditionStatus, reason, message string) {
	o := outcome.Observation
	why := ""
	if cause != nil {
		why = " " + cause.Message
	}
	switch {
	case o.Now.IsZero():
		// Nothing could be read. What was published may well work.
		return metav1.ConditionUnknown, "", ""
	case outcome.Snapshot.Inherited && !o.Deleting && cause != nil:
		return metav1.ConditionFalse, "", ""
	case outcome.Snapshot.Inherited && !o.Deleting && o.Suspended:
		return metav1.ConditionFalse, v1alpha1.ReasonSuspended, "Nothing is published, and nothing is taken over while rotation is suspended: " +
			"set spec.suspend to false, here or in the policy."
	case outcome.Snapshot.Inherited && !o.Deleting:
		return metav1.ConditionUnknown, v1alpha1.ReasonProgressing, outcome.Decision.Message
	case o.Current == nil && cause != nil:
		return metav1.ConditionFalse, "", ""
	case o.Current == nil && o.Suspended && !o.Deleting:
		return metav1.ConditionFalse, v1alpha1.ReasonSuspended, "Nothing is published, and nothing is created while rotation is suspended: " +
			"set spec.suspend to false, here or in the policy."
	case o.Current == nil:
		return metav1.ConditionUnknown, v1alpha1.ReasonProgressing, outcome.Decision.Message
	case !o.Current.NotAfter.IsZero() && !o.Now.Before(o.Current.NotAfter):
		return metav1.ConditionFalse, v1alpha1.ReasonExpired, fmt.Sprintf("%s expired at %s.%s", subject, fault.FormatTime(o.Current.NotAfter), why)
	case rotation.NotYetValid(o):
		return metav1.ConditionFalse, string(fault.ClockSkew), fmt.Sprintf(
			"%s was issued at %s, when the clock was ahead, and is not valid yet.%s", subject, fault.FormatTime(o.Current.CommittedAt), why)
	case o.Proof.Seq == o.Current.Seq && o.Proof.Answer == credential.Rejected:
		reason, message := refusalOf(outcome, subject, cause)
		return metav1.ConditionFalse, reason, message
	case !showsCurrent(outcome) && cause != nil:
		return metav1.ConditionFalse, "", ""
	case !showsCurrent(outcome):
		return metav1.ConditionUnknown, v1alpha1.ReasonProgressing, outcome.Decision.Message
	}
	return metav1.ConditionTrue, v1alpha1.ReasonPublished, publishedMessage(outcome, subject)
}

// showsCurrent reports whether the data in the user's Secret are those of the current version. Clients can use it even if
// labels and annotations could not be written.
func showsCurrent(outcome lifecycle.Outcome) bool {
	return outcome.Observation.Target == rotation.TargetShowsCurrent || outcome.Snapshot.Target == rotation.TargetShowsCurrent ||
		outcome.Snapshot.ShowsData
}

// shownOf returns the version whose credential the user's Secret holds; nil if it holds no credential of this object.
func shownOf(outcome lifecycle.Outcome) *rotation.Version {
	if current := outcome.Snapshot.Ledger.Current; outcome.Snapshot.Target == rotation.TargetShowsCurrent && current != nil {
		return &current.Version
	}
	return outcome.Snapshot.Shown
}

// refusalOf explains why what is published is refused or cannot do its work. If only a change elsewhere helps, the reason is
// that of the cause.
func refusalOf(outcome lifecycle.Outcome, subject string, cause *report.Failure) (reason, message string) {
	reason, message = v1alpha1.ReasonCredentialRejected, subject+" is refused by the server."
	if why := outcome.Refusal; why != nil {
		message = fmt.Sprintf("%s cannot be used: %s.", subject, why)
		if fault.NeedsHelp(why) {
			return string(fault.ReasonOf(why, fault.CredentialRejected)), message
		}
	}
	if cause != nil {
		message += " " + cause.Message
	}
	return reason, message
}

func publishedMessage(outcome lifecycle.Outcome, subject string) string {
	text := subject + " is published"
	if at := outcome.Observation.Current.NotAfter; !at.IsZero() {
		text += fmt.Sprintf(" and valid until %s", fault.FormatTime(at))
	}
	if due := outcome.Health.Due; !due.IsZero() {
		text += fmt.Sprintf("; the next rotation is due at %s", fault.FormatTime(due))
	}
	text += "."
	if o := outcome.Observation; rotation.HeldBack(o) {
		text += " That is later than spec.renewBefore or the interval of its policy asks for, because a certificate is renewed no sooner than a tenth of its lifetime, " +
			"and at least a minute, after it was issued: set a shorter renewBefore or a longer interval, or replace an authority that is about to expire."
	}
	return text
}

// rotatingOf reports that a rotation is under way, or why it fails, while the published credential keeps working.
func rotatingOf(outcome lifecycle.Outcome, cause *report.Failure) *report.State {
	o := outcome.Observation
	if o.Current == nil {
		return nil
	}
	out := &report.State{Status: metav1.ConditionTrue}
	switch {
	case outcome.Err != nil && cause != nil && cause.Class == fault.ClassPending && rotates(outcome.FailedStep):
		out.Reason, out.Message = v1alpha1.ReasonScheduled, cause.Message
	case outcome.Err != nil && cause != nil && rotates(outcome.FailedStep):
		out.Reason, out.Message = cause.Reason, fmt.Sprintf("%s failed: %s", outcome.FailedStep, cause.Message)
	case o.Previous != nil:
		out.Reason, out.Message = v1alpha1.ReasonOverlapping, outcome.Decision.Message
	case o.Pending == nil:
		return nil
	case o.Rotate.Token != "" && !o.Rotate.Honored:
		out.Reason, out.Message = v1alpha1.ReasonRequested, outcome.Decision.Message
	case o.Pending.Fingerprint != o.Current.Fingerprint:
		out.Reason, out.Message = v1alpha1.ReasonSpecChanged, outcome.Decision.Message
	default:
		out.Reason, out.Message = v1alpha1.ReasonScheduled, outcome.Decision.Message
	}
	return out
}

// shownAttempt returns when a failed step is retried. The first attempts are not shown: they follow each other so fast that
// they would be over before a user could read them, and each would cost a write of the status.
func shownAttempt(outcome lifecycle.Outcome) *metav1.Time {
	if outcome.Failures > 0 && outcome.Failures < quickAttempts {
		return nil
	}
	return timeRef(outcome.NextAttempt)
}

// rotates reports whether a step is part of a rotation.
func rotates(step rotation.Step) bool {
	return slices.Contains([]rotation.Step{rotation.StepPropose, rotation.StepStage, rotation.StepVerify, rotation.StepCommit,
		rotation.StepRetire, rotation.StepDiscard}, step)
}

// withdrawDeadline returns until when a deleted object may wait for a remote system that does not answer.
func withdrawDeadline(deleted *metav1.Time) time.Time {
	if deleted == nil {
		return time.Time{}
	}
	return deleted.Add(lifecycle.WithdrawPatience)
}

// timeRef returns a time for a status; nil if it is zero. RFC 3339 has four digits for the year: the API server rejects the
// whole status if a time needs more digits, or is before the year 1.
func timeRef(t time.Time) *metav1.Time {
	if !t.After(time.Time{}) {
		return nil
	}
	if last := time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC); t.After(last) {
		t = last
	}
	return &metav1.Time{Time: t.UTC().Truncate(time.Second)}
}

func earliestOf(times ...time.Time) time.Time {
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// describeKeystores adds to the facts what holds for the keystores of a published certificate: if they could not be renewed, they are
// those of an earlier certificate, which expires first.
func describeKeystores(parts identityObject, outcome lifecycle.Outcome, found *report.Facts) {
	if parts.keystores == nil {
		return
	}
	if outcome.Snapshot.KeystoresWritten {
		found.Events = append(found.Events, writtenEvent(parts, outcome.Snapshot.Keystores))
	}
	failed := parts.keystores.Failed()
	recheck := lifecycle.RecheckHealthy
	if fault.Classify(parts.keystores.Unknown) == fault.ClassTransient { // it could not be read just now, which nothing reports
		recheck = lifecycle.RecheckBroken
	}
	found.WakeAt = earliestOf(found.WakeAt, outcome.Observation.Now.Add(recheck))
	switch {
	case failed == nil:
	case found.Cause == nil:
		found.Cause = report.NewFailure(failed, fault.KeystoreNotWritten)
	case found.Standing == nil:
		found.Standing = report.NewFailure(failed, fault.KeystoreNotWritten)
	}
	current, shown := outcome.Observation.Current, outcome.Snapshot.Keystores
	if current == nil || failed == nil && parts.keystores.Unknown == nil {
		return
	}
	if found.Message != "" {
		found.Message += heldText(shown, current.Seq)
	}
	if shown.NotAfter.IsZero() || !shown.NotAfter.Before(current.NotAfter) {
		return
	}
	older, o := *current, outcome.Observation
	older.Seq, older.NotAfter = shown.Seq, shown.NotAfter
	older.CommittedAt = shown.NotAfter.Add(current.CommittedAt.Sub(current.NotAfter))
	o.Current = &older
	found.Health = rotation.HealthOf(o)
	found.Subject = fmt.Sprintf("The certificate in %s of Secret %s/%s", strings.Join(parts.keystores.Keys, ", "), parts.object.GetNamespace(), parts.spec.SecretName)
	found.WakeAt = earliestOf(found.WakeAt, found.Health.NextLevelAt)
	if found.Health.Level != rotation.Expired || found.Ready != metav1.ConditionTrue {
		return
	}
	found.Ready, found.Reason = metav1.ConditionFalse, v1alpha1.ReasonExpired
	found.Message = fmt.Sprintf("%s expired at %s, while tls.crt is valid until %s.", found.Subject, fault.FormatTime(shown.NotAfter), fault.FormatTime(current.NotAfter))
	if found.Cause != nil {
		found.Message += " " + found.Cause.Message
	}
}

// writtenEvent reports that keystores were written for a certificate that was published before: their password, or anything else in
// them, is another one. Their readers need to know, and nothing in the status shows it.
func writtenEvent(parts identityObject, version secretstore.KeystoreVersion) report.ExtraEvent {
	ref := parts.spec.Keystore.PasswordSecretRef
	return report.ExtraEvent{Reason: v1alpha1.ReasonKeystoreWritten, Action: report.ActionPublish, Message: fmt.Sprintf(
		"Revision %d is now encoded in %s of Secret %s, with the password in key %s of Secret %s. An application that has another password cannot read these files.",
		version.Seq, strings.Join(parts.keystores.Keys, ", "), parts.spec.SecretName, ref.Key, ref.Name)}
}

// heldText describes the keystores in the Secret of a published certificate while they cannot be written.
func heldText(shown secretstore.KeystoreVersion, current int64) string {
	switch {
	case shown.NotAfter.IsZero():
		return " Its keystores, if there are any, were not written by rekey, and may expire earlier."
	case shown.Seq != current:
		return fmt.Sprintf(" Its keystores still hold revision %d, which expires at %s.", shown.Seq, fault.FormatTime(shown.NotAfter))
	}
	return ""
}
