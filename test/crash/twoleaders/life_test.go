// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"slices"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// event is something that happens in a life from outside.
type event struct {
	name string
	do   func(d *twoLeaders)
	// rotates tells whether the credential has one more version afterwards, and renews the same of the identity.
	rotates, renews bool
}

const (
	day        = 24*time.Hour + time.Minute
	overlapped = time.Hour + 2*time.Minute
)

func passing(by time.Duration) func(d *twoLeaders) { return func(d *twoLeaders) { d.later(by) } }

// later lets time pass.
func (d *twoLeaders) later(by time.Duration) {
	d.note("time: " + by.String() + " pass")
	d.Step(by)
}

// surroundings make what a credential needs.
func (d *twoLeaders) surroundings() []client.Object {
	admin, server := anAdminSecret(), aServer()
	d.database.dress(admin, server)
	d.create(admin, aPolicy(), server)
	return []client.Object{server}
}

// life of a credential whose deletion policy is the given one, and of an identity with its authority.
func life(policy v1alpha1.DeletionPolicy) []event {
	edit := func(change func(login *v1alpha1.DatabaseCredential, identity *v1alpha1.ClientIdentity)) func(d *twoLeaders) {
		return func(d *twoLeaders) {
			login, identity := d.held()
			if login != nil {
				d.edit(login, func() { change(login, &v1alpha1.ClientIdentity{}) })
			}
			if identity != nil {
				d.edit(identity, func() { change(&v1alpha1.DatabaseCredential{}, identity) })
			}
		}
	}
	create := func(d *twoLeaders) {
		if login, _ := d.held(); login != nil {
			d.fillLogin(login, policy)
			d.create(login)
		}
		if _, identity := d.held(); identity != nil {
			fill(identity, anIdentity())
			identity.Namespace, identity.Spec.DeletionPolicy = d.Namespace, policy
			d.create(identity)
		}
	}
	return []event{
		{name: "first issue", do: create, rotates: true, renews: true},
		{name: "scheduled rotation", do: passing(day), rotates: true, renews: true},
		{name: "retirement", do: passing(overlapped)},
		{name: "edit of the spec", rotates: true, renews: true, do: edit(func(login *v1alpha1.DatabaseCredential, identity *v1alpha1.ClientIdentity) {
			login.Spec.Password.Length = 40
			identity.Spec.DNSNames = []v1alpha1.DNSName{"app.example.internal"}
		})},
		{name: "retirement after the edit", do: passing(overlapped)},
		{name: "rotation on request", rotates: true, renews: true, do: edit(func(login *v1alpha1.DatabaseCredential, identity *v1alpha1.ClientIdentity) {
			login.Annotations = map[string]string{v1alpha1.AnnotationRotate: "please"}
			identity.Annotations = map[string]string{v1alpha1.AnnotationRotate: "please"}
		})},
		{name: "retirement on request", do: edit(func(login *v1alpha1.DatabaseCredential, _ *v1alpha1.ClientIdentity) {
			login.Annotations = map[string]string{v1alpha1.AnnotationRotate: "please", v1alpha1.AnnotationRetirePrevious: "now"}
		})},
		{name: "deletion", do: func(d *twoLeaders) { d.deleteAll() }},
		{name: "creation anew", do: create},
	}
}

// authorities is a life in which, after the request, the authorities are edited, deleted and made again. Their key pairs stay, and
// so does every certificate.
func authorities(events []event) []event {
	each := func(d *twoLeaders, do func(o client.Object, spec *v1alpha1.AuthoritySpec)) {
		for _, o := range d.objects {
			switch o := o.(type) {
			case *v1alpha1.CertificateAuthority:
				do(o, &o.Spec)
			case *v1alpha1.ClusterCertificateAuthority:
				do(o, &o.Spec.AuthoritySpec)
			}
		}
	}
	return slices.Insert(events, 6,
		event{name: "edit of the authorities", do: func(d *twoLeaders) {
			each(d, func(o client.Object, spec *v1alpha1.AuthoritySpec) {
				d.edit(o, func() { spec.Constraints.MaxLifetime = lasting(700 * time.Hour) })
			})
		}},
		event{name: "authorities made again", do: func(d *twoLeaders) {
			each(d, func(o client.Object, _ *v1alpha1.AuthoritySpec) {
				d.remove(o)
				d.create(o)
			})
		}})
}

// held gives the credential and the identity that the play is about; nil where it is not.
func (d *twoLeaders) held() (login *v1alpha1.DatabaseCredential, identity *v1alpha1.ClientIdentity) {
	for _, o := range d.objects {
		switch o := o.(type) {
		case *v1alpha1.DatabaseCredential:
			login = o
		case *v1alpha1.ClientIdentity:
			identity = o
		}
	}
	return login, identity
}

func (d *twoLeaders) fillLogin(login *v1alpha1.DatabaseCredential, policy v1alpha1.DeletionPolicy) {
	fill(login, d.aCredential(policy))
	login.Namespace = d.Namespace
}

func (d *twoLeaders) deleteAll() {
	if now := time.Now(); d.Clock.Now().Before(now) {
		// The time of a deletion is real.
		d.later(now.Sub(d.Clock.Now()))
	}
	login, identity := d.held()
	if login != nil {
		d.remove(login)
	}
	if identity != nil {
		d.remove(identity)
	}
}

// interleave lets both processes make passes over whatever dice choose, one effect at a time, in an order that dice choose.
// Now and then one of them dies and begins anew. more is what may happen meanwhile.
func (d *twoLeaders) interleave(passes int, more func()) {
	for _, a := range d.actors {
		a.begin(func() { a.wander(passes) })
	}
	for d.actors[0].stands() || d.actors[1].stands() {
		a := d.actors[d.dice.IntN(len(d.actors))]
		switch {
		case !a.stands():
			continue
		case d.dice.IntN(150) == 0:
			d.note(a.name + ": dies before " + a.about)
			a.restart()
			a.begin(func() { a.wander(passes) })
		default:
			// Not only one step after the other in turn: dice decide how long one goes on.
			for range 1 + d.dice.IntN(6) {
				if !a.step() {
					break
				}
			}
		}
		if d.dice.IntN(20) == 0 {
			d.collect()
		}
		more()
	}
}

// wander makes passes over objects that dice choose.
func (a *actor) wander(passes int) {
	for range passes {
		if a.dead {
			return
		}
		a.pass(a.play.objects[a.play.dice.IntN(len(a.play.objects))])
	}
}

// everything is a play about all kinds at once.
func everything(d *twoLeaders) {
	authority := anAuthority()
	d.objects = []client.Object{authority, &v1alpha1.ClientIdentity{}, &v1alpha1.DatabaseCredential{}}
	d.objects = append(d.objects, d.surroundings()...)
	d.see("get", d.namespace())
	cluster, web := d.aClusterAuthority(), d.aServerIdentity()
	d.create(authority, cluster, web)
	policy := aPolicy()
	policy.Namespace = d.Namespace
	d.objects = append(d.objects, policy, cluster, web)
	// A pass names its object before it was ever made.
	login, identity := d.held()
	d.fillLogin(login, v1alpha1.DeletionRetain)
	fill(identity, anIdentity())
	identity.Namespace = d.Namespace
}

func policyFor(seed uint64) v1alpha1.DeletionPolicy {
	if seed/2%2 == 0 {
		return v1alpha1.DeletionDelete
	}
	return v1alpha1.DeletionRetain
}

// orderly plays a life in which everything comes to rest before the next event.
func orderly(d *twoLeaders, events []event, passes int) {
	everything(d)
	versions, renewals := 0, 0
	for i, e := range events {
		d.note("===== " + e.name)
		e.do(d)
		before, refused := d.watch.effective, d.watch.refused
		d.interleave(passes, func() {})
		d.settle()
		d.rest()
		if wrote, conflicts := d.watch.effective-before, d.watch.refused-refused; wrote > mostWrites || conflicts > mostConflicts {
			d.blame("R8: %d writes and %d conflicts for the %s", wrote, conflicts, e.name)
		}
		if e.rotates {
			versions++
		}
		if e.renews {
			renewals++
		}
		if i < len(events)-2 && (d.watch.versions["orders-db"] != versions || d.watch.versions["app-mtls"] != renewals) {
			d.blame("R12: after the %s there were %d versions of the credential and %d of the identity, want %d and %d", e.name,
				d.watch.versions["orders-db"], d.watch.versions["app-mtls"], versions, renewals)
		}
	}
	d.quiet()
}

// Bounds of what two processes write for one event of a credential, an identity and what they refer to.
const (
	mostWrites    = 60
	mostConflicts = 60
)

// telling are seeds in which the old cache of one process does harm where nobody asks whether the object still says what is
// obeyed. Of any seeds about one in seven does.
var telling = []uint64{25, 26}

func TestTwoProcessesInAnyOrder(t *testing.T) {
	all := seeds(t, sized(10, 14))
	if _, ok := asked(t); !ok {
		all = append(all, telling...)
	}
	each(t, "lives of two processes in any order", all, func(t *testing.T, seed uint64) {
		t.Helper()
		d := newTwoLeaders(t, setup{seed: seed, lags: seed%3 != 0, seesOwn: seed%3 == 1})
		orderly(d, authorities(life(policyFor(seed))), 10)
	})
}

func TestEventsInTheMiddleOfEverything(t *testing.T) {
	each(t, "lives whose events come in the middle", seeds(t, sized(10, 14)), func(t *testing.T, seed uint64) {
		t.Helper()
		d := newTwoLeaders(t, setup{seed: seed, lags: seed%3 != 0, seesOwn: seed%3 == 1})
		everything(d)
		events := authorities(life(policyFor(seed)))
		for len(events) > 0 {
			d.interleave(25, func() {
				if len(events) > 0 && d.dice.IntN(25) == 0 {
					if !d.possible(events[0]) {
						return
					}
					d.note("===== " + events[0].name)
					events[0].do(d)
					events = events[1:]
				}
			})
		}
		d.settle()
		d.rest()
		d.quiet()
	})
}

// possible tells whether what is to be made again is gone.
func (d *twoLeaders) possible(e event) bool {
	if e.name != "creation anew" {
		return true
	}
	_, identity := d.held()
	return d.loginNow() == nil && d.history.now("ClientIdentity", client.ObjectKeyFromObject(identity)) == nil
}

// authoritiesFirst has a process with a clock that is right make the key pairs: an authority from the future signs nothing until
// its time has come, which is told, and which no play waits for.
func (d *twoLeaders) authoritiesFirst(a *actor) {
	defer func(lags bool) { a.lags = lags }(a.lags)
	a.lags = false
	for range 3 {
		for _, o := range d.objects {
			switch o.(type) {
			case *v1alpha1.CertificateAuthority, *v1alpha1.ClusterCertificateAuthority:
				a.pass(o)
			}
		}
	}
}

// A clock that is wrong by seconds is nothing; by more, nothing is retired with it, and nothing rotates more often.
func TestTwoClocksThatDiffer(t *testing.T) {
	for _, skew := range []time.Duration{10 * time.Second, 2 * time.Minute, 2 * time.Hour, -2 * time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			each(t, "lives with clocks that differ", seeds(t, sized(2, 4)), func(t *testing.T, seed uint64) {
				t.Helper()
				d := newTwoLeaders(t, setup{seed: seed, lags: seed%2 != 0, skew: skew})
				everything(d)
				d.authoritiesFirst(d.actors[0])
				versions := 0
				for _, e := range life(v1alpha1.DeletionRetain)[:7] {
					d.note("===== " + e.name)
					e.do(d)
					d.interleave(10, func() {})
					d.settle(d.actors[0])
					d.noOrphans()
					if e.rotates {
						versions++
					}
					if d.watch.versions["orders-db"] > versions {
						d.blame("R12: %d versions of the credential after the %s, want at most %d", d.watch.versions["orders-db"], e.name, versions)
					}
				}
				wrong := d.actors[1]
				wrong.options.Clock, wrong.options.Ahead = d.Clock, 0
				wrong.restart()
				for range 2 {
					d.later(day)
					d.settle()
					d.watch.ahead = 0 // whatever was issued by the wrong clock is issued again
					d.later(overlapped)
					d.settle()
				}
				d.rest()
				d.quiet()
			})
		})
	}
}
