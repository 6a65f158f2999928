// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/test/factcheck"
	"github.com/rekey/rekey/test/world"
)

// elsewhere lists the warnings that the life does not wait for, with the test that searches their text, or the reason why it
// can quote no secret. The life may still emit one of them.
var elsewhere = map[string]string{
	"EngineMismatch":    "made of names of objects and of engines",
	"ExpiresSoon":       "made of names and times",
	"Expired":           "made of names and times, and of the cause, which is another reason",
	"RotationOverdue":   "made of names and times, and of the cause, which is another reason",
	"ClockSkew":         "made of names and times",
	"Forbidden":         "made of verbs, resources and names of objects: RBAC answers before it reads what is sent; FuzzMissing",
	"CleanupIncomplete": "made of names, and of the cause, which is another reason",
	"QuotaExceeded":     "made of names, and of what the quota says, which passes the same check as AdmissionDenied",
	"APIServerFailed":   "an answer of the API server; one that shows a value is withheld: TestAnAnswerThatQuotesASecretIsWithheld",
	"IdentityInvalid":   "made of the spec and of the request for a certificate, in which no private key is; FuzzPEM",
	"CertificateInvalid": "made of the findings about a certificate, in which no private key is; " +
		"FuzzParseTLSSecret covers a Secret that is not a certificate",
	"IssuanceFailed":     "an error of crypto/x509, which gets a signer and not a key's bytes",
	"CandidateRejected":  "TestPostgreSQLSatisfiesTheContract: no password is in any error; TestNoErrorOfDriveHoldsASecret",
	"CredentialRejected": "made of names and a number, without the server's text",
	"StillAccepted":      "made of names and an address; TestPostgreSQLSatisfiesTheContract",
	"Fenced":             "made of names and numbers; TestPostgreSQLSatisfiesTheContract",
	"ServerUnsupported":  "our own words for an SQLSTATE, never the server's; TestPostgreSQLSatisfiesTheContract",
	"RemoteFailed":       "our own words for an SQLSTATE, never the server's; TestPostgreSQLSatisfiesTheContract",
}

// warnings returns all warning reasons, as the API lists them.
func warnings(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(world.Root(), "api", "v1alpha1", "conditions.go"), nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, declaration := range file.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || !strings.HasPrefix(group.Doc.Text(), "Warning reasons") {
			continue
		}
		for _, spec := range group.Specs {
			value, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			literal, ok := value.Values[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s is not a literal", value.Names[0])
			}
			reason, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, reason)
		}
	}
	slices.Sort(out)
	return out
}

// word is a condition or an Event as the operator wrote it.
type word struct {
	object, reason, message string
}

// reportedTexts returns what the operator has reported in conditions and Events, according to the audit log, which is complete.
func (c *cluster) reportedTexts() []word {
	c.t.Helper()
	var out []word
	for _, r := range c.requests() {
		if r.User.Username != operatorAccount || r.ObjectRef.Subresource != "status" && r.ObjectRef.Resource != "events" {
			continue
		}
		type object struct {
			Reason string `json:"reason"`
			Note   string `json:"note"`
			// A refusal has a status too, which is a string.
			Status json.RawMessage `json:"status"`
		}
		var wrote struct {
			RequestObject  object `json:"requestObject"`
			ResponseObject object `json:"responseObject"`
		}
		if err := json.Unmarshal([]byte(r.line), &wrote); err != nil {
			c.t.Fatal(err)
		}
		name := fmt.Sprintf("%s %s/%s", r.ObjectRef.Resource, r.ObjectRef.Namespace, r.ObjectRef.Name)
		if wrote.RequestObject.Note != "" {
			out = append(out, word{name, wrote.RequestObject.Reason, wrote.RequestObject.Note})
		}
		for _, text := range []json.RawMessage{wrote.RequestObject.Status, wrote.ResponseObject.Status} {
			var status struct {
				Conditions []metav1.Condition `json:"conditions"`
			}
			if json.Unmarshal(text, &status) == nil {
				for _, condition := range status.Conditions {
					out = append(out, word{name, condition.Reason, condition.Message})
				}
			}
		}
	}
	return out
}

// everySentence checks the form of every text that a real manager reported during these failures. Each text is checked once.
func everySentence(t *testing.T, l *life) {
	t.Helper()
	judged := map[string]bool{}
	for _, reportedTexts := range l.reportedTexts() {
		if judged[reportedTexts.message] {
			continue
		}
		judged[reportedTexts.message] = true
		if err := factcheck.Message(reportedTexts.message); err != nil {
			t.Errorf("%s, %s: %v", reportedTexts.object, reportedTexts.reason, err)
		}
	}
	if len(judged) < 100 {
		t.Errorf("checked only %d texts", len(judged))
	}
	t.Logf("checked %d texts", len(judged))
}

func everyReason(t *testing.T, l *life) {
	t.Helper()
	all, reportedTexts := warnings(t), map[string]bool{}
	for _, each := range l.reportedTexts() {
		reportedTexts[each.reason] = true
	}
	const fewest = 49
	if len(all) < fewest {
		t.Errorf("found only %d warning reasons in the API", len(all))
	}
	met := 0
	for _, reason := range all {
		if reportedTexts[reason] {
			met++
		} else if elsewhere[reason] == "" {
			t.Errorf("%s was not emitted in this life: provoke it, or name the test that searches its text for secrets", reason)
		}
	}
	for reason := range elsewhere {
		if !slices.Contains(all, reason) {
			t.Errorf("%s is not a warning reason", reason)
		}
	}
	if 3*len(elsewhere) > len(all) {
		t.Errorf("%d of %d warning reasons need not be emitted during the search: that is more than a third", len(elsewhere), len(all))
	}
	t.Logf("%d of %d warning reasons were emitted", met, len(all))
}

// The named tests exist.
func TestEveryTestThatSearchesAWarningExists(t *testing.T) {
	declared := map[string]bool{}
	for _, folder := range []string{"controllers", "internal", "test"} {
		err := filepath.WalkDir(filepath.Join(world.Root(), folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, found := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(source, -1) {
				declared[string(found[1])] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for reason, where := range elsewhere {
		for _, name := range regexp.MustCompile(`\b(?:Test|Fuzz)\w+`).FindAllString(where, -1) {
			if !declared[name] {
				t.Errorf("%s: test %s does not exist", reason, name)
			}
		}
	}
}
