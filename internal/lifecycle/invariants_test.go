// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
)

// watch checks the world after every change and keeps the first broken promise. The numbers are those of the project's invariants.
type watch struct {
	broken error

	published bool            // something has been shown
	shown     []shown         // what the Secret showed, latest last
	proven    map[string]bool // passwords that the remote system accepted from a client
	changes   map[int64]int   // effective changes of a login by number
	word      map[int64]string
	publics   map[int64]string // what was published under each number
	lastSeq   int64
	still     bool      // the run started with a credential that may not be rotated now
	refused   time.Time // since when the remote system refuses what is shown

	// Declared exceptions.
	restored   bool // an old state of the ledger or of the remote system was restored: I1, I2 and I3 are not checked until it is repaired
	noOverlap  bool // a user asked to end the overlap
	twoDrivers bool // between two drivers a login may be open for a moment that only one of them knows
	foreign    bool // the Secret is no longer ours
	remains    bool // a deleted object was released although the remote system could not be cleaned up
}

type shown struct {
	material credential.Material
	until    time.Time // zero while it is shown
}

func (k *watch) init(*world) {
	k.proven, k.changes, k.word, k.publics = map[string]bool{}, map[int64]int{}, map[int64]string{}, map[int64]string{}
}

func (k *watch) breach(w *world, format string, args ...any) {
	if k.broken == nil {
		k.broken = fmt.Errorf("at %s: "+format, append([]any{w.now.Sub(start)}, args...)...)
		w.say("  BROKEN: "+format, args...)
	}
}

// startsReconcile records the state at the start of a reconcile.
func (k *watch) startsReconcile(w *world, s spec) { k.still = s.suspended || w.secret.foreign }

// starts checks an effect before it happens. Nothing new is started while rotation is suspended or the Secret has another owner.
func (k *watch) starts(w *world, kind string) {
	if k.still && !k.twoDrivers && (kind == "save Proposed" || kind == "stage") {
		k.breach(w, "%s, though rotation is suspended or the Secret has another owner", kind)
	}
}

// healTime is how long what is published may be refused after a restore: a probe, a second probe, and a few attempts.
const healTime = 4 * time.Hour

// look checks what must hold at every instant.
func (k *watch) look(w *world) {
	k.lookAtSecret(w)
	if !w.traits().Provable {
		return
	}
	if w.secret.shows == nil || w.accepts(w.secret.shows) || w.spec.deleting || w.spec.suspended {
		k.refused = w.now
	} else if w.now.Sub(k.refused) > healTime {
		k.breach(w, "I8: what is published has been refused for more than %s", healTime)
	}
	if !k.restored && !k.foreign && !w.spec.deleting {
		k.lookAtConsumers(w)
	}
	if !k.restored && !k.twoDrivers && !w.spec.deleting {
		k.lookForOrphans(w)
	}
	if seq := w.ledger.ledger.LastSeq; w.traits().Revocable && w.ledger.version != 0 && !k.restored {
		if seq < k.lastSeq {
			k.breach(w, "the highest number went back from %d to %d", k.lastSeq, seq)
		}
		k.lastSeq = seq
	}
}

// lookAtSecret follows what is shown. I5: one number, one material.
func (k *watch) lookAtSecret(w *world) {
	now := &w.secret
	if n := len(k.shown); n > 0 && k.shown[n-1].until.IsZero() {
		if now.version != 0 && now.shows.Equal(k.shown[n-1].material) {
			return
		}
		k.shown[n-1].until = w.now
	}
	if now.version == 0 || now.foreign || now.shows == nil {
		return
	}
	k.published = true
	k.shown = append(k.shown, shown{material: now.shows})
	password := now.shows.String(credential.KeyPassword)
	if before, ok := k.publics[now.seq]; ok && before != password && !k.restored && (w.kind == certificate || !w.certificates()) {
		k.breach(w, "I5: two materials were published as version %d", now.seq)
	}
	k.publics[now.seq] = password
	if w.kind != certificate && !k.restored && !k.proven[password] {
		k.breach(w, "version %d was published before it was proven", now.seq)
	}
}

// lookAtConsumers is I1: what is shown is accepted, and so is what was shown until at most the overlap ago.
func (k *watch) lookAtConsumers(w *world) {
	for _, s := range k.shown {
		if !s.until.IsZero() && (k.noOverlap || w.now.Sub(s.until) >= w.policy.Overlap) {
			continue
		}
		if !w.accepts(s.material) {
			k.breach(w, "I1: the remote system refuses %q, which was shown until %s", s.material.String(credential.KeyPassword), when(s.until))
		}
	}
}

func when(t time.Time) string {
	if t.IsZero() {
		return "now"
	}
	return t.Sub(start).String()
}

// lookForOrphans is I2: the ledger knows every open login, with its password.
func (k *watch) lookForOrphans(w *world) {
	k.lookForKeys(w)
	k.lookAtHost(w)
	for slot, l := range w.slots {
		if l.enabled && !known(w.ledger.ledger, slot, l.password) {
			k.breach(w, "I2: login %q is open with %q, which no ledger knows", slot, l.password)
		}
	}
}

func known(l secretstore.Ledger, slot, password string) bool {
	for _, r := range []*secretstore.Record{l.Pending, l.Current, l.Previous} {
		if r != nil && r.Slot == slot && r.Material.String(credential.KeyPassword) == password {
			return true
		}
	}
	return false
}

// staged is I3: one number changes a login once, and always to the same password.
func (k *watch) staged(w *world, before, after login) {
	if k.restored {
		return
	}
	if word, ok := k.word[after.seq]; ok && word != after.password {
		k.breach(w, "I3: version %d was staged with two passwords", after.seq)
	}
	k.word[after.seq] = after.password
	if before != after {
		k.changes[after.seq]++
		// A remote system that does not remember retirements opens a login again for a process that was paused before it
		// staged it and continues after it was retired; that process closes it again when its write is refused.
		if k.changes[after.seq] > 1 && !(k.twoDrivers && w.locks) {
			k.breach(w, "I3: version %d changed a login twice", after.seq)
		}
	}
}

// settled checks what must hold once nothing changes anymore.
func (k *watch) settled(w *world) {
	l := w.ledger.ledger
	switch {
	case w.certificates():
		l = w.secret.ledger
		if w.ledger.version != 0 {
			k.breach(w, "I8: the ledger of a settled candidate still exists")
		}
	case w.kind == twoSlots || !k.restored: // a host without markers accepts revoked secrets again after a restore
		k.lookForOrphans(w)
	}
	switch {
	case l.Current == nil:
		k.breach(w, "I8: there is no current version at the end")
	case l.Current.Fingerprint != w.spec.fingerprint:
		k.breach(w, "I8: the current version does not fit the spec at the end")
	case w.spec.rotate != "" && l.Rotate.Honored != w.spec.rotate:
		k.breach(w, "I8: the request to rotate was not honored")
	case w.traits().Revocable && w.spec.retirePrevious != "" && l.RetirePrevious.Honored != w.spec.retirePrevious:
		k.breach(w, "I8: the request to retire was not honored")
	}
	if w.secret.version == 0 {
		k.breach(w, "I8: nothing is published at the end")
		return
	}
	if !w.accepts(w.secret.shows) {
		k.breach(w, "I8: what is published at the end is refused")
	}
}

// withdrawn checks what a deleted object leaves.
func (k *watch) withdrawn(w *world) {
	if late := w.now.Sub(w.spec.deletedAt); late > 20*time.Minute {
		k.breach(w, "I9: the deletion took %s", late)
	}
	if !w.spec.delete {
		if k.published && w.secret.version == 0 {
			k.breach(w, "I9: the Secret was to be retained and is gone")
		}
		return
	}
	if w.secret.version != 0 || w.ledger.version != 0 {
		k.breach(w, "I9: the Secret or the ledger outlived the object")
	}
	if len(w.keys) > 0 && !k.remains && w.now.Sub(w.spec.deletedAt) < withdrawTime {
		k.breach(w, "I9: %d keys outlived the object", len(w.keys))
	}
	if w.host != nil && w.host.open() > 0 && !k.restored && !k.remains && w.now.Sub(w.spec.deletedAt) < withdrawTime {
		k.breach(w, "I9: %d secrets are accepted although the object is gone", w.host.open())
	}
	for slot, l := range w.slots {
		if l.exists && !k.remains && w.now.Sub(w.spec.deletedAt) < withdrawTime {
			k.breach(w, "I9: login %q outlived the object", slot)
		}
	}
}

// withdrawTime is how long a deleted object waits for its remote system.
const withdrawTime = 10 * time.Minute

func (k *watch) publications() int { return len(k.publics) }
