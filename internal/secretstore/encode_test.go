// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// canary is a password that must never be seen outside a Secret.
const canary = "canary-Zx81-never-print-me"

func randomRecord(r *rand.Rand, lastSeq int64) *Record {
	if r.IntN(4) == 0 {
		return nil
	}
	at := func() time.Time {
		if r.IntN(4) == 0 {
			return time.Time{}
		}
		return time.Unix(r.Int64N(1<<33), r.Int64N(1e9)).UTC()
	}
	stages := []rotation.Stage{rotation.Proposed, rotation.Staged, rotation.Verified, rotation.Current, rotation.Previous, rotation.Discarded}
	record := &Record{Version: rotation.Version{
		Seq: r.Int64N(lastSeq + 1), Slot: []string{"", "a", "b"}[r.IntN(3)], Stage: stages[r.IntN(len(stages))],
		Fingerprint: string(randomBytes(r, 20)), ProposedAt: at(), CommittedAt: at(), PublishedAt: at(), NotAfter: at(),
		Overlap: time.Duration(r.Int64N(1 << 50)),
	}}
	if r.IntN(5) > 0 {
		record.Material = credential.Material{}
		for _, key := range []string{credential.KeyUsername, credential.KeyPassword, "odd \x00 key", ""}[:r.IntN(5)] {
			record.Material[strings.ToValidUTF8(key, "")] = credential.NewSensitive(randomBytes(r, 60))
		}
	}
	record.Fingerprint = strings.ToValidUTF8(record.Fingerprint, "?")
	return record
}

func randomBytes(r *rand.Rand, most int) []byte {
	out := make([]byte, r.IntN(most+1))
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

func randomLedger(r *rand.Rand) Ledger {
	lastSeq := r.Int64N(maxSeq / 2)
	token := func() string { return strings.ToValidUTF8(string(randomBytes(r, 12)), "?") }
	return Ledger{
		Pending: randomRecord(r, lastSeq), Current: randomRecord(r, lastSeq), Previous: randomRecord(r, lastSeq), LastSeq: lastSeq,
		Rotate:         Tokens{Seen: token(), Honored: token()},
		RetirePrevious: Tokens{Seen: token(), Honored: token()}, RetireThrough: r.Int64N(lastSeq + 1),
		Survivor: Survivor{Seq: r.Int64N(lastSeq + 1), Slot: []string{"", "a", "b"}[r.IntN(3)], Crowded: r.IntN(2) == 0},
	}
}

// Sensitive values are compared by their bytes; a nil and an empty one are the same secret.
var sameLedger = cmp.Options{
	cmp.Comparer(func(a, b credential.Sensitive) bool { return bytes.Equal(a.Reveal(), b.Reveal()) }),
}

func TestARecordedLedgerIsReadBackUnchanged(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		want := randomLedger(r)
		data, err := EncodeLedger(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeLedger(data)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, sameLedger); diff != "" {
			t.Fatalf("decode(encode(x)) != x:\n%s", diff)
		}
		again, err := EncodeLedger(got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(data, again); diff != "" {
			t.Fatal("the same ledger is encoded in two ways")
		}
	}
}

func goodLedger() Ledger {
	return Ledger{
		LastSeq: 3,
		Current: &Record{
			Version:  rotation.Version{Seq: 2, Slot: "a", Stage: rotation.Current, Fingerprint: "f", CommittedAt: time.Unix(1e9, 0).UTC()},
			Material: credential.Material{credential.KeyUsername: credential.SensitiveString("app_a"), credential.KeyPassword: credential.SensitiveString(canary)},
		},
		Pending: &Record{
			Version:  rotation.Version{Seq: 3, Slot: "b", Stage: rotation.Staged, Fingerprint: "f"},
			Material: credential.Material{credential.KeyUsername: credential.SensitiveString("app_b"), credential.KeyPassword: credential.SensitiveString(canary)},
		},
	}
}

func goodData(t *testing.T) map[string][]byte {
	t.Helper()
	return must[map[string][]byte](t)(EncodeLedger(goodLedger()))
}

func TestDamagedLedgerIsRefusedAndNotQuoted(t *testing.T) {
	cases := map[string]struct {
		damage func(map[string][]byte)
		want   string
	}{
		"no version of the encoding":      {func(d map[string][]byte) { delete(d, "version") }, `entry "version" is missing`},
		"a version that is a secret":      {func(d map[string][]byte) { d["version"] = []byte(canary) }, `entry "version" is missing or damaged`},
		"a later version of the encoding": {func(d map[string][]byte) { d["version"] = []byte("2") }, "run the release that wrote it"},
		"no state":                        {func(d map[string][]byte) { delete(d, "state") }, `entry "state"`},
		"a state that is a list":          {func(d map[string][]byte) { d["state"] = []byte("[]") }, `entry "state"`},
		"a record cut short":              {func(d map[string][]byte) { d["current"] = d["current"][:len(d["current"])-5] }, `entry "current"`},
		"an empty record":                 {func(d map[string][]byte) { d["current"] = nil }, `entry "current"`},
		"null for a record":               {func(d map[string][]byte) { d["pending"] = []byte("null") }, `entry "pending"`},
		"a password that is not base64": {func(d map[string][]byte) {
			d["pending"] = []byte(`{"seq":1,"stage":"Staged","material":{"password":"` + canary + `"}}`)
		}, `entry "pending"`},
		"a time that is a password": {func(d map[string][]byte) {
			d["pending"] = []byte(`{"seq":1,"stage":"Staged","proposedAt":"` + canary + `"}`)
		}, `entry "pending"`},
		"a stage that is a password":          {func(d map[string][]byte) { d["pending"] = []byte(`{"seq":1,"stage":"` + canary + `"}`) }, "stage"},
		"no stage":                            {func(d map[string][]byte) { d["pending"] = []byte(`{"seq":1}`) }, "stage"},
		"a negative number":                   {func(d map[string][]byte) { d["pending"] = []byte(`{"seq":-1,"stage":"Staged"}`) }, "negative"},
		"a number above the last":             {func(d map[string][]byte) { d["pending"] = []byte(`{"seq":4,"stage":"Staged"}`) }, "above the last number"},
		"a last number that cannot be raised": {func(d map[string][]byte) { d["state"] = []byte(`{"lastSeq":9223372036854775807}`) }, "out of range"},
		"a number that is not an integer":     {func(d map[string][]byte) { d["state"] = []byte(`{"lastSeq":1e99}`) }, `entry "state"`},
		"too long": {func(d map[string][]byte) {
			d["current"] = []byte(`{"seq":1,"stage":"Staged","slot":"` + strings.Repeat("x", maxLedgerBytes) + `"}`)
		}, "at most"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			data := goodData(t)
			tc.damage(data)
			ledger, err := DecodeLedger(data)
			if err == nil {
				t.Fatal("it was read")
			}
			if diff := cmp.Diff(Ledger{}, ledger, sameLedger); diff != "" {
				t.Error("part of it was returned")
			}
			if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.LedgerInvalid {
				t.Errorf("class %v, reason %v", fault.Classify(err), fault.ReasonOf(err, ""))
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not contain %q", err, tc.want)
			}
			if strings.Contains(err.Error(), canary) {
				t.Error("the error quotes the ledger")
			}
		})
	}
}

func TestFieldsOfALaterReleaseAreIgnored(t *testing.T) {
	data := goodData(t)
	data["state"] = []byte(`{"lastSeq":3,"later":{"a":[1]}}`)
	data["pending"] = bytes.Replace(data["pending"], []byte(`{`), []byte(`{"later":true,`), 1)
	data["later"] = []byte("anything")
	got, err := DecodeLedger(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goodLedger(), got, sameLedger); diff != "" {
		t.Error(diff)
	}
}

func TestLedgerThatCouldNotBeReadIsNotWritten(t *testing.T) {
	cases := map[string]func(*Ledger){
		"an unknown stage":                 func(l *Ledger) { l.Current.Stage = "Asleep" },
		"a number that was never assigned": func(l *Ledger) { l.LastSeq = 1 },
		"a number that goes back":          func(l *Ledger) { l.LastSeq = -1; l.Current, l.Pending = nil, nil },
		"more than is read back":           func(l *Ledger) { l.Current.Fingerprint = strings.Repeat("x", maxLedgerBytes) },
		"a year that JSON does not know":   func(l *Ledger) { l.Current.NotAfter = time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC) },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			ledger := goodLedger()
			spoil(&ledger)
			data, err := EncodeLedger(ledger)
			if err == nil {
				t.Fatalf("it was encoded as %d entries", len(data))
			}
			if strings.Contains(err.Error(), canary) {
				t.Error("the error quotes the ledger")
			}
		})
	}
}

func FuzzDecodeLedger(f *testing.F) {
	good, err := EncodeLedger(goodLedger())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good["version"], good["state"], good["pending"], good["current"], good["previous"])
	f.Add([]byte("1"), []byte(`{"lastSeq":5}`), []byte(`{"seq":5,"stage":"Staged","Material":{"a":"AAAA"},"overlap":-1}`), []byte("null"), []byte("{}"))
	f.Add([]byte("2"), []byte("{"), []byte("["), []byte(`"`), []byte(nil))
	f.Fuzz(func(t *testing.T, version, state, pending, current, previous []byte) {
		data := map[string][]byte{"version": version, "state": state}
		for key, value := range map[string][]byte{"pending": pending, "current": current, "previous": previous} {
			if len(value) > 0 {
				data[key] = value
			}
		}
		ledger, err := DecodeLedger(data)
		if err != nil {
			if fault.ReasonOf(err, "") != fault.LedgerInvalid {
				t.Errorf("reason of %v", err)
			}
			return
		}
		encoded, err := EncodeLedger(ledger)
		if err != nil {
			// The encoder expands bytes (base64, escapes), so data just within the limit can become too long.
			if dataSize(data) < maxLedgerBytes/8 {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			return
		}
		again, err := DecodeLedger(encoded)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if diff := cmp.Diff(ledger, again, sameLedger); diff != "" {
			t.Fatalf("decode(encode(x)) != x:\n%s", diff)
		}
	})
}

func TestASurvivorThatIsNotOursIsRefused(t *testing.T) {
	for name, survivor := range map[string]Survivor{
		"of a slot that the spec does not derive": {Seq: 1, Slot: "c"},
		"above the last number":                   {Seq: 4, Slot: "b"},
		"below every number":                      {Seq: -1, Slot: "b"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			opts := w.ledgerOptions("orders")
			w.published(t, opts)
			w.edit(t, w.ledgerName("orders"), func(s *corev1.Secret) {
				state, err := json.Marshal(stateEntry{LastSeq: 3, Survivor: survivor})
				if err != nil {
					t.Fatal(err)
				}
				s.Data[ledgerKeyState] = state
			})
			_, err := NewLedgered(opts).Load(t.Context())
			expectFault(t, err, fault.ClassPermanent, fault.LedgerInvalid)
		})
	}
}
