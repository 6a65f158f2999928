// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// proofShown is how old the time of a proof in the status may become if nothing else changes: a write per probe is too many.
const proofShown = 24 * time.Hour

// describe returns what the reconcile found.
func (r *credentialReconciler) describe(ctx context.Context, login *databaseLogin, cluster string, outcome lifecycle.Outcome) report.Facts {
	object := login.object
	subject := fmt.Sprintf("The login in Secret %s/%s", object.Namespace, object.Spec.SecretName)
	status := &object.Status
	found := factsOf(subject, outcome, fault.RemoteFailed)
	status.NextAttemptTime = shownAttempt(outcome)
	found.Verified = report.Verified(object)
	found.PreviousInUse = report.PreviousInUse(object)
	if outcome.Observation.Now.IsZero() || outcome.Conflict {
		return found
	}
	before := *status.DeepCopy()
	found.DeadlineUnknown = login.policyErr != nil
	if !found.DeadlineUnknown {
		status.NextRotationTime = timeRef(outcome.Health.Due)
	}
	current := outcome.Snapshot.Ledger.Current
	switch shownCurrent := describeShown(login, outcome); {
	case shownCurrent:
		found.Verified = verifiedOf(login, outcome, found.Cause)
		found.PreviousInUse = describePrevious(login, outcome)
	case status.ActiveUsername != "":
		// The Secret still shows the previous login, so what was reported about it holds.
		status.Previous, found.PreviousInUse = nil, nil
	default:
		status.Proof, found.Verified = nil, nil
		found.PreviousInUse = describePrevious(login, outcome)
	}
	if current != nil {
		found.Events = append(found.Events, r.extraEventsOf(ctx, login, cluster, before, outcome)...)
	}
	if status.Previous != nil && outcome.Snapshot.Ledger.Previous == nil {
		// It could not be read whether the login is refused.
		found.WakeAt = earliestOf(found.WakeAt, outcome.Observation.Now.Add(lifecycle.RecheckBroken))
	}
	return found
}

// describeShown sets in the status what the Secret shows, and reports whether that is the current version: newer versions in
// the ledger are not published yet. If the Secret shows no version of this object, only the time of the last rotation stays.
func describeShown(of *databaseLogin, outcome lifecycle.Outcome) bool {
	object := of.object
	status, current, shown := &object.Status, outcome.Snapshot.Ledger.Current, shownOf(outcome)
	if current == nil || shown == nil {
		status.Revision, status.ActiveUsername, status.Binding = 0, "", nil
		if current == nil {
			status.LastRotationTime = nil
		}
		return false
	}
	status.Revision, status.ActiveUsername = shown.Seq, of.shape.Logins[shown.Slot]
	status.LastRotationTime = timeRef(shown.CommittedAt)
	status.Binding = &v1alpha1.Binding{Name: object.Spec.SecretName}
	return shown.Seq == current.Seq
}

// verifiedOf returns when and where the published login was proven. What this process has not tested yet stays as reported.
func verifiedOf(of *databaseLogin, outcome lifecycle.Outcome, cause *report.Failure) *report.State {
	status, proof, endpoint, control := &of.object.Status, outcome.Observation.Proof, endpointOf(of), controlOf(of)
	login := status.ActiveUsername
	said := report.Verified(of.object)
	if outcome.FailedStep == rotation.StepProbe && cause != nil && proof.Answer != credential.Rejected {
		return &report.State{Status: metav1.ConditionUnknown, Reason: cause.Reason,
			Message: fmt.Sprintf("The last attempt to prove login %s failed: %s", login, cause.Message)}
	}
	if proof.Seq != outcome.Observation.Current.Seq || proof.Answer == credential.Unknown {
		if said != nil && status.Proof != nil && status.Proof.Login == login {
			return said
		}
		status.Proof = nil
		return &report.State{Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonNotProven,
			Message: fmt.Sprintf("Login %s has not been tested yet.", login)}
	}
	if proof.Answer == credential.Rejected {
		reason, message := refusalOf(outcome, "Login "+login, nil)
		if outcome.Refusal == nil {
			message = fmt.Sprintf("The server refuses login %s with the password in the Secret.", login)
		}
		return &report.State{Status: metav1.ConditionFalse, Reason: reason, Message: message}
	}
	shown := status.Proof
	stale := shown == nil || shown.Login != login || shown.Endpoint != endpoint || shown.Time == nil || proof.At.Sub(shown.Time.Time) >= proofShown
	if stale || said == nil || said.Status != metav1.ConditionTrue {
		status.Proof = &v1alpha1.LoginProof{Endpoint: endpoint, Login: login, Time: timeRef(proof.At)}
	}
	return &report.State{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonLoggedIn,
		Message: fmt.Sprintf("Login %s was accepted at %s, %s", login, endpoint, control)}
}

// controlOf describes what a proof shows about wrong passwords.
func controlOf(login *databaseLogin) string {
	if login.server != nil && login.server.Spec.NegativeControl == v1alpha1.NegativeControlAtFirst {
		return "as its owner. A wrong password was only tested before the first version was published or its lost ledger was rebuilt (spec.negativeControl of the server is AtFirst)."
	}
	return "and a wrong password was refused."
}

// endpointOf returns the address at which logins are tested.
func endpointOf(login *databaseLogin) string {
	if login.server == nil {
		return ""
	}
	return login.server.Spec.Address
}

// describePrevious reports until when the previous login is accepted, and which clients still use it.
func describePrevious(of *databaseLogin, outcome lifecycle.Outcome) *report.State {
	object := of.object
	previous := outcome.Snapshot.Ledger.Previous
	if previous == nil || outcome.PreviousRefused {
		object.Status.Previous = nil
		return nil
	}
	shown := &v1alpha1.PreviousLogin{Username: of.shape.Logins[previous.Slot], RetireAfter: timeRef(rotation.RetireAt(outcome.Observation))}
	if old := object.Status.Previous; old != nil && old.Username == shown.Username {
		shown.Sessions = old.Sessions
	}
	sessions := outcome.Sessions
	if sessions != nil {
		shown.Sessions = new(int32(min(sessions.Count, 1<<30))) //nolint:gosec // bounded right here
	}
	object.Status.Previous = shown
	if sessions == nil {
		return report.PreviousInUse(object)
	}
	if sessions.Count == 0 {
		return nil
	}
	return &report.State{Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonSessionsOpen, Message: fmt.Sprintf(
		"%d sessions of the previous login %s are open (%s). They stay open after the login is refused; restart the clients that hold them so that they use the Secret.",
		sessions.Count, shown.Username, clientsOf(sessions))}
}

func clientsOf(sessions *credential.Sessions) string {
	if len(sessions.Clients) == 0 {
		return "the server does not say whose"
	}
	return strings.Join(sessions.Clients, ", ")
}

// extraEventsOf returns the Events of a rotation and a retirement.
func (r *credentialReconciler) extraEventsOf(ctx context.Context, login *databaseLogin, cluster string, before v1alpha1.DatabaseCredentialStatus, outcome lifecycle.Outcome) []report.ExtraEvent {
	object, current := login.object, outcome.Snapshot.Ledger.Current
	var out []report.ExtraEvent
	if shownFirst(before, object.Status, current.Version) {
		text := fmt.Sprintf("Revision %d with login %s is published in Secret %s.", current.Seq, login.shape.Logins[current.Slot], object.Spec.SecretName)
		if previous := outcome.Snapshot.Ledger.Previous; previous != nil {
			text += login.overlapText(previous.Slot, rotation.RetireAt(outcome.Observation))
		}
		text += crowdedText(login, outcome.Snapshot.Ledger)
		out = append(out, report.ExtraEvent{Reason: v1alpha1.ReasonRotated, Action: report.ActionPublish, Message: text})
	}
	if before.Previous != nil && (outcome.Snapshot.Ledger.Previous == nil || outcome.PreviousRefused) {
		slot := slotOf(login, before.Previous.Username)
		if slot == current.Slot {
			// The slot was retired and has become current again within this reconcile: the login that is now refused is the other one.
			slot = otherSlot(login, slot)
		}
		switch retired, known := r.isRetired(ctx, login, cluster, slot, outcome); {
		case retired:
			out = append(out, report.ExtraEvent{Reason: v1alpha1.ReasonRetired, Action: report.ActionRetire, Message: r.retiredText(ctx, login, cluster, slot)})
		case !known:
			object.Status.Previous = before.Previous // reported as soon as the server confirms it, perhaps by another process
		}
	}
	return out
}

// shownFirst reports whether the Secret shows the current version for the first time. It is not the first time if the version
// was shown before and its Secret was missing for a while.
func shownFirst(before, after v1alpha1.DatabaseCredentialStatus, current rotation.Version) bool {
	if after.Revision != current.Seq || current.Seq <= before.Revision {
		return false
	}
	return before.Revision > 0 || before.LastRotationTime == nil || !timeRef(current.CommittedAt).Equal(before.LastRotationTime)
}

// previousPassword completes a statement about the login of the previous version: it is the current one, if there is only one.
func (l *databaseLogin) previousPassword() string {
	if len(l.shape.Logins) == 1 {
		return " with its previous password"
	}
	return ""
}

// overlapText states how long the previous login stays accepted. Until the publication of its successor is recorded, that is unknown.
func (l *databaseLogin) overlapText(slot string, until time.Time) string {
	login := l.shape.Logins[slot] + " stays accepted" + l.previousPassword()
	if until.IsZero() {
		return fmt.Sprintf(" Login %s during the overlap.", login)
	}
	return fmt.Sprintf(" Login %s until %s.", login, fault.FormatTime(until))
}

// crowdedText explains that the current version took the slot of an open login, because the ledger was lost while all slots
// were open; otherwise it is empty.
func crowdedText(of *databaseLogin, ledger secretstore.Ledger) string {
	if ledger.Previous == nil || !ledger.Survivor.Crowded || ledger.Survivor.Slot != ledger.Previous.Slot {
		return ""
	}
	return fmt.Sprintf(" The ledger was lost while both logins were open, so %s, the older one, got a new password: restart the clients that still use its old one.",
		of.shape.Logins[ledger.Current.Slot])
}

// slotOf returns the slot of a login; empty if it has none.
func slotOf(login *databaseLogin, username string) string {
	for _, slot := range login.shape.Traits.Slots {
		if login.shape.Logins[slot] == username {
			return slot
		}
	}
	return ""
}

// otherSlot returns the slot that alternates with this one; empty if there is none.
func otherSlot(login *databaseLogin, slot string) string {
	for _, other := range login.shape.Traits.Slots {
		if other != slot {
			return other
		}
	}
	return ""
}

// isRetired reports whether the slot's login was retired: by this reconcile or, according to the server, by one that died
// before it could report that. A previous version that is missing from the ledger proves nothing. known is false if the server
// could not be asked.
func (r *credentialReconciler) isRetired(ctx context.Context, login *databaseLogin, cluster, slot string, outcome lifecycle.Outcome) (retired, known bool) {
	if outcome.PreviousRefused || slices.Contains(outcome.Performed, rotation.StepRetire) {
		return true, true
	}
	if slot == "" || slot == outcome.Snapshot.Ledger.Current.Slot {
		return false, true
	}
	if login.session == nil {
		return false, false
	}
	marked, ok := credential.As[credential.MarkerReader](login.session)
	if !ok {
		return false, true
	}
	ref := r.ref(login.object, cluster)
	ref.Slot = slot
	mark, err := lifecycle.ReadMarker(ctx, marked, ref)
	return err == nil && mark.Owner == ref.Owner() && !mark.Open, err == nil
}

// retiredText reports that the login is now refused, and which of its sessions continue.
func (r *credentialReconciler) retiredText(ctx context.Context, login *databaseLogin, cluster, slot string) string {
	ref := r.ref(login.object, cluster)
	ref.Slot = slot
	text := fmt.Sprintf("Login %s is now refused%s.", login.shape.Logins[ref.Slot], login.previousPassword())
	counter, ok := credential.As[credential.SessionCounter](login.session)
	if !ok {
		return text
	}
	ctx, cancel := context.WithTimeout(ctx, lifecycle.DefaultStepTimeout)
	defer cancel()
	if sessions, err := counter.Sessions(ctx, ref); err == nil && sessions.Count > 0 {
		text += fmt.Sprintf(" Sessions that were already open continue until they close: %d (%s).", sessions.Count, clientsOf(&sessions))
	}
	return text
}

// reportRemains reports in the log, in a metric and in an Event what a deleted object leaves behind, and what to do about it. If
// the object exists only in the cache, it returns a conflict.
func (r *credentialReconciler) reportRemains(ctx context.Context, login *databaseLogin, left lifecycle.Remains) error {
	object := login.object
	if err := r.present(ctx, object, &v1alpha1.DatabaseCredential{}); lifecycle.IsConflict(err) {
		return err
	}
	var what, todo []string
	if left.Remote != nil {
		names := "logins " + strings.Join(slices.Sorted(maps.Values(login.shape.Logins)), " and ")
		if login.shapeErr != nil {
			names = fmt.Sprintf("the logins of its username %s", object.Spec.Username)
		}
		advice := "drop the logins as docs/runbooks/CleanupIncomplete.md describes"
		switch {
		case left.Copied:
			names += ", if their markers name this object,"
			advice = "drop only those whose marker names it, as docs/runbooks/CleanupIncomplete.md describes"
		case object.Status.Revision == 0 && object.Status.LastRotationTime == nil:
			names += ", if they were created,"
		}
		what = append(what, fmt.Sprintf("%s on DatabaseServer %s", names, object.Spec.ServerRef.Name))
		todo = append(todo, advice)
	}
	if left.Kept != nil {
		ledger := secretstore.LedgerName(kindDatabaseCredential, object.Name)
		what = append(what, fmt.Sprintf("Secret %s and ledger Secret %s", object.Spec.SecretName, ledger))
		verb := "label the ledger with: kubectl -n %s label secret %[3]s " + v1alpha1.LabelRetained + "=true"
		if object.Spec.DeletionPolicy == v1alpha1.DeletionDelete {
			verb = "delete the Secrets with: kubectl -n %s delete secret %s %s"
		}
		todo = append(todo, fmt.Sprintf(verb, object.Namespace, object.Spec.SecretName, ledger))
	}
	message := fmt.Sprintf("DatabaseCredential %s/%s is deleted and leaves behind %s: %s. Cause: %s",
		object.Namespace, object.Name, strings.Join(what, ", and "), strings.Join(todo, "; "), left)
	log.FromContext(ctx).Info("Deleted without cleaning up everything", "remains", message)
	r.reporter.Metrics.Failed("withdraw", fault.ReasonOf(errors.Join(left.Remote, left.Kept), fault.RemoteFailed))
	r.reporter.Emit(object, report.Event{Type: corev1.EventTypeWarning, Reason: v1alpha1.ReasonCleanupIncomplete, Action: report.ActionRetire, Message: message})
	return nil
}
