// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/keystore"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

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
