// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
)

func TestARejectedCredentialIsJudgedByItsMarker(t *testing.T) {
	t.Parallel()
	ours := credential.Ref{Cluster: "c", Namespace: "web", Name: "orders"}.Owner()
	cases := map[string]struct {
		mark    credential.Marker
		markErr error
		want    rotation.MarkerState
		row     string
	}{
		"ours":             {mark: credential.Marker{Exists: true, Owner: ours, Seq: 1}, want: rotation.MarkerOurs, row: "reassert"},
		"ours, and newer":  {mark: credential.Marker{Exists: true, Owner: ours, Seq: 9}, want: rotation.MarkerOurs, row: "renumber"},
		"without a marker": {mark: credential.Marker{Exists: true}, want: rotation.MarkerMissing, row: "reassert"},
		"gone":             {want: rotation.MarkerAbsent, row: "reassert"},
		"another owner's":  {mark: credential.Marker{Exists: true, Owner: "c/web/other", Seq: 9}, want: rotation.MarkerForeign, row: "refused"},
		"a cloned cluster": {mark: credential.Marker{Exists: true, Owner: "d/web/orders", Seq: 1}, want: rotation.MarkerForeign, row: "refused"},
		"unread":           {markErr: errors.New("down"), want: rotation.MarkerUnread, row: "refused"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := published(t)
			d.source.answer, d.source.mark, d.source.markErr = credential.Rejected, tc.mark, tc.markErr
			d.wait(time.Hour)
			if out := d.reconcile(); out.Observation.Proof.Rejections != 1 || out.Observation.Marker.State != rotation.MarkerUnread {
				t.Fatalf("after one rejection: %+v", out.Observation.Proof)
			}
			var seen []rotation.Decision
			d.Next = func(o rotation.Observation) rotation.Decision {
				seen = append(seen, rotation.Next(o))
				if len(seen) > 1 && o.Marker.State != tc.want {
					t.Errorf("the marker is %q, want %q", o.Marker.State, tc.want)
				}
				if len(seen) > 1 {
					return rotation.Decision{Step: rotation.StepNone}
				}
				return seen[0]
			}
			d.wait(10 * time.Second)
			out := d.reconcile()
			if tc.markErr != nil {
				if out.FailedStep != rotation.StepProbe || out.Err == nil {
					t.Errorf("failed step %q with %v", out.FailedStep, out.Err)
				}
				// As soon as the marker can be read, the login is set again, without waiting for the next probe of a refused version.
				d.source.mark, d.source.markErr, seen = credential.Marker{Exists: true, Owner: ours, Seq: 1}, nil, nil
				tc.want = rotation.MarkerOurs
				d.wait(10 * time.Second)
				d.reconcile()
				if len(seen) != 2 || seen[1].Row != "reassert" {
					t.Errorf("decisions %+v when the marker can be read again", seen)
				}
				return
			}
			if len(seen) != 2 || seen[1].Row != tc.row {
				t.Errorf("decisions %+v, want the row %q", seen, tc.row)
			}
		})
	}
}

func TestARejectedCredentialWithoutMarkersIsRestored(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.Source = struct{ credential.Source }{d.source}
	d.source.answer = credential.Rejected
	d.wait(time.Hour)
	d.reconcile()
	d.wait(10 * time.Second)
	d.source.calls = nil
	out := d.reconcile()
	if want := []string{"verify 1 a", "stage 1 a", "verify 1 a"}; !cmp.Equal(want, d.source.calls) || out.FailedStep != rotation.StepReassert {
		t.Errorf("calls %v, want %v; failed step %q: %v", d.source.calls, want, out.FailedStep, out.Err)
	}
	d.source.answer = credential.Accepted
	d.wait(time.Minute)
	if out := d.reconcile(); out.Err != nil || out.Observation.Proof.Answer != credential.Accepted {
		t.Errorf("it was not restored: %v, %v", out.Observation.Proof.Answer, out.Err)
	}
}
