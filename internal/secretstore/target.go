// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/rotation"
)

// managedMetadata is the value of rekey.dev/managed-metadata.
type managedMetadata struct {
	Labels      []string `json:"labels,omitempty"`
	Annotations []string `json:"annotations,omitempty"`
}

// String returns the lists as JSON.
func (m managedMetadata) String() string {
	list, err := json.Marshal(m)
	if err != nil {
		panic(err) // lists of strings always become JSON
	}
	return string(list)
}

// PartialError is what Options.Data returns if a part of the data is not known now or not proven yet. A Secret that shows the
// known part is then left unchanged.
type PartialError struct {
	// Known is the known part of the data.
	Known map[string][]byte
	// Otherwise is the data for a Secret that does not show the known part; nil if that is not known, and then Err is the
	// reason.
	Otherwise map[string][]byte
	// Err names what is missing.
	Err error
}

// Error implements error.
func (p *PartialError) Error() string { return p.Err.Error() }

// Unwrap returns the cause.
func (p *PartialError) Unwrap() error { return p.Err }

// wanted returns the user's Secret as it should be: have (nil if it does not exist) with everything that rekey sets.
func (o Options) wanted(have *corev1.Secret, current Record) (*corev1.Secret, error) {
	data, err := o.Data(current)
	if partial := (*PartialError)(nil); errors.As(err, &partial) {
		switch {
		case have != nil && showsAll(have.Data, partial.Known):
			data, err = have.Data, nil
		case partial.Otherwise != nil:
			data, err = partial.Otherwise, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("creating the data of Secret %s: %w", o.secretRef(), err)
	}
	want := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.SecretName},
		Type:       o.SecretType,
	}
	if have != nil {
		want = have.DeepCopy()
	}
	want.Data = data
	want.OwnerReferences = o.ownerReferences(want.OwnerReferences)
	o.setMetadata(&want.ObjectMeta, current.Seq)
	o.addKeystores(have, want, current)
	return want, nil
}

func (o Options) setMetadata(meta *metav1.ObjectMeta, seq int64) {
	labels := maps.Clone(o.Labels)
	annotations := maps.Clone(o.Annotations)
	// A damaged list only means that nothing is removed.
	var before managedMetadata
	_ = json.Unmarshal([]byte(meta.Annotations[v1alpha1.AnnotationManagedMetadata]), &before)
	removeMissing(meta.Labels, before.Labels, labels)
	removeMissing(meta.Annotations, before.Annotations, annotations)

	now := managedMetadata{Labels: slices.Sorted(maps.Keys(labels)), Annotations: slices.Sorted(maps.Keys(annotations))}
	meta.Labels = merged(meta.Labels, labels, o.Owner.labels())
	meta.Annotations = merged(meta.Annotations, annotations, o.Owner.Annotations())
	meta.Annotations[v1alpha1.AnnotationRevision] = strconv.FormatInt(seq, 10)
	if o.honored != "" {
		meta.Annotations[v1alpha1.AnnotationRotateHonored] = o.honored
	}
	delete(meta.Annotations, v1alpha1.AnnotationTakeOverHonored)
	if o.takenOver.Honored != "" {
		meta.Annotations[v1alpha1.AnnotationTakeOverHonored] = o.takenOver.String()
	}
	delete(meta.Annotations, v1alpha1.AnnotationManagedMetadata)
	if len(now.Labels)+len(now.Annotations) > 0 {
		meta.Annotations[v1alpha1.AnnotationManagedMetadata] = now.String()
	}
}

func (o Owner) labels() map[string]string {
	return map[string]string{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy, v1alpha1.LabelKind: o.GVK.Kind}
}

// Annotations returns the annotations that name the owner of a Secret.
func (o Owner) Annotations() map[string]string {
	out := map[string]string{v1alpha1.AnnotationOwner: o.String(), v1alpha1.AnnotationOwnerUID: string(o.UID)}
	if o.Namespace != "" {
		out[v1alpha1.AnnotationOwnerNamespace] = o.Namespace
	}
	if o.Cluster != "" {
		out[v1alpha1.AnnotationOwnerCluster] = o.Cluster
	}
	return out
}

// removeMissing removes what rekey once set and the template no longer has. The list is on the Secret, where others may edit it,
// so it is ignored for rekey's own keys.
func removeMissing(have map[string]string, managed []string, template map[string]string) {
	for _, key := range managed {
		if _, ok := template[key]; !ok && !strings.HasPrefix(key, v1alpha1.Prefix) {
			delete(have, key)
		}
	}
}

func merged[V any](layers ...map[string]V) map[string]V {
	out := map[string]V{}
	for _, layer := range layers {
		maps.Copy(out, layer)
	}
	return out
}

// target compares the user's Secret with the current version and with the spec, and returns the snapshot's part about it. If the
// data cannot be created, the Secret counts as different: the next write reports the cause, and mere readers (to delete, to
// retire) can continue.
func (o Options) target(have *corev1.Secret, current *Record) Snapshot {
	if have == nil {
		return Snapshot{Target: rotation.TargetMissing}
	}
	if conflict := o.conflict(have); conflict != "" {
		return Snapshot{Target: rotation.TargetForeign, Conflict: conflict}
	}
	out := Snapshot{Target: rotation.TargetDiffers}
	if isImmutable(have) {
		out.Immutable = o.immutableConflict()
	}
	if current == nil {
		return out
	}
	want, err := o.wanted(have, *current)
	if err != nil {
		return out
	}
	out.ShowsData = showsData(have.Data, want.Data)
	switch {
	case out.ShowsData && sameMetadata(have.ObjectMeta, want.ObjectMeta):
		out.Target = rotation.TargetShowsCurrent
	case out.ShowsData && sameMetadata(withRecords(have.ObjectMeta, want.ObjectMeta), want.ObjectMeta):
		out.LacksRecords = true
	case !out.ShowsData && isImmutable(have):
		out.Target, out.Conflict = rotation.TargetForeign, out.Immutable
	}
	return out
}

func sameMetadata(a, b metav1.ObjectMeta) bool {
	return equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.OwnerReferences, b.OwnerReferences)
}

// showsData compares the data of a Secret, which StripMaterial may have changed, with what it should hold.
func showsData(have, want map[string][]byte) bool {
	if len(have) != len(want) {
		return false
	}
	for key, value := range want {
		theirs, ok := have[key]
		if !ok || !shows(theirs, value) {
			return false
		}
	}
	return true
}

// showsAll reports whether the Secret has every known value.
func showsAll(have, known map[string][]byte) bool {
	for key, value := range known {
		if theirs, ok := have[key]; !ok || !shows(theirs, value) {
			return false
		}
	}
	return true
}

func isImmutable(secret *corev1.Secret) bool { return secret.Immutable != nil && *secret.Immutable }

// numberOf returns the number of the certificate in a Secret: 0 for one that rekey did not issue, which was in the Secret when
// that was handed over.
func (o Options) numberOf(secret *corev1.Secret) int64 {
	shown := secret.Annotations[v1alpha1.AnnotationRevision]
	if shown == "0" || shown == "" && !o.Owner.records(secret) {
		return 0
	}
	return max(revision(secret), 1)
}

// revision returns the number in the Secret's annotation; 0 if that is missing or impossible.
func revision(secret *corev1.Secret) int64 {
	seq, err := strconv.ParseInt(secret.Annotations[v1alpha1.AnnotationRevision], 10, 64)
	if err != nil || seq < 0 || seq > maxClaimed {
		return 0
	}
	return seq
}
