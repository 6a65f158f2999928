// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
)

// annotationHelmRelease is on what a Helm release made.
const annotationHelmRelease = "meta.helm.sh/release-name"

// handover says whose a Secret was that we now wrote, and which of its values went; empty where it was ours or nobody's.
func (o Options) handover(before, now *corev1.Secret) string {
	if before == nil || o.Owner.records(before) {
		return ""
	}
	text := "Secret " + o.secretRef() + ", which " + holder(before) + ", was taken over"
	if gone := keysBeyond(before, func(key string) bool { _, kept := now.Data[key]; return kept }); gone != "" {
		text += "; removed from its data: " + gone
	}
	return text + helmLabel(before, "; its label %s=Helm is now rekey, so remove the Secret from Helm release %s, whose next upgrade would refuse it")
}

// price says what handing a Secret over costs: values that rekey does not write, and the label of Helm.
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
