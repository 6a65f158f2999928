// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
)

// databaseCredential is the kind that rotates logins of a real PostgreSQL server.
var databaseCredential = kind{
	name: "DatabaseCredential", database: true, sampled: true,
	object: func(r *run) client.Object {
		return fixture.Credential(r.id, func(c *v1alpha1.DatabaseCredential) {
			c.Spec.ServerRef.Name, c.Spec.RotationPolicyRef.Name = sharedServer, sharedPolicy
			fixture.SetLogin(c, "postgres", r.base, ownerRole)
			c.Spec.SecretName = v1alpha1.ObjectName(r.id + "-secret")
		})
	},
	always: loginsKnown, reached: loginReached, finally: loginFinally, clean: dropLogins,
}

// roles returns this run's logins on the server, and whether they can log in.
func (r *run) roles() map[string]bool {
	rows, err := r.conn.Query(r.Ctx, "SELECT rolname, rolcanlogin FROM pg_catalog.pg_authid WHERE rolname LIKE $1", r.base+`\_%`)
	r.must(err)
	defer rows.Close()
	out := map[string]bool{}
	for rows.Next() {
		var name string
		var can bool
		r.must(rows.Scan(&name, &can))
		out[name] = can
	}
	r.must(rows.Err())
	return out
}

// ledger reads the ledger, or returns nil if there is none.
func (r *run) ledger() *secretstore.Ledger {
	secret := r.secret(secretstore.LedgerName("DatabaseCredential", r.id))
	if secret == nil {
		return nil
	}
	ledger, err := secretstore.DecodeLedger(secret.Data)
	r.must(err)
	return &ledger
}

// loginsKnown checks I1, I2 and I3: the published login works, the ledger records every login, and a version always has the
// same password.
func loginsKnown(r *run) {
	roles, ledger := r.roles(), r.ledger()
	written := map[string]bool{}
	if ledger != nil {
		for _, record := range []*secretstore.Record{ledger.Pending, ledger.Current, ledger.Previous} {
			if record != nil {
				written[record.Material.String(credential.KeyUsername)] = true
			}
		}
	}
	for name, can := range roles {
		switch {
		case name != r.base+"_a" && name != r.base+"_b":
			r.fail("I2", "login %s is not derived from the spec", strings.TrimPrefix(name, r.base))
		case ledger == nil && !r.forgotten:
			r.fail("I2", "login %s exists, but no ledger", strings.TrimPrefix(name, r.base))
		case can && !written[name] && !r.forgotten:
			r.fail("I2", "login %s is enabled, but the ledger does not record it", strings.TrimPrefix(name, r.base))
		}
	}
	r.seen.Lock()
	for version, passwords := range r.seen.passwords {
		if len(passwords) > 1 {
			r.seen.Unlock()
			r.fail("I3", "version %s was staged with %d passwords", version, len(passwords))
		}
	}
	r.seen.Unlock()
	if r.leaving {
		return
	}
	secret := r.secret(r.id + "-secret")
	if secret == nil {
		if r.published {
			r.fail("I1", "the Secret was published, but no longer exists")
		}
		return
	}
	r.published = true
	r.refused = r.accepts(secret) != nil
	switch {
	case r.refused && r.worksFrom == 0:
		r.fail("I1", "the login in the Secret (revision %d) is rejected", revisionOf(secret))
	case !r.refused && revisionOf(secret) >= r.worksFrom:
		r.worksFrom = 0
	}
}

func loginReached(r *run, w want) string {
	status := r.object.(*v1alpha1.DatabaseCredential).Status
	if r.refused {
		return "the login in the Secret is rejected"
	}
	if w.revision > 0 && r.ledger() == nil {
		return "the ledger is missing" // rebuilding it may wait for the cluster's UID while nothing else changes
	}
	if r.object.GetAnnotations()[v1alpha1.AnnotationTakeOverFrom] != "" {
		if ledger := r.ledger(); ledger == nil || ledger.TakeOver.Honored == "" {
			return "it was not handed over"
		}
	}
	if status.Revision != w.revision || (status.Previous != nil) != w.previous {
		return fmt.Sprintf("the status reports revision %d, previous %v, want %d, %v", status.Revision, status.Previous != nil, w.revision, w.previous)
	}
	return ""
}

// loginFinally checks that ledger, Secret and server agree, and that the number of rotations is right.
func loginFinally(r *run, w want) {
	ledger, roles, secret := r.ledger(), r.roles(), r.secret(r.id+"-secret")
	if w.gone && r.leaving {
		if ledger != nil || secret != nil || len(roles) > 0 {
			r.fail("I9", "deleted with all its dependents, but ledger %v, Secret %v, logins %d are left", ledger != nil, secret != nil, len(roles))
		}
		return
	}
	if ledger == nil || secret == nil {
		r.fail("I8", "ledger %v, Secret %v", ledger != nil, secret != nil)
	}
	current := ledger.Current
	if current == nil || ledger.Pending != nil || current.Seq != w.revision || ledger.LastSeq != w.revision {
		r.fail("I3", "the ledger's current version is %v and the last number is %d, want %d; pending %v",
			current != nil && current.Seq == w.revision, ledger.LastSeq, w.revision, ledger.Pending != nil)
	}
	if (ledger.Previous != nil) != w.previous {
		r.fail("I8", "the ledger has a previous version: %v", ledger.Previous != nil)
	}
	for _, key := range []string{credential.KeyUsername, credential.KeyPassword} {
		if string(secret.Data[key]) != current.Material.String(key) {
			r.fail("I1", "the Secret and the ledger show different values for %s", key)
		}
	}
	if r.refused || r.worksFrom != 0 {
		r.fail("I1", "the login in the Secret is not accepted again")
	}
	if revisionOf(secret) != current.Seq {
		r.fail("I1", "the Secret has revision %d, the ledger %d", revisionOf(secret), current.Seq)
	}
	open := slices.Sorted(maps.Keys(roles))
	open = slices.DeleteFunc(open, func(name string) bool { return !roles[name] })
	if wanted := 1 + map[bool]int{true: 1}[w.previous]; len(open) != wanted {
		r.fail("I2", "%d logins are enabled, want %d", len(open), wanted)
	}
}

func dropLogins(r *run) {
	_, _ = r.conn.Exec(r.Ctx, fmt.Sprintf("DROP ROLE IF EXISTS %[1]s_a, %[1]s_b, %[1]s_c", r.base)) // the next run has its own logins
}

// observedEngine records which password reaches the database for which version.
type observedEngine struct {
	database.Engine
	run *run
}

// fullSession is a session with every optional interface.
type fullSession interface {
	database.Session
	credential.Preflighter
	credential.Remover
	credential.Owned
	credential.SessionCounter
}

type observedSession struct {
	fullSession
	run *run
}

// Open implements database.Engine.
func (w *observedEngine) Open(ctx context.Context, server database.Server, target database.Target) (database.Session, error) {
	session, err := w.Engine.Open(ctx, server, target)
	if err != nil {
		return nil, err
	}
	full, ok := session.(fullSession)
	if !ok {
		session.Close()
		return nil, errors.New("observing a session: it lacks an optional interface")
	}
	return &observedSession{full, w.run}, nil
}

// Stage implements credential.Source.
func (s *observedSession) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	ref, proposed := change.Ref, change.Material
	staged, err := s.fullSession.Stage(ctx, change)
	if err == nil {
		seen := &s.run.seen
		seen.Lock()
		defer seen.Unlock()
		version := fmt.Sprintf("%d in slot %s", ref.Seq, ref.Slot)
		if seen.passwords[version] == nil {
			seen.passwords[version] = map[string]bool{}
		}
		password := proposed.String(credential.KeyPassword)
		seen.passwords[version][password] = true
		seen.secrets["the password of version "+version] = []byte(password)
	}
	return staged, err
}
