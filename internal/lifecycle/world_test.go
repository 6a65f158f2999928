// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// The world is everything outside the process: an API server with a ledger and a user's Secret, a remote system with two slots,
// a clock, and the spec. Each call that changes it is an effect with a number, and an effect can have a fate.

// fate is what happens to one effect and to the process that requested it.
type fate int

const (
	asUsual    fate = iota
	dieBefore       // the process dies, nothing was done
	dieAfter        // it happens, and the process dies before it does anything else
	dieInside       // the process dies, and it happens a little later, while the next process watches
	loseAnswer      // it happens, and the answer is lost
	lateAnswer      // the answer is lost, and it happens a little later
	refuse          // it does not happen, and an error is returned
)

var fates = []fate{dieBefore, dieAfter, dieInside, loseAnswer, lateAnswer, refuse}

func (f fate) String() string {
	return [...]string{"as usual", "die before", "die after", "die inside", "lose the answer of", "delay", "refuse"}[f]
}

const (
	// lateCalls is after how many calls a delayed effect happens.
	lateCalls = 3
	// lateMost is how long a transaction can live after its client died: the server's own timeouts end it.
	lateMost = 30 * time.Second
	// callTime is how long every call takes.
	callTime = time.Second
	// downTime is the time between a death and the next start, unless something is still under way then.
	downTime = 5 * time.Minute
)

var (
	errLost = errors.New("the connection broke while waiting for the answer")
	errDown = errors.New("no answer")
	start   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// crash is the panic that ends the code of a dying process.
type crash struct{}

// spec is what the user wrote.
type spec struct {
	fingerprint, rotate, retirePrevious string
	former                              string // the owner from which the object takes over
	suspended, deleting, delete         bool
	deletedAt                           time.Time
	unmet                               []rotation.Unmet
}

// object is one Secret in the API server.
type object struct {
	version int // 0: does not exist
	foreign bool
	shows   credential.Material
	seq     int64
	ledger  secretstore.Ledger
}

// login is one slot of the remote system.
type login struct {
	exists, enabled, retired bool
	password, owner          string
	seq                      int64
}

type delayed struct {
	after int
	until time.Time
	slot  string // of the remote system; empty for the API server
	apply func() error
}

type world struct {
	kind   kind
	now    time.Time
	spec   spec
	policy rotation.Policy
	rows   []rotation.Row // nil: the real table

	ledger, secret object
	lastVersion    int
	slots          map[string]*login
	orders         map[string]order // of an issuer, by version and request
	keys           []key            // of a provider
	host           *host            // nil if the kind has none
	numbers        map[string]int64 // of a host, the version of each secret
	endpointUpAt   time.Time        // the server that uses a certificate does not answer before
	refuseNext     int              // how many of the next certificates the server that uses them refuses
	denyNext       int              // how many of the next requests the issuer denies
	upAt           time.Time        // the remote system does not answer before
	flaps          time.Duration    // if not 0, what is used is accepted and refused in turn, each for that long
	// locks: changes of one login wait for each other, and a retired login keeps its marker as it was.
	// Otherwise nothing waits, and retiring leaves a marker that fences the same number.
	locks bool
	// refuses holds the sequence numbers whose password is refused although staging succeeded.
	refuses map[int64]bool

	calls, effects, writes, remoteCalls, passwords int
	plan                                           map[int]fate
	instants                                       map[int]func(*world)
	late                                           []delayed
	swap                                           *reorder
	// confirm is what the next effect asks right before it happens: a remote system that can hold no marker is only as safe as that.
	confirm func() error

	// yield hands over to the other driver; nil if there is only one.
	yield       func()
	history     []past // before every effect, if it is kept
	keepsPast   bool
	script      []event // still to come
	stirred     bool    // a watch wakes the process; other instants go unnoticed until it wakes on its own
	ledgerFirst bool    // Load reads the ledger before the Secret
	cached      *object // what a cache shows of the user's Secret; nil if it is up to date

	watch    watch
	trace    *strings.Builder
	reported string
	// repeats counts failures that were reported already.
	repeats int
}

// past is a state that can be restored from a backup.
type past struct {
	ledger, secret object
	slots          map[string]login
	keys           []key
	orders         map[string]order
	restoreHost    func() // nil if there is none
}

func (w *world) remember() {
	now := past{ledger: w.ledger, secret: w.secret, slots: map[string]login{}}
	for slot, l := range w.slots {
		now.slots[slot] = *l
	}
	now.keys, now.orders = slices.Clone(w.keys), maps.Clone(w.orders)
	if w.host != nil {
		now.restoreHost = w.host.backup()
	}
	w.history = append(w.history, now)
}

// kind is the kind of source.
type kind int

const (
	twoSlots     kind = iota
	certificate       // signed at once: the Secret is the truth, and losing a candidate costs nothing
	late              // signed by an issuer that answers later: the Secret is the truth, and the candidate is recorded
	proven            // the same, and a server uses it, so it can be proven
	minted            // a key that the remote system makes: its secret is not known before it is staged
	pair              // the engine of the tests: one login that accepts two passwords, without markers
	fakeOneSlot       // the fake by traits: one slot, without markers
	fakeTwoSlots      // the same with two slots
	fakeMinted        // the same with one slot, and it makes the secrets
)

// traits of each kind.
var traitsOf = map[kind]credential.Traits{
	twoSlots:    {Durable: true, Provable: true, Revocable: true, Slots: []string{"a", "b"}},
	certificate: {},
	late:        {Durable: true},
	proven:      {Durable: true, Provable: true},
	minted:      {Durable: true, Provable: true, Revocable: true, Minted: true},

	pair:         {Durable: true, Provable: true, Revocable: true},
	fakeOneSlot:  {Durable: true, Provable: true, Revocable: true},
	fakeTwoSlots: {Durable: true, Provable: true, Revocable: true, Slots: []string{"a", "b"}},
	fakeMinted:   {Durable: true, Provable: true, Revocable: true, Minted: true},
}

// String names the kind.
func (k kind) String() string {
	return [...]string{
		"two slots", "a certificate", "a late issuer", "a proven certificate", "a minted key",
		"the engine of the tests", "the fake with one slot", "the fake with two slots", "the fake that mints",
	}[k]
}

func newWorld(k kind) *world {
	w := &world{
		kind: k, now: start,
		spec: spec{fingerprint: "v1"},
		policy: rotation.Policy{
			Interval: 6 * time.Hour, JitterPercent: 10, MaxAge: 12 * time.Hour, Overlap: time.Hour,
			WarnBefore: 4 * time.Hour, AlarmBefore: time.Hour, ProbeInterval: 3 * time.Hour,
		},
		slots:   map[string]*login{"a": {}, "b": {}},
		refuses: map[int64]bool{},
		orders:  map[string]order{},
		host:    hostOf(k), numbers: map[string]int64{},
	}
	if w.certificates() {
		w.policy.MaxAge, w.policy.Overlap = 0, 0
		w.policy.RenewBefore = 4 * time.Hour
		w.policy.Interval = 0
	}
	if !w.traits().Provable {
		w.policy.ProbeInterval = 0
	}
	w.watch.init(w)
	return w
}

func (w *world) traits() credential.Traits { return traitsOf[w.kind] }

// certificates reports whether the versions are certificates: they expire, and the user's Secret is the truth.
func (w *world) certificates() bool { return !w.traits().Revocable }

// Now implements clock.PassiveClock.
func (w *world) Now() time.Time { return w.now }

// Since implements clock.PassiveClock.
func (w *world) Since(t time.Time) time.Duration { return w.now.Sub(t) }

// call is any call to the outside. It brings delayed effects closer.
func (w *world) call() {
	if yield := w.yield; yield != nil {
		yield()
	}
	w.calls++
	w.now = w.now.Add(callTime)
	w.land(false)
}

// land applies the delayed effects that are due, or all of them.
func (w *world) land(all bool) {
	var rest []delayed
	todo := w.late
	w.late = nil
	for _, d := range todo {
		if !all && w.calls < d.after && w.now.Before(d.until) {
			rest = append(rest, d)
			continue
		}
		w.say("  (a delayed effect is done now)")
		_ = d.apply()
		w.watch.look(w)
	}
	w.late = append(rest, w.late...)
}

func (w *world) underWay(slot string) bool {
	for _, d := range w.late {
		if slot != "" && d.slot == slot {
			return true
		}
	}
	return false
}

// effect calls apply as its fate demands. kind names it for mutants; slot is that of the remote system. pretend returns the
// answer of apply without the effect: a mutant that swaps two effects needs it.
func (w *world) effect(kind, slot string, apply func() error, pretend ...func()) error {
	confirm := w.confirm
	w.confirm = nil
	w.call()
	if confirm != nil {
		if err := confirm(); err != nil {
			return err
		}
	}
	w.effects++
	if slot == "" {
		w.writes++
	}
	if w.keepsPast {
		w.remember()
	}
	w.watch.starts(w, kind)
	if act := w.instants[w.effects]; act != nil {
		act(w)
	}
	f := w.plan[w.effects]
	if f != asUsual {
		w.say("  %s %s", f, kind)
	}
	switch f {
	case dieBefore:
		panic(crash{})
	case dieInside:
		w.delay(slot, apply)
		panic(crash{})
	case lateAnswer:
		w.delay(slot, apply)
		return errLost
	case refuse:
		return errLost
	case asUsual, dieAfter, loseAnswer:
	}
	var err error
	if w.swap != nil {
		err = w.swap.run(w, kind, apply, pretend)
	} else {
		err = apply()
	}
	w.watch.look(w)
	switch f {
	case dieAfter:
		panic(crash{})
	case loseAnswer:
		return errLost
	}
	return err
}

func (w *world) delay(slot string, apply func() error) {
	w.late = append(w.late, delayed{after: w.calls + lateCalls, until: w.now.Add(lateMost), slot: slot, apply: apply})
}

func (w *world) say(format string, args ...any) {
	if w.trace != nil {
		_, _ = fmt.Fprintf(w.trace, "%s  "+format+"\n", append([]any{w.now.Sub(start).Truncate(time.Second)}, args...)...)
	}
}

// accepts reports whether the remote system accepts this material now.
func (w *world) accepts(m credential.Material) bool {
	if w.flaps > 0 && int(w.now.Sub(start)/w.flaps)%2 == 1 {
		return false
	}
	switch w.kind {
	case twoSlots:
	case certificate:
		return !m.Equal(nil)
	case late, proven:
		known := w.orders[m.String(credential.KeyCertificate)]
		return w.now.Before(known.notAfter) && !known.refused
	case minted:
		return w.acceptsKey(m)
	case pair, fakeOneSlot, fakeTwoSlots, fakeMinted:
		return w.host.accepts(m) && !w.refuses[w.numbers[m.String(credential.KeyPassword)]]
	}
	l := w.slots[m.String(credential.KeyUsername)]
	return l != nil && l.exists && l.enabled && l.password == m.String(credential.KeyPassword) && !w.refuses[l.seq]
}
