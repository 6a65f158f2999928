// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
)

// These are the events of a life.

// created creates the object, or recreates it.
func created(r *run) {
	r.object = r.life.kind.object(r)
	if r.prepare != nil {
		r.prepare(r.object)
	}
	r.create(r.object)
}

func deleted(r *run) { r.must(r.Client.Delete(r.Ctx, r.object)) }

// timePasses lets time pass.
func timePasses(d time.Duration) func(*run) {
	return func(r *run) { r.clock.SetTime(r.clock.Now().Add(d)) }
}

// annotated sets an annotation to a new value.
func annotated(annotation string) func(*run) {
	return func(r *run) {
		r.edit(func() {
			all := r.object.GetAnnotations()
			if all == nil {
				all = map[string]string{}
			}
			all[annotation] = fmt.Sprintf("%s again", all[annotation])
			r.object.SetAnnotations(all)
		})
	}
}

// edited changes the object; the type is that of its kind.
func edited[O client.Object](change func(O)) func(*run) {
	return func(r *run) { r.edit(func() { change(r.object.(O)) }) }
}

// withPolicy creates the object with a deletion policy.
func withPolicy(policy v1alpha1.DeletionPolicy) func(*run) {
	return func(r *run) {
		r.prepare = func(o client.Object) { setPolicy(o, policy) }
		created(r)
	}
}

func setPolicy(o client.Object, policy v1alpha1.DeletionPolicy) {
	switch o := o.(type) {
	case *v1alpha1.DatabaseCredential:
		o.Spec.DeletionPolicy = policy
	case *v1alpha1.ClientIdentity, *v1alpha1.ServerIdentity:
		spec, _ := identityOf(o)
		spec.DeletionPolicy = policy
	default:
		specOf(o).DeletionPolicy = policy
	}
}

// handDeleted deletes a Secret, like a user by mistake.
func handDeleted(name func(*run) string) func(*run) {
	return func(r *run) {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: name(r)}}
		r.must(r.Client.Delete(r.Ctx, secret))
	}
}

func secretLost(r *run) {
	handDeleted(func(r *run) string { return r.id + "-secret" })(r)
	r.published = false
}

func ledgerLost(r *run) {
	handDeleted(func(r *run) string { return secretstore.LedgerName("DatabaseCredential", r.id) })(r)
	r.forgotten = true
}

// changed changes the published login at the server, behind rekey's back. Afterwards the published password is rejected.
func changed(statement string) func(*run) {
	return func(r *run) {
		current := r.ledger().Current
		_, err := r.conn.Exec(r.Ctx, fmt.Sprintf(statement, current.Material.String(credential.KeyUsername)))
		r.must(err)
		r.refused, r.worksFrom = true, current.Seq
	}
}

// inherited is a life that started in another cluster: ledger, Secret and markers name that cluster, and a user hands them
// over.
func inherited(r *run) {
	const former = "another-cluster"
	for _, name := range []string{r.id + "-secret", secretstore.LedgerName("DatabaseCredential", r.id)} {
		secret := r.secret(name)
		secret.Annotations[v1alpha1.AnnotationOwnerCluster] = former
		r.must(r.Client.Update(r.Ctx, secret))
	}
	for login := range r.roles() {
		_, err := r.conn.Exec(r.Ctx, fmt.Sprintf("DO $$ BEGIN EXECUTE format('COMMENT ON ROLE %%I IS %%L', '%[1]s', "+
			"regexp_replace(shobj_description('%[1]s'::regrole, 'pg_authid'), '^rekey [^/]+/', 'rekey %[2]s/')); END $$", login, former))
		r.must(err)
	}
	r.edit(func() { r.object.SetAnnotations(map[string]string{v1alpha1.AnnotationTakeOverFrom: former}) })
}

// unannotated removes every annotation.
func unannotated(r *run) { r.edit(func() { r.object.SetAnnotations(nil) }) }

const (
	anotherPassword = "ALTER ROLE %s PASSWORD 'set by another user'"
	droppedLogin    = "DROP ROLE %s"
)

// leavingNow ends the promise that the published login works, because it is being dropped on purpose.
func leavingNow(r *run) {
	r.leaving = true
	deleted(r)
}

// interrupted starts a rotation whose process dies once the new login is staged.
func interrupted(r *run) {
	annotated(v1alpha1.AnnotationRotate)(r)
	r.diesAfter("Stage")
}

var (
	first    = phase{created, want{revision: 1}}
	rotated  = phase{annotated(v1alpha1.AnnotationRotate), want{revision: 2, previous: true}}
	issuedBy = phase{annotated(v1alpha1.AnnotationRotate), want{revision: 2}}
	gone     = want{gone: true}
)

func longer(o *v1alpha1.DatabaseCredential) { o.Spec.Password.Length = 48 }

func theLives() []life {
	out := slicesOf(policyLives(), serverLives(),
		authorityLives(certificateAuthority), authorityLives(clusterCertificateAuthority),
		identityLives(clientIdentity), identityLives(serverIdentity), credentialLives())
	return out
}

func slicesOf(parts ...[]life) []life {
	var out []life
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

func credentialLives() []life {
	of := func(name string, begin, story []phase) life {
		return life{kind: databaseCredential, name: name, begin: begin, story: story}
	}
	beside := func(name string, begin, story []phase) life {
		l := of(name, begin, story)
		l.beside = true
		return l
	}
	old, young := []phase{first, rotated}, []phase{first}
	return []life{
		of("first issue", nil, []phase{first}),
		of("scheduled rotation", young, []phase{{timePasses(24 * time.Hour), rotated.want}, {timePasses(2 * time.Hour), want{revision: 2}}}),
		of("spec edit", young, []phase{{edited(longer), rotated.want}}),
		of("rotate-now", young, []phase{rotated}),
		beside("rotate-now during the overlap", old, []phase{{annotated(v1alpha1.AnnotationRotate), rotated.want}, {timePasses(2 * time.Hour), want{revision: 3, previous: true}}}),
		of("retire", old, []phase{{annotated(v1alpha1.AnnotationRetirePrevious), want{revision: 2}}}),
		beside("spec edit during a rotation", []phase{first, {happens: interrupted, want: want{anything: true}}}, []phase{{edited(longer), want{revision: 3, previous: true}}}),
		beside("Secret deleted by hand", old, []phase{{secretLost, rotated.want}}),
		beside("ledger deleted by hand", young, []phase{{ledgerLost, first.want}}),
		beside("password changed at the server", young, []phase{{changed(anotherPassword), first.want}}),
		beside("login dropped at the server", young, []phase{{changed(droppedLogin), first.want}}),
		beside("handed over from another cluster", young, []phase{{inherited, first.want}, {unannotated, first.want}}),
		of("deletion, Retain", old, []phase{{deleted, want{gone: true, revision: 2, previous: true}}}),
		of("deletion, Delete", []phase{{withPolicy(v1alpha1.DeletionDelete), first.want}, rotated}, []phase{{leavingNow, gone}}),
		beside("deletion, Delete, during the first issue", []phase{{happens: func(r *run) {
			withPolicy(v1alpha1.DeletionDelete)(r)
			r.diesAfter("Stage")
		}, want: want{anything: true}}}, []phase{{leavingNow, gone}}),
		of("delete and recreate", old, []phase{{deleted, gone}, {created, rotated.want}}),
	}
}

func identityLives(k kind) []life {
	of := func(name string, begin, story []phase) life {
		return life{kind: k, name: name, begin: begin, story: story}
	}
	young := []phase{first}
	rename := func(r *run) {
		r.edit(func() {
			spec, _ := identityOf(r.object)
			spec.DNSNames = append(spec.DNSNames, "b.example.internal")
		})
	}
	return []life{
		of("first issue", nil, []phase{first}),
		of("scheduled renewal", young, []phase{{timePasses(17 * time.Hour), want{revision: 2}}}),
		of("spec edit", young, []phase{{rename, want{revision: 2}}}),
		of("rotate-now", young, []phase{issuedBy}),
		of("deletion policy edited", young, []phase{{func(r *run) { r.edit(func() { setPolicy(r.object, v1alpha1.DeletionDelete) }) }, first.want}}),
		of("deletion, Retain", young, []phase{{deleted, gone}}),
		of("deletion, Delete", []phase{{withPolicy(v1alpha1.DeletionDelete), first.want}}, []phase{{deleted, gone}}),
		of("delete and recreate", young, []phase{{deleted, gone}, first}),
	}
}

func authorityLives(k kind) []life {
	of := func(name string, begin, story []phase) life {
		return life{kind: k, name: name, begin: begin, story: story}
	}
	young := []phase{{happens: created}}
	return []life{
		of("first issue", nil, young),
		of("spec edit", young, []phase{{happens: func(r *run) {
			r.edit(func() { specOf(r.object).Constraints.Organizations = []v1alpha1.NamePattern{"Example"} })
		}}}),
		of("deletion policy edited", young, []phase{{happens: func(r *run) { r.edit(func() { setPolicy(r.object, v1alpha1.DeletionDelete) }) }}}),
		of("deletion, Retain", young, []phase{{deleted, gone}}),
		of("deletion, Delete", []phase{{happens: withPolicy(v1alpha1.DeletionDelete)}}, []phase{{deleted, gone}}),
		of("delete and recreate", young, []phase{{deleted, gone}, {happens: created}}),
	}
}

func serverLives() []life {
	of := func(name string, begin, story []phase) life {
		return life{kind: databaseServer, name: name, begin: begin, story: story}
	}
	young := []phase{{happens: created}}
	return []life{
		of("first reconcile", nil, young),
		of("spec edit", young, []phase{{happens: edited(func(o *v1alpha1.DatabaseServer) { o.Spec.AllowedUsernames = append(o.Spec.AllowedUsernames, "other_*") })}}),
		of("deletion", young, []phase{{deleted, gone}}),
	}
}

func policyLives() []life {
	of := func(name string, begin, story []phase) life {
		return life{kind: rotationPolicy, name: name, begin: begin, story: story}
	}
	young := []phase{{happens: created}}
	return []life{
		of("first reconcile", nil, young),
		of("first reference", young, []phase{{func(r *run) {
			user := clientIdentity.object(r).(*v1alpha1.ClientIdentity)
			user.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: v1alpha1.ObjectName(r.id)}
			r.create(user)
		}, want{users: 1}}}),
		of("spec edit", young, []phase{{happens: edited(func(o *v1alpha1.RotationPolicy) { o.Spec.Suspend = true })}}),
		of("deletion", young, []phase{{deleted, gone}}),
	}
}
