// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/factcheck"
)

// everyReason reads the reasons of package fault.
func everyReason(t *testing.T) []fault.Reason {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "internal", "fault", "reasons.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []fault.Reason
	ast.Inspect(file, func(node ast.Node) bool {
		if literal, ok := node.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				out = append(out, fault.Reason(text))
			}
		}
		return true
	})
	if len(out) < 40 {
		t.Fatalf("%d reasons were read", len(out))
	}
	return out
}

// situations are the states in which a failure can hit an object; each is an Outcome without the failure.
func situations(now time.Time) map[string]lifecycle.Outcome {
	current := rotation.Version{Seq: 2, Slot: "b", Stage: rotation.Current, Fingerprint: "as requested", ProposedAt: now.Add(-time.Hour),
		CommittedAt: now.Add(-time.Hour), PublishedAt: now.Add(-time.Hour), NotAfter: now.Add(time.Minute)}
	previous := rotation.Version{Seq: 1, Slot: "a", Stage: rotation.Previous}
	out := map[string]lifecycle.Outcome{}
	add := func(name string, change func(o *rotation.Observation)) {
		o := rotation.Observation{Now: now, UID: "uid", Fingerprint: "as requested", Target: rotation.TargetShowsCurrent, Current: &current, LastSeq: 2,
			Traits: credential.Traits{Durable: true, Provable: true, Revocable: true, Slots: []string{"a", "b"}}, ClockKnown: true,
			Policy: rotation.Policy{Interval: 24 * time.Hour, Overlap: time.Hour, WarnBefore: time.Hour, AlarmBefore: time.Hour, ProbeInterval: time.Hour}}
		change(&o)
		ledger := secretstore.Ledger{LastSeq: o.LastSeq}
		if o.Current != nil {
			ledger.Current = &secretstore.Record{Version: *o.Current}
		}
		if o.Previous != nil {
			ledger.Previous = &secretstore.Record{Version: *o.Previous}
		}
		out[name] = lifecycle.Outcome{Observation: o, Decision: rotation.Next(o), Health: rotation.HealthOf(o),
			Snapshot: secretstore.Snapshot{Ledger: ledger, Target: o.Target}}
	}
	add("nothing was issued", func(o *rotation.Observation) { o.Current, o.Target, o.LastSeq = nil, rotation.TargetMissing, 0 })
	add("it is published", func(*rotation.Observation) {})
	add("it has expired", func(o *rotation.Observation) {
		expired := current
		expired.NotAfter = now.Add(-time.Minute)
		o.Current = &expired
	})
	add("it has no deadline", func(o *rotation.Observation) {
		endless := current
		endless.NotAfter = time.Time{}
		o.Current = &endless
	})
	add("it was never recorded when it was published", func(o *rotation.Observation) {
		unseen := current
		unseen.PublishedAt = time.Time{}
		o.Current, o.Previous = &unseen, &previous
	})
	add("an overlap", func(o *rotation.Observation) { o.Previous = &previous })
	add("the Secret is missing", func(o *rotation.Observation) { o.Target = rotation.TargetMissing })
	add("it is suspended", func(o *rotation.Observation) { o.Suspended = true })
	add("it is suspended before the first issue", func(o *rotation.Observation) {
		o.Suspended, o.Current, o.Target, o.LastSeq = true, nil, rotation.TargetMissing, 0
	})
	add("it is deleted", func(o *rotation.Observation) { o.Deleting = true })
	add("it is refused", func(o *rotation.Observation) {
		o.Proof = rotation.Proof{Seq: 2, At: now, Answer: credential.Rejected, Rejections: 2}
		o.Marker = rotation.Marker{State: rotation.MarkerForeign}
	})
	add("the spec changed", func(o *rotation.Observation) {
		o.Fingerprint = "something else"
		o.Pending = &rotation.Version{Seq: 3, Slot: "a", Stage: rotation.Staged, Fingerprint: "something else"}
	})
	return out
}

// T4: every reason, with every class of failure, in every step and every situation of every kind, reads as a sentence that
// names its subject: conditions and Events alike.
func TestEveryReasonReadsWellForEveryKind(t *testing.T) {
	now := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	reasons := everyReason(t)
	subjects := map[string]string{
		kindDatabaseCredential: "The login in Secret web/orders-db", kindClientIdentity: "The certificate in Secret web/app-mtls",
		kindServerIdentity: "The certificate in Secret web/api-mtls", "CertificateAuthority": "The certificate of CertificateAuthority web/internal (CN=x)",
		"ClusterCertificateAuthority": "The certificate of ClusterCertificateAuthority internal (without a subject)", "DatabaseServer": "",
	}
	classes := map[string]func(fault.Reason, error) error{
		"transient": fault.Transient, "blocked": fault.Blocked, "permanent": fault.Permanent,
		"pending": func(_ fault.Reason, err error) error { return fault.Pending(time.Minute, err) },
		"plain":   func(_ fault.Reason, err error) error { return err },
	}
	steps := []rotation.Step{"", lifecycle.StepObserve, rotation.StepRecord, rotation.StepPropose, rotation.StepStage, rotation.StepVerify, rotation.StepCommit,
		rotation.StepPublish, rotation.StepProbe, rotation.StepRetire, rotation.StepDiscard, rotation.StepRenumber, rotation.StepReassert, rotation.StepTakeOver, rotation.StepWithdraw}
	cause := errors.New("the server of the test does not answer: check it")
	read, seen := 0, map[string]error{}
	form := func(text string) error {
		read++
		err, known := seen[text]
		if !known {
			err = factcheck.Message(text)
			seen[text] = err
		}
		return err
	}
	check := func(where string, found report.Facts) {
		conditions := slices.DeleteFunc(report.Conditions(found), func(c metav1.Condition) bool { return c.Status == "" })
		for _, c := range conditions {
			if err := form(c.Message); err != nil {
				t.Errorf("%s: %s=%s %s: %v", where, c.Type, c.Status, c.Reason, err)
			}
			if c.Reason == "" {
				t.Errorf("%s: %s has no reason", where, c.Type)
			}
		}
		for _, event := range report.Events(nil, conditions, found.Events) {
			if err := form(event.Message); err != nil {
				t.Errorf("%s: Event %s: %v", where, event.Reason, err)
			}
			if strings.Contains(event.Message, "tried again at") || strings.Contains(event.Message, "retried at") {
				t.Errorf("%s: Event %s contains the time of an attempt: %q", where, event.Reason, event.Message)
			}
		}
	}
	for kind, subject := range subjects {
		for name, outcome := range situations(now) {
			for class, failing := range classes {
				for _, step := range steps {
					for _, reason := range reasons {
						where := fmt.Sprint(kind, ", ", name, ", ", class, " ", reason, " in ", step)
						tried := outcome
						if step != "" {
							tried.Err, tried.FailedStep, tried.NextAttempt = fault.During(failing(reason, cause), "performing %s", step), step, now.Add(time.Minute)
						}
						check(where, reportFor(kind, subject, tried))
						if step == "" {
							tried.Observation.Preconditions = []rotation.Unmet{unmetOf(failing(reason, cause))}
							tried.Decision = rotation.Next(tried.Observation)
							check(where, reportFor(kind, subject, tried))
						}
					}
				}
			}
		}
	}
	t.Logf("%d messages were read, %d of them different: %d reasons, %d kinds", read, len(seen), len(reasons), len(subjects))
}

// reportFor builds the report of a kind as its controller does.
func reportFor(kind, subject string, outcome lifecycle.Outcome) report.Facts {
	switch kind {
	case "CertificateAuthority", "ClusterCertificateAuthority", "DatabaseServer":
		found := report.Facts{Ready: metav1.ConditionTrue, Reason: "Serving", Message: "It serves.", Health: outcome.Health, Subject: subject,
			Remedy: notRenewed}
		if kind == "DatabaseServer" {
			found.Health = rotation.Health{}
		}
		if outcome.Err != nil {
			found.Ready, found.Reason, found.Cause = metav1.ConditionFalse, "", report.NewFailure(outcome.Err, "")
		}
		return found
	}
	return factsOf(subject, outcome, fault.RemoteFailed)
}
