// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// The keys of a ledger's data. Each version is one opaque value with one encoder, so that half of it can never be stored.
const (
	ledgerKeyVersion  = "version"
	ledgerKeyPending  = "pending"
	ledgerKeyCurrent  = "current"
	ledgerKeyPrevious = "previous"
	ledgerKeyState    = "state"
)

const (
	// ledgerVersion is the version of the encoding. It is raised when an older rekey could no longer finish what a newer one
	// started; a field that may be lost does not raise it.
	ledgerVersion = "1"
	// maxLedgerBytes is the maximum length of all values together, checked before anything is decoded.
	maxLedgerBytes = 256 << 10
	// maxSeq leaves room for later numbers, and is exact in every JSON reader.
	maxSeq = 1 << 53
	// maxClaimed is the highest number that is accepted from a place that others can write: at one version per second it would
	// take 34,000 years to get there. It leaves room for later numbers.
	maxClaimed = 1 << 40
	// maxOverlap is the longest overlap that a RotationPolicy allows.
	maxOverlap = 876_000 * time.Hour
)

type recordEntry struct {
	rotation.Version
	Material map[string][]byte `json:"material"`
}

type stateEntry struct {
	LastSeq        int64    `json:"lastSeq"`
	Rotate         Tokens   `json:"rotate,omitzero"`
	RetirePrevious Tokens   `json:"retirePrevious,omitzero"`
	RetireThrough  int64    `json:"retireThrough,omitempty"`
	TakeOver       Handover `json:"takeOver,omitzero"`
	Survivor       Survivor `json:"survivor,omitzero"`
}

// EncodeLedger returns the data of the Secret that holds the ledger: "version", "state", and, if they exist, "pending",
// "current" and "previous". It refuses a ledger that DecodeLedger would refuse, before it is written.
func EncodeLedger(ledger Ledger) (map[string][]byte, error) {
	if err := checkLedger(ledger); err != nil {
		return nil, fmt.Errorf("encoding the ledger: %w", err)
	}
	state, err := json.Marshal(stateEntry{
		LastSeq: ledger.LastSeq, Rotate: ledger.Rotate, RetirePrevious: ledger.RetirePrevious, RetireThrough: ledger.RetireThrough,
		TakeOver: ledger.TakeOver, Survivor: ledger.Survivor,
	})
	if err != nil {
		return nil, errors.New("encoding the ledger: its state cannot be encoded as JSON")
	}
	data := map[string][]byte{ledgerKeyVersion: []byte(ledgerVersion), ledgerKeyState: state}
	for key, record := range records(ledger) {
		if record == nil {
			continue
		}
		// The encoder's own error could quote a value.
		if data[key], err = json.Marshal(entryOf(*record)); err != nil {
			return nil, fmt.Errorf("encoding the ledger: the %s version cannot be encoded as JSON", key)
		}
	}
	if size := dataSize(data); size > maxLedgerBytes {
		return nil, fmt.Errorf("encoding the ledger: it would be %d bytes long, but at most %d can be read back", size, maxLedgerBytes)
	}
	return data, nil
}

// DecodeLedger decodes what EncodeLedger returned. Unknown fields are ignored: a later release may have added them. Errors are
// permanent, with fault.LedgerInvalid, and show nothing of the data.
func DecodeLedger(data map[string][]byte) (Ledger, error) {
	ledger, err := decodeLedger(data)
	if err != nil {
		return Ledger{}, fault.Permanent(fault.LedgerInvalid, err)
	}
	return ledger, nil
}

func decodeLedger(data map[string][]byte) (Ledger, error) {
	if size := dataSize(data); size > maxLedgerBytes {
		return Ledger{}, fmt.Errorf("it is %d bytes long, but at most %d can be read", size, maxLedgerBytes)
	}
	if err := checkEncoding(string(data[ledgerKeyVersion])); err != nil {
		return Ledger{}, err
	}
	var state stateEntry
	if err := json.Unmarshal(data[ledgerKeyState], &state); err != nil {
		return Ledger{}, fmt.Errorf("its entry %q is missing or damaged", ledgerKeyState)
	}
	ledger := Ledger{
		LastSeq: state.LastSeq, Rotate: state.Rotate.short(), RetirePrevious: state.RetirePrevious.short(), RetireThrough: state.RetireThrough,
		TakeOver: state.TakeOver, Survivor: state.Survivor,
	}
	ledger.TakeOver.At = ledger.TakeOver.At.UTC()
	for key, place := range map[string]**Record{
		ledgerKeyPending: &ledger.Pending, ledgerKeyCurrent: &ledger.Current, ledgerKeyPrevious: &ledger.Previous,
	} {
		raw, ok := data[key]
		if !ok {
			continue
		}
		var entry *recordEntry
		if err := json.Unmarshal(raw, &entry); err != nil || entry == nil {
			return Ledger{}, fmt.Errorf("its entry %q is damaged", key)
		}
		*place = entry.record()
	}
	if ledger.LastSeq > maxSeq/2 {
		return Ledger{}, errors.New("its last version number is out of range: no number is left for the next version")
	}
	return ledger, checkLedger(ledger)
}

var plainNumber = regexp.MustCompile(`^[0-9]{1,6}$`)

func checkEncoding(version string) error {
	switch {
	case version == ledgerVersion:
		return nil
	case plainNumber.MatchString(version):
		return fmt.Errorf("it has version %s of the encoding, and this release of rekey reads version %s: run the release that wrote it, or a later one",
			version, ledgerVersion)
	}
	return fmt.Errorf("its entry %q is missing or damaged", ledgerKeyVersion)
}

// checkLedger checks a ledger both before it is written and after it is read.
func checkLedger(ledger Ledger) error {
	if ledger.LastSeq < 0 || ledger.LastSeq > maxSeq {
		return errors.New("its last version number is out of range")
	}
	if year := ledger.TakeOver.At.UTC().Year(); year < 1 || year > 9999 {
		return errors.New("the time of its handover cannot be expressed in RFC 3339")
	}
	if survivor := ledger.Survivor.Seq; survivor < 0 || survivor > ledger.LastSeq {
		return errors.New("the number of its surviving login is negative or above the last number that was used")
	}
	for key, record := range records(ledger) {
		if record == nil {
			continue
		}
		if record.Seq < 0 || record.Seq > ledger.LastSeq {
			return fmt.Errorf("the number of its %s version is negative or above the last number that was used", key)
		}
		if err := checkVersion(record.Version); err != nil {
			return fmt.Errorf("its %s version has %w", key, err)
		}
	}
	return nil
}

func checkVersion(version rotation.Version) error {
	for _, at := range []time.Time{version.ProposedAt, version.CommittedAt, version.PublishedAt, version.NotAfter} {
		if year := at.UTC().Year(); year < 1 || year > 9999 {
			return errors.New("a time that RFC 3339 cannot express")
		}
	}
	if version.Overlap < 0 || version.Overlap > maxOverlap {
		return errors.New("an overlap longer than any policy allows")
	}
	switch version.Stage {
	case rotation.Proposed, rotation.Staged, rotation.Verified, rotation.Current, rotation.Previous, rotation.Discarded:
		return nil
	}
	return errors.New("an unknown stage")
}

func records(ledger Ledger) map[string]*Record {
	return map[string]*Record{
		ledgerKeyPending: ledger.Pending, ledgerKeyCurrent: ledger.Current, ledgerKeyPrevious: ledger.Previous,
	}
}

func entryOf(record Record) recordEntry {
	version := record.Version
	version.ProposedAt, version.CommittedAt = version.ProposedAt.UTC(), version.CommittedAt.UTC()
	version.PublishedAt, version.NotAfter = version.PublishedAt.UTC(), version.NotAfter.UTC()
	entry := recordEntry{Version: version}
	if record.Material != nil {
		entry.Material = make(map[string][]byte, len(record.Material))
	}
	for key, value := range record.Material {
		entry.Material[key] = value.Reveal()
	}
	return entry
}

func (e recordEntry) record() *Record {
	record := &Record{Version: e.Version}
	if e.Material != nil {
		record.Material = make(credential.Material, len(e.Material))
	}
	for key, value := range e.Material {
		record.Material[key] = credential.NewSensitive(value)
	}
	record.ProposedAt, record.CommittedAt = record.ProposedAt.UTC(), record.CommittedAt.UTC()
	record.PublishedAt, record.NotAfter = record.PublishedAt.UTC(), record.NotAfter.UTC()
	return record
}

func dataSize(data map[string][]byte) int {
	size := 0
	for key := range maps.Keys(data) {
		size += len(key) + len(data[key])
	}
	return size
}
