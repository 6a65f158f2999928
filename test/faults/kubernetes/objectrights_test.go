// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// estateOfRights is one object of every kind, and one process with the rights of the shipped roles, on an API server that
// enforces them.
type estateOfRights struct {
	*scene
	account  *account
	login    *v1alpha1.DatabaseCredential
	identity *v1alpha1.ClientIdentity
	server   *v1alpha1.ServerIdentity
	objects  []client.Object
	refused  map[access.Right]int
}

func newEstateOfRights(t *testing.T, secrets string) *estateOfRights {
	t.Helper()
	s := &scene{World: world.New(t, nil), t: t, requests: map[string]int{}}
	e := &estateOfRights{scene: s, account: newAccount(t, s.Client, s.Namespace, roleOfKinds, secrets), refused: map[access.Right]int{},
		login: aCredential("orders"), identity: fixture.ClientIdentity("app")}
	s.restart(world.Options{As: e.account.client()})
	s.setHook(func(_ context.Context, _ world.Request, do func() error) error {
		err := do()
		if right, ok := access.Missing(err); ok {
			e.refused[right]++
		}
		return err
	})
	everywhere := fixture.ClusterAuthority("of-"+s.Namespace, func(a *v1alpha1.ClusterCertificateAuthority) {
		a.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.Namespace}}
	})
	e.server = fixture.ServerIdentity("api", func(i *v1alpha1.ServerIdentity) {
		i.Spec.AuthorityRef = v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: v1alpha1.ObjectName(everywhere.Name)}
	})
	// Both own their Secrets, which requires the right to set their finalizers.
	own := anAuthority()
	own.Spec.DeletionPolicy, everywhere.Spec.DeletionPolicy = v1alpha1.DeletionDelete, v1alpha1.DeletionDelete
	e.objects = []client.Object{own, everywhere, aPolicy(), aServer(), e.identity, e.server, e.login}
	return e
}

func (e *estateOfRights) begin() {
	e.t.Helper()
	e.Create(append([]client.Object{fixture.AdminSecret()}, e.objects...)...)
}

// together plays all objects in parallel for a while, each reconcile when the previous one requested it. It returns the number
// of reconciles. No reconcile may hang.
func (e *estateOfRights) together(during time.Duration, after ...func()) int {
	e.t.Helper()
	end, next, reconciles := e.Clock.Now().Add(during), map[client.Object]time.Time{}, 0
	for _, o := range e.objects {
		next[o] = e.Clock.Now()
	}
	for ; len(next) > 0; reconciles++ {
		var first client.Object
		for _, o := range e.objects {
			if at, ok := next[o]; ok && (first == nil || at.Before(next[first])) {
				first = o
			}
		}
		if !next[first].Before(end) {
			break
		}
		e.Clock.SetTime(next[first])
		started := time.Now()
		wait := e.reconcile(first)
		if took := time.Since(started); took > slowest {
			e.t.Errorf("a reconcile of %s %s took %s", world.KindOf(first), first.GetName(), took)
		}
		for _, check := range after {
			check()
		}
		if delete(next, first); wait > 0 {
			next[first] = e.Clock.Now().Add(wait)
		}
		if reconciles > 5000 {
			e.t.Fatalf("%s %s never settles:%s", world.KindOf(first), first.GetName(), describe(first))
		}
	}
	e.Clock.SetTime(end)
	return reconciles
}

// reported reports whether any object has a condition that reports the missing right and the manifest that grants it.
func (e *estateOfRights) reported(g grant) bool {
	for _, o := range e.objects {
		for _, c := range fixture.Conditions(o) {
			for _, right := range []access.Right{g.right(e.Namespace), g.right("")} {
				if strings.Contains(c.Message, "rekey may not "+right.String()) && strings.Contains(c.Message, right.Grant()) {
					return true
				}
			}
		}
	}
	return false
}

func (e *estateOfRights) describeAll() string {
	var out strings.Builder
	for _, o := range e.objects {
		fmt.Fprintf(&out, "\n%s %s%s", world.KindOf(o), o.GetName(), describe(o))
	}
	return out.String()
}

func (e *estateOfRights) refusals() int {
	n := 0
	for _, count := range e.refused {
		n += count
	}
	return n
}

// works returns which published credentials do not work.
func (e *estateOfRights) works() string {
	if secret := e.find(string(e.login.Spec.SecretName)); !e.accepted(secret) {
		return "the published login is rejected"
	}
	for _, name := range []v1alpha1.ObjectName{e.identity.Spec.SecretName, e.server.Spec.SecretName} {
		if secret := e.find(string(name)); secret == nil || len(secret.Data["tls.crt"]) == 0 || len(secret.Data["tls.key"]) == 0 {
			return "Secret " + string(name) + " lost its certificate"
		}
	}
	return ""
}

// recovered checks that every object is in order, without any report of a right.
func (e *estateOfRights) recovered() {
	e.t.Helper()
	for _, o := range e.objects {
		if !healthy(o) || strings.Contains(describe(o), "rekey may not") {
			e.t.Errorf("the right was restored more than an hour ago, but %s %s is not healthy:%s", world.KindOf(o), o.GetName(), describe(o))
		}
	}
	if problem := e.works(); problem != "" {
		e.t.Error("in the end: " + problem)
	}
}

// moments are the moments of a life at which a right is removed.
var moments = map[string]func(e *estateOfRights, g grant){
	"from the start": func(e *estateOfRights, g grant) {
		e.account.remove(g)
		e.begin()
		e.missing(g, nil)
		if strings.HasSuffix(g.resource, "/status") {
			if problem := e.works(); problem != "" {
				e.t.Errorf("an unwritable status blocked the work: %s", problem)
			}
		}
		e.account.restore()
		e.together(70 * time.Minute)
		e.recovered()
	},
	"before everything is due": func(e *estateOfRights, g grant) {
		e.settledEstate()
		e.account.remove(g)
		e.Step(interval + time.Minute)
		e.missing(g, e.works)
		e.account.restore()
		e.together(70 * time.Minute)
		e.recovered()
		if e.login.Status.Revision < 2 || e.identity.Status.Revision < 2 || e.server.Status.Revision < 2 {
			e.t.Errorf("the right was restored, but what was due is not done: revisions %d, %d, %d", e.login.Status.Revision, e.identity.Status.Revision, e.server.Status.Revision)
		}
	},
	"in the overlap": func(e *estateOfRights, g grant) {
		e.settledEstate()
		e.Edit(e.login, func() { metav1.SetMetaDataAnnotation(&e.login.ObjectMeta, v1alpha1.AnnotationRotate, "now") })
		e.settle(e.login)
		if len(e.open(e.login)) != 2 {
			e.t.Fatalf("there is no overlap:%s", describe(e.login))
		}
		e.account.remove(g)
		e.missing(g, e.works)
		e.account.restore()
		e.together(70 * time.Minute)
		e.recovered()
		if open := e.open(e.login); len(open) != 1 {
			e.t.Errorf("the right was restored, but %v are still accepted", open)
		}
	},
	"at a deletion with Retain": func(e *estateOfRights, g grant) { e.checkDeletion(g, v1alpha1.DeletionRetain) },
	"at a deletion with Delete": func(e *estateOfRights, g grant) { e.checkDeletion(g, v1alpha1.DeletionDelete) },
}

func (e *estateOfRights) settledEstate() {
	e.t.Helper()
	e.begin()
	e.together(15 * time.Minute)
	for _, o := range e.objects {
		if !healthy(o) {
			e.t.Fatalf("%s %s is not healthy before any right is removed:%s", world.KindOf(o), o.GetName(), describe(o))
		}
	}
	e.Events()
	e.refused = map[access.Right]int{}
}

// missing plays a while without the right: everything that works keeps working, the missing right is reported, and the number
// of requests is bounded.
func (e *estateOfRights) missing(g grant, works func() string) {
	e.t.Helper()
	e.counted()
	harmed := ""
	reconciles := e.together(30*time.Minute, func() {
		if works != nil && harmed == "" {
			harmed = works()
		}
	})
	if harmed != "" {
		e.t.Errorf("without the right %s", harmed)
	}
	writes, all := e.counted()
	if writes > 250 || all > 2500 {
		e.t.Errorf("half an hour of seven objects took %d writes and %d requests", writes, all)
	}
	e.t.Logf("%d reconciles, %d writes, %d requests, %d refused", reconciles, writes, all, e.refusals())
	if e.refusals() > 0 && !strings.HasSuffix(g.resource, "/status") && !e.reported(g) {
		e.t.Errorf("%d requests were refused, but no condition reports that rekey may not %s:%s", e.refusals(), g.right(e.Namespace), e.describeAll())
	}
}

// checkDeletion checks that a deletion finishes in bounded time, or immediately once the object can be updated again.
func (e *estateOfRights) checkDeletion(g grant, policy v1alpha1.DeletionPolicy) {
	e.t.Helper()
	e.login.Spec.DeletionPolicy, e.identity.Spec.DeletionPolicy = policy, policy
	e.settledEstate()
	e.account.remove(g)
	e.Delete(e.login)
	e.Delete(e.identity)
	e.together(25 * time.Minute)
	gone := func() bool {
		return apierrors.IsNotFound(e.Client.Get(e.Ctx, client.ObjectKeyFromObject(e.login), &v1alpha1.DatabaseCredential{}))
	}
	itself := g.verb == "update" && g.resource == "databasecredentials"
	if gone() == itself {
		e.t.Errorf("25 minutes after the deletion: gone is %v:%s", gone(), describe(e.login))
	}
	if itself && !e.reported(g) {
		e.t.Errorf("the deletion waits, but nothing reports why:%s", describe(e.login))
	}
	events := e.Events()
	if open := e.open(e.login); policy == v1alpha1.DeletionDelete && len(open) > 0 && !with(events, "CleanupIncomplete", "rekey may not "+g.verb) {
		e.t.Errorf("%v remain, but no Event reports why: %v", open, events)
	}
	e.account.restore()
	e.together(2 * time.Minute)
	if !gone() {
		e.t.Errorf("the right was restored, but the object still exists:%s", describe(e.login))
	}
}

// I9, T1: every right that the shipped roles grant is removed on a real API server, at every moment of a life: nothing hangs,
// nothing that works is harmed, one condition names the right and its manifest, and all is well once it is restored.
// TestEveryMissingManagerRightIsReported covers the rights that only a manager uses (lists, watches, Events, leases).
func TestEveryMissingRightIsReportedAndHarmsNothing(t *testing.T) {
	type played struct {
		grant
		secrets, moment string
	}
	var all []played
	for _, secrets := range []string{roleOfSecrets, roleOfTenant} {
		for _, g := range grantsOf(t, roleOfKinds, secrets) {
			if g.sweep() != sweepOfPasses {
				continue
			}
			if g.role == roleOfKinds && secrets == roleOfTenant && size.Number(0, 1) == 0 {
				continue
			}
			for moment := range moments {
				all = append(all, played{g, secrets, moment})
			}
		}
	}
	slices.SortFunc(all, func(a, b played) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	chance := size.Random(t, 0)
	chance.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	tried := all[:min(len(all), size.Number(20, len(all)))]
	counts := map[string]int{}
	for _, p := range tried {
		counts[p.verb]++
		counts[p.moment]++
	}
	t.Logf("%d of %d combinations of right and moment: %v", len(tried), len(all), counts)
	for _, p := range tried {
		t.Run(fmt.Sprintf("%s, %s, %s", p.grant, p.moment, strings.Split(p.secrets, "/")[0]), func(t *testing.T) {
			t.Parallel()
			moments[p.moment](newEstateOfRights(t, p.secrets), p.grant)
		})
	}
}
