// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/secretstore"
)

// obstacles are errors that a request of a deletion may get, however often it is sent.
var obstacles = map[string]error{
	"nothing at all":               context.DeadlineExceeded,
	"transient":                    fault.Transient(fault.APIServerFailed, errors.New("away")),
	"pending":                      fault.Pending(time.Hour, errors.New("not yet")),
	"blocked":                      fault.Blocked(fault.AdmissionDenied, errors.New("denied")),
	"permanent":                    fault.Permanent(fault.SecretConflict, errors.New("of another owner")),
	"forbidden":                    refusal.Fault("asking", apierrors.NewForbidden(corev1.Resource("secrets"), "orders-db", errors.New("no right")), nil),
	"a conflict":                   apierrors.NewConflict(corev1.Resource("secrets"), "orders-db", errors.New("written since")),
	"a conflict of this reconcile": Conflict(errors.New("the object was changed since it was read")),
	"an internal server error":     apierrors.NewInternalError(errors.New("etcd")),
}

// places are the requests of a deletion that may meet an obstacle, and what stays if the obstacle never goes away.
var places = map[string]struct {
	meet  func(*drive, error)
	stays func(Remains) bool
}{
	"reading Secret and ledger": {func(d *drive, err error) { d.store.loadErr, d.store.withdrawErr = err, err }, func(r Remains) bool { return r.Remote != nil && r.Kept != nil }},
	"withdrawing them":          {func(d *drive, err error) { d.store.withdrawErr = err }, func(r Remains) bool { return r.Remote == nil && r.Kept != nil }},
	"opening the server":        {func(d *drive, err error) { d.subject.Source, d.subject.SourceErr = nil, err }, func(r Remains) bool { return r.Remote != nil && r.Kept == nil }},
	"dropping the logins":       {func(d *drive, err error) { d.source.removeErr = err }, func(r Remains) bool { return r.Remote != nil && r.Kept == nil }},
	"all of it": {func(d *drive, err error) {
		d.store.withdrawErr, d.source.removeErr = err, err
	}, func(r Remains) bool { return r.Remote != nil && r.Kept != nil }},
}

func TestADeletionEndsEvenIfSomethingNeverAnswers(t *testing.T) {
	t.Parallel()
	for place, where := range places {
		for name, obstacle := range obstacles {
			t.Run(place+"/"+name, func(t *testing.T) {
				t.Parallel()
				d := published(t)
				d.subject.Deleting, d.subject.Delete = true, true
				var left []Remains
				d.subject.ReportRemains = func(_ context.Context, r Remains) error { left = append(left, r); return nil }
				where.meet(d, obstacle)
				reconciles := d.untilWithdrawn(t)
				if waited := d.clock.Since(driveStart); waited < WithdrawPatience || waited > 2*WithdrawPatience+2*withdrawRetry {
					t.Errorf("it was released after %s", waited)
				}
				if reconciles > 1500 {
					t.Errorf("%d reconciles", reconciles)
				}
				if len(left) != 1 || !where.stays(left[0]) {
					t.Errorf("left behind, as it was reported: %+v", left)
				}
			})
		}
	}
}

// untilWithdrawn drives the object whenever it asks for it, until it is released.
func (d *drive) untilWithdrawn(t *testing.T) (reconciles int) {
	t.Helper()
	for reconciles = 1; ; reconciles++ {
		out := d.reconcile()
		if out.Withdrawn {
			return reconciles
		}
		wait := out.NextAttempt.Sub(d.clock.Now())
		if wait <= 0 || wait > withdrawRetry || d.clock.Since(driveStart) > 24*time.Hour {
			t.Fatalf("after %s it waits for %s more: %v", d.clock.Since(driveStart), wait, out.Err)
		}
		d.wait(wait)
	}
}

func TestADeletionEndsAtOnceIfItsNamespaceRemovedTheRights(t *testing.T) {
	t.Parallel()
	for place, where := range places {
		for _, ends := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ends: %t", place, ends), func(t *testing.T) {
				t.Parallel()
				d := published(t)
				d.subject.Deleting, d.subject.Delete = true, true
				d.subject.NamespaceEnds = func(_ context.Context, err error) bool {
					return ends && refusal.Of(err).Kind == refusal.KindForbidden
				}
				where.meet(d, obstacles["forbidden"])
				out := d.reconcile()
				if out.Withdrawn != ends {
					t.Errorf("released at once: %t; %v", out.Withdrawn, out.Err)
				}
				// Secret and ledger are deleted with the namespace; logins are not.
				if left := where.stays(Remains{Remote: errors.New("x")}) || where.stays(Remains{Remote: errors.New("x"), Kept: errors.New("x")}); ends && left != (out.Remains != "") {
					t.Errorf("left behind: %q", out.Remains)
				}
			})
		}
	}
}

// The time of a deletion is from the API server's clock: ours may be wrong in either direction.
func TestAWrongClockNeitherEndsNorDelaysADeletion(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		off   time.Duration // of the API server's clock from ours
		known bool
	}{
		"ours is right":                      {0, true},
		"ours is ahead by ten minutes":       {-10 * time.Minute, true},
		"ours is ahead by a year":            {-365 * 24 * time.Hour, true},
		"ours is behind by ten minutes":      {10 * time.Minute, true},
		"ours is behind by a year":           {365 * 24 * time.Hour, true},
		"no time of the API server is known": {0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := published(t)
			d.Skew = func() (time.Duration, bool) { return tc.off, tc.known }
			d.subject.Deleting, d.subject.Delete = true, true
			d.subject.WithdrawDeadline = d.clock.Now().Add(tc.off).Add(WithdrawPatience)
			d.source.removeErr = errors.New("down")
			started := d.clock.Now()
			d.untilWithdrawn(t)
			if waited := d.clock.Since(started); waited < WithdrawPatience-time.Minute || waited > WithdrawPatience+2*withdrawRetry {
				t.Errorf("it was released after %s", waited)
			}
		})
	}
}

// Removing the finalizer may be refused for long. Meanwhile nothing is cleaned up or reported twice, and once it is admitted
// the object is released.
func TestARefusedFinalizerIsRemovedAsSoonAsAdmissionAllowsIt(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.Deleting, d.subject.Delete = true, true
	reported, refused := 0, true
	d.subject.ReportRemains = func(context.Context, Remains) error { reported++; return nil }
	d.subject.Release = func(context.Context) error {
		if refused {
			return obstacles["blocked"]
		}
		return nil
	}
	noSource(fault.ServerNotFound)(d)
	reconciles := 0
	for d.clock.Since(driveStart) < 24*time.Hour {
		out := d.reconcile()
		if out.Withdrawn || fault.ReasonOf(out.Err, "") != fault.AdmissionDenied {
			t.Fatalf("withdrawn %t, %v", out.Withdrawn, out.Err)
		}
		if reconciles++; out.NextAttempt.Sub(d.clock.Now()) > withdrawRetry {
			t.Fatalf("it is retried only after %s", out.NextAttempt.Sub(d.clock.Now()))
		}
		d.wait(out.NextAttempt.Sub(d.clock.Now()))
	}
	if reported != 1 || d.store.withdrawals != 1 || reconciles > 24*60+20 {
		t.Errorf("reported %d times, withdrawn %d times, in %d runs", reported, d.store.withdrawals, reconciles)
	}
	refused = false
	if out := d.reconcile(); !out.Withdrawn || reported != 1 {
		t.Errorf("withdrawn %t, reported %d times: %v", out.Withdrawn, reported, out.Err)
	}
}

// The same if the ledger is a copy of another owner's: what carries the deleted object's own marker is removed or reported.
func TestADeletionWithACopiedLedgerEndsLikeAnyOther(t *testing.T) {
	t.Parallel()
	for place, meet := range map[string]func(*drive, error){
		"opening the server":  func(d *drive, err error) { d.subject.Source, d.subject.SourceErr = nil, err },
		"dropping the logins": func(d *drive, err error) { d.source.removeErr = err },
	} {
		for name, obstacle := range obstacles {
			t.Run(place+"/"+name, func(t *testing.T) {
				t.Parallel()
				d := published(t)
				d.store.loadErr = fault.Permanent(fault.Fenced, errors.New("the ledger is a copy"))
				d.subject.Deleting, d.subject.Delete = true, true
				var left []Remains
				d.subject.ReportRemains = func(_ context.Context, r Remains) error { left = append(left, r); return nil }
				meet(d, obstacle)
				d.untilWithdrawn(t)
				if waited := d.clock.Since(driveStart); waited < WithdrawPatience || waited > 2*WithdrawPatience+2*withdrawRetry {
					t.Errorf("it was released after %s", waited)
				}
				if len(left) != 1 || left[0].Remote == nil || left[0].Kept != nil || !left[0].Copied {
					t.Errorf("left behind, as it was reported: %+v", left)
				}
			})
		}
	}
	for _, deletes := range []bool{true, false} {
		d := published(t)
		d.store.loadErr = fault.Permanent(fault.Fenced, errors.New("the ledger is a copy"))
		d.subject.Deleting, d.subject.Delete = true, deletes
		d.subject.ReportRemains = func(_ context.Context, r Remains) error { t.Errorf("reported %+v", r); return nil }
		if out := d.reconcile(); !out.Withdrawn || (len(d.source.calls) > 0) != deletes {
			t.Errorf("delete %t: withdrawn %t, calls %q: %v", deletes, out.Withdrawn, d.source.calls, out.Err)
		}
	}
}

// Without its traits it is unknown whether the remote system holds anything of the credential, so the logins are named.
func TestADeletionWithUnknownTraitsNamesTheLogins(t *testing.T) {
	t.Parallel()
	for name, loadErr := range map[string]error{
		"the ledger can be read":      nil,
		"the ledger cannot be judged": fault.Permanent(fault.LedgerInvalid, errors.New("it has logins that the spec does not derive")),
	} {
		for unknown, want := range map[bool]bool{true: true, false: false} {
			t.Run(fmt.Sprintf("%s, unknown traits %t", name, unknown), func(t *testing.T) {
				t.Parallel()
				d := published(t)
				d.subject.Deleting, d.subject.Delete = true, true
				d.subject.Traits, d.subject.TraitsUnknown = credential.Traits{}, unknown
				d.subject.Source, d.subject.SourceErr = nil, fault.Permanent(fault.EngineMismatch, errors.New("spec has no block"))
				d.store.loadErr = loadErr
				var left []Remains
				d.subject.ReportRemains = func(_ context.Context, r Remains) error { left = append(left, r); return nil }
				d.untilWithdrawn(t)
				if got := len(left) == 1 && left[0].Remote != nil; got != want {
					t.Errorf("left behind, as it was reported: %+v", left)
				}
			})
		}
	}
}

func TestWithdraw(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		prepare   func(*drive)
		withdrawn bool
		remains   string
		calls     []string
		err       fault.Reason
	}{
		"retained: nothing remote is touched":            {prepare: func(d *drive) { d.subject.Delete = false }, withdrawn: true},
		"deleted: both logins are dropped":               {prepare: func(*drive) {}, withdrawn: true, calls: []string{"remove a", "remove b"}},
		"no ledger and no server: reported":              {prepare: func(d *drive) { d.store.now.Ledger = secretstore.Ledger{}; d.subject.Source = nil }, withdrawn: true, remains: "removing the logins"},
		"the server object is gone: released at once":    {prepare: noSource(fault.ServerNotFound), withdrawn: true, remains: "ServerNotFound"},
		"the admin Secret is gone: released at once":     {prepare: noSource(fault.SecretNotFound), withdrawn: true, remains: "SecretNotFound"},
		"the server is down: retried":                    {prepare: func(d *drive) { d.source.removeErr = fault.Transient(fault.ServerUnreachable, errors.New("down")) }, calls: []string{"remove a"}, err: fault.ServerUnreachable},
		"the server is down for too long: released":      {prepare: func(d *drive) { d.source.removeErr = errors.New("down"); d.wait(10 * time.Minute) }, withdrawn: true, remains: "down", calls: []string{"remove a", "remove b"}},
		"a ledger that cannot be read: released at once": {prepare: func(d *drive) { d.store.loadErr = fault.Permanent(fault.LedgerInvalid, errors.New("damaged")) }, withdrawn: true, remains: "damaged"},
		"the API server is down: retried":                {prepare: func(d *drive) { d.store.withdrawErr = fault.Transient(fault.APIServerFailed, errors.New("down")) }, calls: []string{"remove a", "remove b"}, err: fault.APIServerFailed},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := published(t)
			d.subject.Deleting, d.subject.Delete = true, true
			tc.prepare(d)
			out := d.reconcile()
			if out.Withdrawn != tc.withdrawn || (d.store.withdrawals == 1) != tc.withdrawn {
				t.Errorf("withdrawn %t with %d withdrawals, want %t; %v", out.Withdrawn, d.store.withdrawals, tc.withdrawn, out.Err)
			}
			if (tc.remains == "") != (out.Remains == "") || !strings.Contains(out.Remains, tc.remains) {
				t.Errorf("left behind %q, want %q", out.Remains, tc.remains)
			}
			if diff := cmp.Diff(tc.calls, d.source.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if got := fault.ReasonOf(out.Err, ""); got != tc.err {
				t.Errorf("error %v, want the reason %q", out.Err, tc.err)
			}
			if !tc.withdrawn && out.NextAttempt.Sub(d.clock.Now()) > time.Minute {
				t.Errorf("it is retried only at %s", out.NextAttempt)
			}
		})
	}
}

// If a source cannot drop what it created, every version is retired, so that no secret outlives its object.
func TestADeletionRetiresWhatItsSourceCannotDrop(t *testing.T) {
	t.Parallel()
	overlapping := []string{"retire 1 a", "retire 2 b"}
	for name, tc := range map[string]struct {
		prepare   func(*drive)
		withdrawn bool
		remains   string
		calls     []string
	}{
		"each version is retired":            {prepare: func(*drive) {}, withdrawn: true, calls: overlapping},
		"nothing was ever created":           {prepare: func(d *drive) { d.store.now.Ledger = secretstore.Ledger{} }, withdrawn: true},
		"the remote system is down: retried": {prepare: func(d *drive) { d.source.retireErr = errors.New("down") }, calls: overlapping[:1]},
		"it is down for too long: reported":  {prepare: func(d *drive) { d.source.retireErr = errors.New("down"); d.wait(10 * time.Minute) }, withdrawn: true, remains: "down", calls: overlapping},
		"the ledger is lost: reported": {prepare: func(d *drive) {
			d.store.now.Ledger, d.subject.Served = secretstore.Ledger{}, true
			d.wait(10 * time.Minute)
		}, withdrawn: true, remains: "the ledger is lost"},
		"the logins are retained": {prepare: func(d *drive) { d.subject.Delete = false }, withdrawn: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := published(t)
			d.subject.Rotate = "now"
			if out := d.reconcile(); out.Snapshot.Ledger.Previous == nil {
				t.Fatalf("there is no previous version: %v", out.Err)
			}
			d.source.calls = nil
			d.subject.Deleting, d.subject.Delete, d.subject.Source = true, true, struct{ credential.Source }{d.source}
			tc.prepare(d)
			out := d.reconcile()
			if out.Withdrawn != tc.withdrawn || (tc.remains == "") != (out.Remains == "") || !strings.Contains(out.Remains, tc.remains) {
				t.Errorf("withdrawn %t, left behind %q: %v", out.Withdrawn, out.Remains, out.Err)
			}
			if diff := cmp.Diff(tc.calls, d.source.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func noSource(reason fault.Reason) func(*drive) {
	return func(d *drive) {
		d.subject.Source, d.subject.SourceErr = nil, fault.Blocked(reason, errors.New("there is no "+string(reason)))
	}
}

func TestAWithdrawnObjectIsForgotten(t *testing.T) {
	t.Parallel()
	d := published(t)
	d.subject.Deleting = true
	d.reconcile()
	if len(d.Attempts.byUID) != 0 {
		t.Error("a deleted object is remembered")
	}
}
