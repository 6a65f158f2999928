// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/test/world"
)

// renewals is the maximum number of renewals in one life that the test checks.
const renewals = 8

// lifetime is a world without faults, with random numbers in its objects.
type lifetime struct {
	*run
	dice   *rand.Rand
	counts map[string]int
	// pinned numbers are used as they are; random ones may be redrawn.
	pinned, drawn []draw

	authority        *v1alpha1.CertificateAuthority
	clusterAuthority *v1alpha1.ClusterCertificateAuthority
	app              *v1alpha1.ClientIdentity
	web              *v1alpha1.ServerIdentity
	policy           *v1alpha1.RotationPolicy
	server           *v1alpha1.DatabaseServer
	orders           *v1alpha1.DatabaseCredential
	lastApp, lastWeb issued
	lastOrders       time.Time
	ordersRevision   int64
	asleep           time.Time
}

// issued is a certificate, and the earliest time at which it may be replaced.
type issued struct {
	serial string
	next   time.Time
}

func (l *lifetime) bad(format string, args ...any) {
	l.Helper()
	l.Errorf("with %v %v: %s", l.pinned, l.drawn, fmt.Sprintf(format, args...))
}

// play runs the life, unless the API server refuses one of the objects.
func (l *lifetime) play() {
	l.Helper()
	l.authority, l.clusterAuthority, l.app, l.web = &v1alpha1.CertificateAuthority{}, &v1alpha1.ClusterCertificateAuthority{}, &v1alpha1.ClientIdentity{}, &v1alpha1.ServerIdentity{}
	l.policy, l.server, l.orders = &v1alpha1.RotationPolicy{}, &v1alpha1.DatabaseServer{}, &v1alpha1.DatabaseCredential{}
	all := map[string]client.Object{"CertificateAuthority": l.authority, "ClusterCertificateAuthority": l.clusterAuthority, "ClientIdentity": l.app, "ServerIdentity": l.web,
		"RotationPolicy": l.policy, "DatabaseServer": l.server, "DatabaseCredential": l.orders}
	for i, kind := range []string{"CertificateAuthority", "ClusterCertificateAuthority", "RotationPolicy", "DatabaseServer", "ClientIdentity", "ServerIdentity", "DatabaseCredential"} {
		if !l.admitted(kind, all[kind]) {
			l.counts["refused"]++
			return
		}
		all[kind].SetUID(types.UID(fmt.Sprint("uid-", i)))
		l.objects = append(l.objects, all[kind])
	}
	l.counts["lives"]++
	admin := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "admin", Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		Data: map[string][]byte{"username": []byte("rotator"), "password": []byte("Admin-password-hW3kQz81"), "host": []byte("db.data:5432")}}
	l.open(append(slices.Clone(l.objects), admin, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "cluster"}}, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	l.live()
	l.expire()
}

// admitted returns the object of a kind with its numbers. If the API server would not store it, the numbers that are not
// pinned are redrawn until it does.
func (l *lifetime) admitted(kind string, object client.Object) bool {
	l.Helper()
	for range 60 {
		content := l.content(kind, slices.Concat(l.pinned, l.drawn))
		text, err := json.Marshal(content)
		if err != nil {
			l.Fatal(err)
		}
		empty := reflect.New(reflect.TypeOf(object).Elem())
		reflect.ValueOf(object).Elem().Set(empty.Elem())
		if err := json.Unmarshal(text, object); err != nil {
			l.Fatal(err)
		}
		err = l.checkers[kind].admit(l.ctx, object)
		if err == nil {
			return true
		}
		if !strings.Contains(err.Error(), "must") {
			l.bad("refused without a fix: %v", err)
		}
		for i, d := range l.drawn {
			if d.kind == kind {
				l.drawn[i].value = d.values[l.dice.IntN(len(d.values))]
			}
		}
	}
	return false
}

// round reconciles every object, and records until when those that rotate want to sleep.
func (l *lifetime) round() {
	l.Helper()
	l.asleep = l.clock.Now().Add(time.Hour)
	rotates := []client.Object{l.app, l.web, l.orders}
	for _, object := range l.objects {
		result, err := l.reconcilers[world.KindOf(object)].Reconcile(l.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object)})
		if err != nil {
			l.bad("a reconcile failed: %v", err)
		}
		if result.RequeueAfter < 0 || result.RequeueAfter > time.Hour {
			l.bad("a reconcile asks to be repeated after %s", result.RequeueAfter)
		}
		if at := l.clock.Now().Add(max(result.RequeueAfter, time.Millisecond)); slices.Contains(rotates, object) && at.Before(l.asleep) {
			l.asleep = at
		}
	}
	for _, object := range l.objects {
		if err := l.client.Get(l.ctx, client.ObjectKeyFromObject(object), object); err != nil {
			l.Fatal(err)
		}
	}
}

// live renews and rotates, from one instant with something to do to the next.
func (l *lifetime) live() {
	l.Helper()
	for range 4 * renewals {
		l.round()
		l.noHotLoop()
		now, next, held := l.clock.Now(), time.Time{}, false
		for _, at := range []*metav1.Time{l.app.Status.RenewalTime, l.web.Status.RenewalTime, l.orders.Status.NextRotationTime, retirement(l.orders)} {
			switch {
			case at == nil:
			case !at.After(now):
				held = true
			case next.IsZero() || at.Time.Before(next):
				next = at.Time
			}
		}
		// Anything that is due and has not happened, or never happened, waits for another reason.
		if held || next.IsZero() || l.app.Status.RenewalTime == nil || l.orders.Status.NextRotationTime == nil {
			if next.IsZero() || l.asleep.Before(next) {
				next = l.asleep
			}
		}
		l.clock.SetTime(next)
	}
}

func retirement(o *v1alpha1.DatabaseCredential) *metav1.Time {
	if o.Status.Previous == nil {
		return nil
	}
	return o.Status.Previous.RetireAfter
}

// noHotLoop compares every change with the previous one of its kind.
func (l *lifetime) noHotLoop() {
	l.Helper()
	now := l.clock.Now()
	certificate := func(name string, status *v1alpha1.IdentityStatus, last *issued) {
		if status.SerialNumber == "" || status.SerialNumber == last.serial {
			return
		}
		l.counts["certificates"]++
		if now.Before(last.next) {
			l.bad("%s is renewed at %s, before the earliest allowed time %s", name, now, last.next)
		}
		lasts := status.NotAfter.Sub(status.NotBefore.Add(pki.Backdate))
		// Only the end of an authority leaves a certificate less time than an orderly renewal needs.
		*last = issued{status.SerialNumber, now.Add(min(max(time.Minute, lasts/10), lasts*2/3) - time.Second)}
		if got, want := status.NotAfter.Time, now; !got.After(want) {
			l.bad("%s is issued at %s, and ends at %s", name, want, got)
		}
	}
	certificate("ClientIdentity", &l.app.Status, &l.lastApp)
	certificate("ServerIdentity", &l.web.Status, &l.lastWeb)
	if l.orders.Status.Revision > l.ordersRevision {
		l.counts["passwords"]++
		spec := l.policy.Spec
		least := spec.Interval.Duration / 100 * time.Duration(100-*spec.JitterPercent)
		if took := now.Sub(l.lastOrders); l.ordersRevision > 0 && took < least-time.Second {
			l.bad("the password is rotated after %s, and the policy allows it after %s at the earliest", took, least)
		}
		l.lastOrders, l.ordersRevision = now, l.orders.Status.Revision
	}
}

var levels = []string{"", "ExpiresSoon", "ExpiresImminently", "Expired"}

func levelOf(conditions []metav1.Condition) int {
	c := apimeta.FindStatusCondition(conditions, v1alpha1.ConditionExpiringSoon)
	if c == nil {
		return 0
	}
	return slices.Index(levels, c.Reason)
}

// expire suspends everything, and approaches the end of each object step by step.
func (l *lifetime) expire() {
	l.Helper()
	l.app.Spec.Suspend, l.web.Spec.Suspend, l.orders.Spec.Suspend = true, true, true
	for _, o := range []client.Object{l.app, l.web, l.orders} {
		if err := l.client.Update(l.ctx, o); err != nil {
			l.Fatal(err)
		}
	}
	l.round()
	ends := map[string]struct {
		at         *metav1.Time
		conditions func() []metav1.Condition
	}{
		"ClientIdentity":              {l.app.Status.NotAfter, func() []metav1.Condition { return l.app.Status.Conditions }},
		"ServerIdentity":              {l.web.Status.NotAfter, func() []metav1.Condition { return l.web.Status.Conditions }},
		"CertificateAuthority":        {l.authority.Status.NotAfter, func() []metav1.Condition { return l.authority.Status.Conditions }},
		"ClusterCertificateAuthority": {l.clusterAuthority.Status.NotAfter, func() []metav1.Condition { return l.clusterAuthority.Status.Conditions }},
	}
	if age := l.policy.Spec.MaxAge; age != nil && l.orders.Status.LastRotationTime != nil {
		end := metav1.NewTime(l.orders.Status.LastRotationTime.Add(age.Duration + time.Second)) // A status has whole seconds.
		ends["DatabaseCredential"] = struct {
			at         *metav1.Time
			conditions func() []metav1.Condition
		}{&end, func() []metav1.Condition { return l.orders.Status.Conditions }}
	}
	now, times := l.clock.Now(), []time.Time{}
	for _, end := range ends {
		at := instantOf(end.at)
		for left := at.Sub(now); left > 10*time.Millisecond; left /= 3 {
			times = append(times, at.Add(-left))
		}
		times = append(times, at)
	}
	if end, ok := ends["DatabaseCredential"]; ok {
		// The end is known to the second only, and a level may be half as long.
		for back := 4 * time.Second; back > 0; back -= 400 * time.Millisecond {
			times = append(times, instantOf(end.at).Add(-back))
		}
	}
	slices.SortFunc(times, time.Time.Compare)
	seen := map[string][]int{}
	for _, at := range times {
		if at.After(l.clock.Now()) {
			l.clock.SetTime(at)
		}
		l.round()
		for name, end := range ends {
			level := levelOf(end.conditions())
			if known := seen[name]; len(known) == 0 || known[len(known)-1] != level {
				seen[name] = append(known, level)
			}
		}
	}
	for name, end := range ends {
		// If nothing was ever published, the conditions say so.
		if got := seen[name]; !instantOf(end.at).IsZero() && (!slices.IsSorted(got) || got[len(got)-1] != 3 || len(got) > 1 && got[len(got)-2] == 0) {
			l.bad("%s, which ends at %s, goes through the levels %q", name, end.at, spelled(got))
		}
	}
	l.overdue()
}

// overdue requires a report about everything that is still suspended.
func (l *lifetime) overdue() {
	l.Helper()
	for name, one := range map[string]struct {
		due        *metav1.Time
		conditions []metav1.Condition
	}{"ClientIdentity": {l.app.Status.RenewalTime, l.app.Status.Conditions}, "ServerIdentity": {l.web.Status.RenewalTime, l.web.Status.Conditions},
		"DatabaseCredential": {l.orders.Status.NextRotationTime, l.orders.Status.Conditions}} {
		if one.due != nil && l.clock.Now().After(one.due.Add(2*time.Hour)) && !apimeta.IsStatusConditionTrue(one.conditions, v1alpha1.ConditionRotationOverdue) {
			l.bad("%s was due at %s, and no condition reports it at %s", name, one.due, l.clock.Now())
		}
	}
}

func instantOf(at *metav1.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.Time
}

func spelled(seen []int) []string {
	var out []string
	for _, level := range seen {
		out = append(out, levels[level])
	}
	return out
}
