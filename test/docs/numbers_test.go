// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// held lists sentences of pages that promise an interval or a limit. "#" stands for the number, in figures or in words; each
// number has its constant, written folder.name.
var held = map[string]map[string][]string{
	"docs/identity.md": {
		"not more often than every #": {"internal/lifecycle.issueFloor"},
		"is noticed within # at first, and within # once the conflict has lasted": {"internal/lifecycle.RecheckBroken", "internal/lifecycle.RecheckHealthy"},
		"Never sooner than # of its lifetime after it was issued":                 {"internal/rotation.leastShare as a part"},
		"and never sooner than #**":                                               {"internal/rotation.leastLife"},
		"is valid from # before it was issued":                                    {"internal/pki.Backdate"},
		"the [RotationPolicy](rotationpolicy.md), # and # without one":            {"controllers.defaultWarnBefore", "controllers.defaultAlarmBefore"},
		"never more than # of the time between renewal and expiry":                {"internal/rotation.warnShare"},
	},
	"docs/handshakes.md": {
		"within # of its session ticket, or within # if it sends none": {"internal/handshake.quiet", "internal/handshake.unheard"},
		"An attempt takes at most # and reads at most #":               {"internal/handshake.defaultTimeout", "internal/handshake.maxBytes as bytes"},
	},
	"docs/databasecredential.md": {
		"is noticed within # at first, and within # once the conflict has lasted": {"internal/lifecycle.RecheckBroken", "internal/lifecycle.RecheckHealthy"},
		"the clocks of rekey and the API server are # or more apart":              {"internal/rotation.trustedClock"},
		"is proven about every #, and within # after rekey starts":                {"controllers.probeInterval as one", "internal/rotation.startPace"},
		"If a published login is refused, or cannot do its work, twice, # apart":  {"internal/rotation.secondLook"},
		"from # to at most # (# where the deadline is days away)":                 {"internal/rotation.backoffFirst", "internal/rotation.backoffMost", "internal/rotation.backoffLazy"},
		"holds the object until that is done or # have passed":                    {"internal/lifecycle.WithdrawPatience"},
	},
	"docs/databaseserver.md": {
		"at most # certificates in at most #, from either kind": {"internal/pki.MaxCertificates", "internal/pki.MaxCertificateBytes as bytes"},
		"rekey checks the server every #, and every # while it is not Ready. While the server refuses the admin, rekey checks less and less often, down to every #": {"internal/lifecycle.RecheckHealthy", "internal/lifecycle.RecheckBroken", "internal/rotation.backoffMost"},
		"is used within #.": {"internal/lifecycle.RecheckBroken"},
	},
	"docs/certificateauthority.md": {
		"valid from # before it was created":              {"internal/pki.Backdate"},
		"may each have up to # and # certificates":        {"internal/pki.MaxCertificateBytes as bytes", "internal/pki.MaxCertificates"},
		"It checks the Secret every #, and every # while": {"internal/lifecycle.RecheckHealthy", "internal/lifecycle.RecheckBroken"},
		"With less than # left nothing is signed":         {"internal/issuer/ca.minimumLeft"},
	},
	"docs/rotationpolicy.md": {
		"| `overlap.minimum` | # |":               {"controllers.defaultOverlap"},
		"| `warnBefore` | # |":                    {"controllers.defaultWarnBefore"},
		"| `alarmBefore` | # |":                   {"controllers.defaultAlarmBefore"},
		"`warnBefore` is capped at # of the time": {"internal/rotation.warnShare"},
		"but to no less than # of that time":      {"internal/rotation.alarmShare as a part"},
		"plus # of the time from the last rotation to it, at least # and at most #": {"internal/rotation.overdueShare as a part", "internal/rotation.leastOverdue", "internal/rotation.mostOverdue"},
		"never sooner than # of its lifetime, or #, after it was issued":            {"internal/rotation.leastShare as a part", "internal/rotation.leastLife"},
	},
	"docs/metrics.md": {
		"caches a positive answer of the API server for #, a negative one for #": {"internal/metricsauth.allowedFor", "internal/metricsauth.refusedFor"},
	},
	"docs/architecture.md": {
		"the published logins are proven within #": {"internal/rotation.startPace"},
		"the end of the overlap, and # from now":   {"internal/rotation.maxSleep"},
	},
	"docs/threat-model.md": {
		"they are read again when they are used after #": {"controllers.authorityAge"},
		"keeps working for # at most":                    {"internal/metricsauth.allowedFor"},
	},
	"docs/design/0006-cached-secrets-without-keys.md": {
		"whose certificate and metadata exceed # is left":   {"internal/secretstore.mostKept as bytes"},
		"a `ca.crt` of more than # is replaced":             {"internal/secretstore.mostAuthority as bytes"},
		"when the identities are known, or after #":         {"internal/kube.identitiesPatience"},
		"or listed # at a time (up to # if they are small)": {"internal/kube.secretsPage", "internal/kube.largestSecretsPage"},
	},
	"docs/runbooks/README.md": {
		"retries a failed step of a credential after #, then doubles the wait each time, up to a limit: # if nothing valid is published, # if there is no deadline or it is near, # if": {
			"internal/rotation.backoffFirst", "internal/rotation.backoffUrgent", "internal/rotation.backoffMost", "internal/rotation.backoffLazy"},
		"checks a `DatabaseServer` or an authority every # while it is not Ready, and every # while it is": {"internal/lifecycle.RecheckBroken", "internal/lifecycle.RecheckHealthy"},
	},
	"docs/runbooks/ClockSkew.md": {
		"disagree by # or more":             {"internal/rotation.trustedClock"},
		"that is more than # in the future": {"internal/rotation.futureTolerance"},
	},
	"docs/runbooks/CredentialRejected.md": {
		"credentials are proven within # after a start":                                            {"internal/rotation.startPace"},
		"proves the published credential every #, # after a first refusal, and every # after that": {"controllers.probeInterval as one", "internal/rotation.secondLook", "internal/rotation.rejectedLook"},
	},
	"docs/runbooks/Expired.md": {
		"retries at least every #": {"internal/rotation.backoffUrgent"},
	},
	"docs/runbooks/AuthorityExpired.md": {
		"issues as long as # is left": {"internal/issuer/ca.minimumLeft"},
	},
	"docs/runbooks/CleanupIncomplete.md": {
		"- after # by the API server's clock": {"internal/lifecycle.WithdrawPatience"},
	},
	"docs/runbooks/RotationOverdue.md": {
		"starts # of the credential's age after the due time, at least # and at most #": {"internal/rotation.overdueShare as a part", "internal/rotation.leastOverdue", "internal/rotation.mostOverdue"},
	},
	"docs/runbooks/restore-from-backup.md": {
		"a credential is proven every #, within # after rekey starts, and # after a first": {"controllers.probeInterval as one", "internal/rotation.startPace", "internal/rotation.secondLook"},
	},
}

// TestPagesKeepTheNumbersOfTheCode ties each sentence to its constants: neither changes without the other.
func TestPagesKeepTheNumbersOfTheCode(t *testing.T) {
	t.Parallel()
	code := constants(t)
	for _, page := range slices.Sorted(maps.Keys(held)) {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		flat := strings.Join(strings.Fields(string(text)), " ")
		for sentence, names := range held[page] {
			parts := strings.Split(strings.Join(strings.Fields(sentence), " "), "#")
			if len(parts) != len(names)+1 {
				t.Fatalf("%s: %q has %d numbers, and %d constants", page, sentence, len(parts)-1, len(names))
			}
			pattern := regexp.QuoteMeta(parts[0])
			var wants []string
			for i, name := range names {
				forms := spell(t, code, name)
				wants = append(wants, fmt.Sprintf("%s is %s", name, forms[0]))
				for j := range forms {
					forms[j] = regexp.QuoteMeta(forms[j])
				}
				pattern += "(?:" + strings.Join(forms, "|") + ")" + regexp.QuoteMeta(parts[i+1])
			}
			if !regexp.MustCompile(pattern).MatchString(flat) {
				t.Errorf("%s does not contain %q with the numbers of the code: %s", page, sentence, strings.Join(wants, ", "))
			}
		}
	}
}

// spell returns the ways to write a constant.
func spell(t *testing.T, code map[string]constant.Value, name string) []string {
	t.Helper()
	name, how, _ := strings.Cut(name, " as ")
	value, ok := code[name]
	if !ok {
		t.Fatalf("the code has no readable constant %s", name)
	}
	number, whole := constant.Int64Val(constant.ToInt(value))
	switch {
	case how == "bytes":
		return []string{fmt.Sprintf("%d KiB", number>>10)}
	case how == "a part":
		return []string{"a " + map[int64]string{6: "sixth", 10: "tenth"}[number]}
	case !whole:
		f, _ := constant.Float64Val(value)
		return []string{strconv.FormatFloat(f, 'g', -1, 64)}
	case number < int64(time.Microsecond): // A count.
		return []string{strconv.FormatInt(number, 10), words[number]}
	}
	return durationWords(time.Duration(number), how == "one")
}

var words = map[int64]string{2: "two", 3: "three", 5: "five", 10: "ten", 20: "twenty", 30: "thirty"}

func durationWords(d time.Duration, one bool) []string {
	short := d.String()
	short = strings.TrimSuffix(strings.TrimSuffix(short, "0s"), "0m")
	if short == "" || strings.HasSuffix(d.String(), "0s") && d < time.Minute {
		short = d.String()
	}
	out := []string{short}
	for unit, name := range map[time.Duration]string{time.Second: "second", time.Minute: "minute", time.Hour: "hour"} {
		n := int64(d / unit)
		switch {
		case d%unit != 0 || n > 90:
		case n == 1 && one:
			out = append(out, name, "1 "+name)
		case n == 1:
			article := "a "
			if name == "hour" {
				article = "an "
			}
			out = append(out, article+name, "1 "+name)
		default:
			out = append(out, fmt.Sprintf("%d %ss", n, name))
			if word := words[n]; word != "" {
				out = append(out, word+" "+name+"s")
			}
		}
	}
	if d == 30*time.Second {
		out = append(out, "half a minute")
	}
	return out
}

// constants returns the product's constants that can be computed without type information, by folder and name.
func constants(t *testing.T) map[string]constant.Value {
	t.Helper()
	out := map[string]constant.Value{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil || folder != "controllers" && !strings.HasPrefix(folder, "internal") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, declared := range file.Decls {
			group, ok := declared.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				values, ok := spec.(*ast.ValueSpec)
				if !ok || len(values.Values) != len(values.Names) {
					continue
				}
				for i, name := range values.Names {
					if value := evaluate(values.Values[i]); value != nil && value.Kind() != constant.Unknown {
						out[filepath.ToSlash(folder)+"."+name.Name] = value
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var units = map[string]time.Duration{"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour, "Millisecond": time.Millisecond}

// evaluate returns the value of an expression of literals and units of time, or nil if it contains anything else.
func evaluate(e ast.Expr) constant.Value {
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.ParenExpr:
		return evaluate(e.X)
	case *ast.SelectorExpr:
		if from, ok := e.X.(*ast.Ident); ok && from.Name == "time" && units[e.Sel.Name] > 0 {
			return constant.MakeInt64(int64(units[e.Sel.Name]))
		}
	case *ast.BinaryExpr:
		x, y := evaluate(e.X), evaluate(e.Y)
		if x == nil || y == nil {
			return nil
		}
		if e.Op == token.SHL {
			by, ok := constant.Uint64Val(y)
			if !ok {
				return nil
			}
			return constant.Shift(x, token.SHL, uint(by))
		}
		if e.Op == token.MUL || e.Op == token.ADD || e.Op == token.SUB {
			return constant.BinaryOp(x, e.Op, y)
		}
	}
	return nil
}
