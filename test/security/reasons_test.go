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

	"github.com/rekey/rekey/test/said"
	"github.com/rekey/rekey/test/world"
)

// elsewhere are the warnings that the life does not wait for, each with where its text is searched, or why it can quote no
// secret. The life may come by one of them all the same.
var elsewhere = map[string]string{
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
		"a Secret that is no certificate is FuzzParseTLSSecret's",
	"IssuanceFailed":     "an error of crypto/x509, which is given a signer and not a key's bytes",
	"CandidateRejected":  "TestPostgreSQLKeepsTheContract: no password is in any error; TestNoErrorOfDriveHoldsASecret",
	"CredentialRejected": "made of names and a number; what the server said is not in it",
	"StillAccepted":      "made of names and an address; TestPostgreSQLKeepsTheContract",
	"Fenced":             "made of names and numbers; TestPostgreSQLKeepsTheContract",
	"ServerUnsupported":  "our own words for an SQLSTATE, never the server's; TestPostgreSQLKeepsTheContract",
	"BackendFailed":      "our own words for an SQLSTATE, never the server's; TestPostgreSQLKeepsTheContract",
}

// warnings are all reasons that warn, as the API lists them.
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

// told returns what the operator has said in conditions and Events, by the audit log, which forgets nothing.
func (c *cluster) told() []word {
	c.t.Helper()
	var out []word
	for _, r := range c.requests() {
		if r.User.Username != operatorAccount || r.ObjectRef.Subresource != "status" && r.ObjectRef.Resource != "events" {
			continue
		}
		type object struct {
			Reason string `json:"reason"`
			Note   string `json:"note"`
			// A refusal has a status too, which is a word.
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

// everySentence checks the form of what a real manager said in all that trouble. Each text is judged once.
func everySentence(t *testing.T, l *life) {
	t.Helper()
	judged := map[string]bool{}
	for _, told := range l.told() {
		if judged[told.message] {
			continue
		}
		judged[told.message] = true
		if err := said.Message(told.message); err != nil {
			t.Errorf("%s, %s: %v", told.object, told.reason, err)
		}
	}
	if len(judged) < 100 {
		t.Errorf("only %d texts were judged", len(judged))
	}
	t.Logf("%d texts were judged", len(judged))
}

func everyReason(t *testing.T, l *life) {
	t.Helper()
	all, told := warnings(t), map[string]bool{}
	for _, each := range l.told() {
		told[each.reason] = true
	}
	const fewest = 49
	if len(all) < fewest {
		t.Errorf("only %d reasons to warn were found in the API", len(all))
	}
	met := 0
	for _, reason := range all {
		if told[reason] {
			met++
		} else if elsewhere[reason] == "" {
			t.Errorf("%s was not given in this life: make the trouble, or say where its text is searched for secrets", reason)
		}
	}
	for reason := range elsewhere {
		if !slices.Contains(all, reason) {
			t.Errorf("%s is not a reason to warn", reason)
		}
	}
	if 3*len(elsewhere) > len(all) {
		t.Errorf("%d of %d reasons to warn need not be given while secrets are searched for: that is more than a third", len(elsewhere), len(all))
	}
	t.Logf("%d of %d reasons to warn were given", met, len(all))
}

// A test that searches a text elsewhere is one that exists.
func TestWhatSearchesElsewhereExists(t *testing.T) {
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
				t.Errorf("%s: there is no test %s", reason, name)
			}
		}
	}
}
