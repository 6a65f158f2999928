// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
)

// annotationHelmRelease is on objects that a Helm release created.
const annotationHelmRelease = "meta.helm.sh/release-name"

// settle rebuilds a lost ledger from the user's Secret. If that Secret is the former owner's, it does so only after the markers
// at the remote system were taken over, which the ledger records.
func (s *Ledgered) settle(ctx context.Context) error {
	owner := &s.opts.Owner
	switch {
	case s.secret == nil || s.content.versions():
	case s.ledger == nil && owner.records(s.secret):
		s.content.TakeOver = handoverOf(s.secret)
		return s.recover(ctx)
	case s.ledger != nil && owner.isCopy(s.secret) && owner.former(s.secret) == s.content.TakeOver.Honored:
		owner.Former = s.content.TakeOver.Honored // whatever happened to the annotation since then
		return s.recover(ctx)
	}
	return nil
}

// String returns the form in which the user's Secret shows the last takeover.
func (h Handover) String() string { return h.Honored + " " + h.At.UTC().Format(time.RFC3339) }

// handoverOf parses what String returned; zero if the Secret does not show it.
func handoverOf(secret *corev1.Secret) Handover {
	from, when, _ := strings.Cut(secret.Annotations[v1alpha1.AnnotationTakeOverHonored], " ")
	at, err := time.Parse(time.RFC3339, when)
	if from == "" || err != nil {
		return Handover{}
	}
	return Handover{Seen: from, Honored: from, At: at.UTC()}
}

// handover describes the adoption of a Secret that was just written: its former owner and the values that were removed. It is
// empty if the Secret was ours or did not exist.
func (o Options) handover(before, now *corev1.Secret) string {
	if before == nil || o.Owner.records(before) {
		return ""
	}
	text := "Secret " + o.secretRef() + ", which " + holder(before) + ", was adopted"
	if gone := keysBeyond(before, func(key string) bool { _, kept := now.Data[key]; return kept }); gone != "" {
		text += "; removed from its data: " + gone
	}
	return text + helmLabel(before, "; its label %s=Helm is now rekey, so remove the Secret from Helm release %s, or the next upgrade of that release fails")
}

// price describes what handing a Secret over costs: values that rekey does not write, and Helm's label.
func (o Options) price(secret *corev1.Secret) string {
	text := ""
	if gone := keysBeyond(secret, func(key string) bool { return len(o.DataKeys) == 0 || slices.Contains(o.DataKeys, key) }); gone != "" {
		text = " (that removes from its data: " + gone + ")"
	}
	return text + helmLabel(secret, " (that replaces its label %s=Helm: remove the Secret from Helm release %s first)")
}

func keysBeyond(secret *corev1.Secret, kept func(string) bool) string {
	const most = 10
	var gone []string
	for key := range secret.Data {
		if !kept(key) {
			gone = append(gone, printable(key))
		}
	}
	slices.Sort(gone)
	if more := len(gone) - most; more > 0 {
		gone = append(gone[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(gone, ", ")
}

func helmLabel(secret *corev1.Secret, format string) string {
	if secret.Labels[v1alpha1.LabelManagedBy] != "Helm" {
		return ""
	}
	release := secret.Annotations[annotationHelmRelease]
	if release == "" {
		release = "that it belongs to"
	}
	return fmt.Sprintf(format, v1alpha1.LabelManagedBy, printable(release))
}
