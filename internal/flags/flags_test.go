// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"
)

func TestFlagsAreReadOrRefusedByName(t *testing.T) {
	for name, tc := range map[string]struct {
		arguments []string
		refused   string
	}{
		"the defaults lack a namespace":    {nil, "--operator-namespace"},
		"a namespace is enough":            {[]string{"--operator-namespace=rekey-system"}, ""},
		"an unknown level":                 {[]string{"--operator-namespace=x", "--log-level=loud"}, "--log-level"},
		"no workers":                       {[]string{"--operator-namespace=x", "--max-concurrent-reconciles=0"}, "--max-concurrent-reconciles"},
		"no requests":                      {[]string{"--operator-namespace=x", "--kube-api-qps=0"}, "--kube-api-qps"},
		"too many workers":                 {[]string{"--operator-namespace=x", "--max-concurrent-reconciles=1000000000"}, "--max-concurrent-reconciles"},
		"the most workers":                 {[]string{"--operator-namespace=x", "--max-concurrent-reconciles=1000"}, ""},
		"requests without an end":          {[]string{"--operator-namespace=x", "--kube-api-qps=+Inf"}, "--kube-api-qps"},
		"a number of requests that is NaN": {[]string{"--operator-namespace=x", "--kube-api-qps=NaN"}, "--kube-api-qps"},
		"more requests than an int":        {[]string{"--operator-namespace=x", "--kube-api-qps=1e30"}, "--kube-api-qps"},
		"a request a year":                 {[]string{"--operator-namespace=x", "--kube-api-qps=1e-30"}, "--kube-api-qps"},
		"the most requests":                {[]string{"--operator-namespace=x", "--kube-api-qps=100000"}, ""},
		"a word that is not a flag":        {[]string{"--operator-namespace=x", "now"}, "now"},
		"a namespace that cannot be":       {[]string{"--operator-namespace=x", "--watch-namespaces=web,Shop"}, `--watch-namespaces "web,Shop"`},
		"a path for a namespace":           {[]string{"--operator-namespace=x", "--watch-namespaces=web/secrets"}, "--watch-namespaces"},
		"an operator's that cannot be":     {[]string{"--operator-namespace=../x"}, "--operator-namespace"},
		"the version needs nothing else":   {[]string{"--version"}, ""},
		"a flag that does not exist":       {[]string{"--no-such-flag"}, "no-such-flag"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("POD_NAMESPACE", "")
			_, err := Parse(tc.arguments)
			switch {
			case tc.refused == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.refused != "" && (err == nil || !strings.Contains(err.Error(), tc.refused)):
				t.Errorf("got %v, want an error that names %s", err, tc.refused)
			}
		})
	}
}

func TestNamespacesAndLevelsAreRead(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "rekey-system")
	got, err := Parse([]string{"--watch-namespaces=web, shop,,web", "--log-level=trace"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"web", "shop"}, got.Namespaces); diff != "" {
		t.Error(diff)
	}
	if got.OperatorNamespace != "rekey-system" || got.LogLevel != zapcore.Level(-2) {
		t.Errorf("got namespace %q and level %d", got.OperatorNamespace, got.LogLevel)
	}
}

// The table of docs/install.md has every flag with its default, and no other.
func TestThePageHasEveryFlagAndItsDefault(t *testing.T) {
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| `+"`"+`--([a-z-]+)`+"`"+` \|([^|]*)\|`).FindAllStringSubmatch(string(page), -1) {
		written[row[1]] = strings.Trim(strings.TrimSpace(row[2]), "`")
	}
	var v Values
	var text texts
	v.declare(&text).VisitAll(func(f *flag.Flag) {
		words, ok := written[f.Name]
		delete(written, f.Name)
		switch {
		case !ok:
			t.Errorf("docs/install.md does not have --%s", f.Name)
		case f.DefValue == "" || strings.HasPrefix(words, f.DefValue) || f.DefValue == "false" && words == "":
		default:
			t.Errorf("docs/install.md says that the default of --%s is %q; it is %q", f.Name, words, f.DefValue)
		}
	})
	for name := range written {
		t.Errorf("docs/install.md has --%s, which the operator does not know", name)
	}
}
