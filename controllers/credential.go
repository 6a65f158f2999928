// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// quickAttempts is the number of attempts after which the next one is two minutes away or more.
const quickAttempts = 8

// tokenOf returns what is recorded of a request.
func tokenOf(object client.Object, annotation string) string {
	return secretstore.Token(object.GetAnnotations()[annotation])
}

// drive takes a credential as far as it goes now.
func (s *shared) drive(ctx context.Context, subject lifecycle.Credential) lifecycle.Outcome {
	return s.driver.Drive(ctx, subject)
}

// reportOf says in facts what a pass over a credential found. What is particular to a kind is added by its controller.
func reportOf(kind, subject string, outcome lifecycle.Outcome, fallback fault.Reason) report {
	o := outcome.Observation
	found := report{
		kind: kind, subject: subject, health: outcome.Health, wakeAt: outcome.WakeAt(),
	}
	found.cause = causeOf(outcome, fallback)
	found.unread = o.Now.IsZero() && found.cause != nil
	found.unseen = outcome.Conflict || found.unread && found.cause.class == fault.ClassTransient && outcome.Failures < lifecycle.PatientReads
	found.standing = standingOf(outcome, found.cause)
	found.untold = outcome.Err != nil && !rotates(outcome.FailedStep) && outcome.FailedStep != rotation.StepProbe
	found.doing = outcome.Decision.Message
	found.ready, found.reason, found.message = readiness(outcome, subject, found.cause)
	found.progressing = found.cause == nil && !o.Suspended && (o.Current == nil || o.Current.Fingerprint != o.Fingerprint && o.Pending != nil)
	found.rotating = rotatingOf(outcome, found.cause)
	found.deleting = o.Deleting
	if took := outcome.Snapshot.Adopted; took != "" {
		found.news = append(found.news, news{v1alpha1.ReasonAdopted, actionPublish, took + "."})
	}
	if o.Suspended {
		found.suspended = &metav1.Condition{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSuspended, Message: suspendedMessage(o)}
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

// causeOf finds what is wrong: a step that failed, what the planner waits for, or a precondition that will stand in the
// way of the next rotation, which is said at once and not only when it is due.
func causeOf(outcome lifecycle.Outcome, fallback fault.Reason) *trouble {
	switch {
	case outcome.Err != nil:
		// When it is tried again is in the status, and not in these words: what repeats reads the same, and is counted.
		return newTrouble(outcome.Err, fallback)
	case outcome.Decision.Unmet != nil:
		return troubleOf(*outcome.Decision.Unmet)
	case outcome.Observation.Deleting:
		return nil
	}
	return unmetTrouble(outcome.Observation)
}

// unmetTrouble returns the first precondition that does not hold. What could not be found out is told when it stands in the way.
func unmetTrouble(o rotation.Observation) *trouble {
	for _, unmet := range o.Preconditions {
		if !unmet.Transient {
			return troubleOf(unmet)
		}
	}
	return nil
}

// standingOf returns what stands in the way of the next rotation besides the cause.
func standingOf(outcome lifecycle.Outcome, cause *trouble) *trouble {
	standing := unmetTrouble(outcome.Observation)
	if cause == nil || standing == nil || outcome.Observation.Deleting || standing.reason == cause.reason || standing.class == fault.ClassPending {
		return nil
	}
	return standing
}

// readiness judges what the user's Secret shows, and nothing else: a rotation that fails leaves it as it is.
func readiness(outcome lifecycle.Outcome, subject string, cause *trouble) (status metav1.ConditionStatus, reason, message string) {
	o := outcome.Observation
	why := ""
	if cause != nil {
		why = " " + cause.message
	}
	switch {
	case o.Now.IsZero():
		// Nothing could be read. What was published may well be fine.
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
		return metav1.ConditionFalse, v1alpha1.ReasonSuspended, "Nothing is published, and nothing is made while rotation is suspended: " +
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

// showsCurrent reports whether the data of the user's Secret are those of the current version. Labels and annotations that could
// not be written do not keep anybody from using it.
func showsCurrent(outcome lifecycle.Outcome) bool {
	return outcome.Observation.Target == rotation.TargetShowsCurrent || outcome.Snapshot.Target == rotation.TargetShowsCurrent ||
		outcome.Snapshot.ShowsData
}

// shownOf returns the version whose credential the user's Secret holds; nil where it holds none of ours.
func shownOf(outcome lifecycle.Outcome) *rotation.Version {
	if current := outcome.Snapshot.Ledger.Current; outcome.Snapshot.Target == rotation.TargetShowsCurrent && current != nil {
		return &current.Version
	}
	return outcome.Snapshot.Shown
}

// refusalOf says that what is published is refused or cannot do its work, and why. Where only a change elsewhere helps, the
// reason is that of the cause.
func refusalOf(outcome lifecycle.Outcome, subject string, cause *trouble) (reason, message string) {
	reason, message = v1alpha1.ReasonCredentialRejected, subject+" is refused by the server."
	if why := outcome.Refusal; why != nil {
		message = fmt.Sprintf("%s cannot be used: %s.", subject, why)
		if fault.NeedsHelp(why) {
			return string(fault.ReasonOf(why, fault.CredentialRejected)), message
		}
	}
	if cause != nil {
		message += " " + cause.message
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
			"and at least a minute, after it was issued: set a shorter renewBefore or a longer interval, or replace an authority that is about to end."
	}
	return text
}

// rotatingOf says that a rotation is under way, or why it fails, while what is published goes on working.
func rotatingOf(outcome lifecycle.Outcome, cause *trouble) *metav1.Condition {
	o := outcome.Observation
	if o.Current == nil {
		return nil
	}
	out := &metav1.Condition{Status: metav1.ConditionTrue}
	switch {
	case outcome.Err != nil && cause != nil && cause.class == fault.ClassPending && rotates(outcome.FailedStep):
		out.Reason, out.Message = v1alpha1.ReasonScheduled, cause.message
	case outcome.Err != nil && cause != nil && rotates(outcome.FailedStep):
		out.Reason, out.Message = cause.reason, fmt.Sprintf("%s failed: %s", outcome.FailedStep, cause.message)
	case o.Previous != nil:
		out.Reason, out.Message = v1alpha1.ReasonOverlapping, outcome.Decision.Message
	case o.Pending == nil:
		return nil
	case o.Rotate.Token != "" && !o.Rotate.Honoured:
		out.Reason, out.Message = v1alpha1.ReasonRequested, outcome.Decision.Message
	case o.Pending.Fingerprint != o.Current.Fingerprint:
		out.Reason, out.Message = v1alpha1.ReasonSpecChanged, outcome.Decision.Message
	default:
		out.Reason, out.Message = v1alpha1.ReasonScheduled, outcome.Decision.Message
	}
	return out
}

// shownAttempt is when something that failed is tried again. The first attempts follow each other so fast that it would be over
// before anybody reads it, and each would be a write of the status.
func shownAttempt(outcome lifecycle.Outcome) *metav1.Time {
	if outcome.Failures > 0 && outcome.Failures < quickAttempts {
		return nil
	}
	return timeRef(outcome.NextAttempt)
}

// rotates tells whether a step is part of a rotation.
func rotates(step rotation.Step) bool {
	return slices.Contains([]rotation.Step{rotation.StepPropose, rotation.StepStage, rotation.StepVerify, rotation.StepCommit,
		rotation.StepRetire, rotation.StepDiscard}, step)
}

// withdrawDeadline is how long a deleted object may wait for a remote end that does not answer.
func withdrawDeadline(deleted *metav1.Time) time.Time {
	if deleted == nil {
		return time.Time{}
	}
	return deleted.Add(lifecycle.WithdrawPatience)
}
