// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/test/world"
)

// A whole object has a version and a kind; anything else is a fragment.
var object = regexp.MustCompile(`(?m)^apiVersion: `)

func TestEveryObjectOnAPageIsAccepted(t *testing.T) {
	c := startCluster(t)
	if complaint, failed := c.run(t, "$REAL_KUBECTL apply --server-side -f config/samples/00-namespaces.yaml"); failed {
		t.Fatal(complaint)
	}
	count := 0
	for _, one := range snippets(t) {
		if one.language != "yaml" || !object.MatchString(one.text) {
			continue
		}
		count++
		file := fmt.Sprintf("object-%d.yaml", count)
		c.write(t, file, []byte(one.text), 0o600)
		// Strict: a field that the kind does not have is an error.
		if complaint, failed := c.run(t, "kubectl apply --server-side --validate=strict -f "+file); failed {
			t.Errorf("%s: %s\n%s", one.page, complaint, one.text)
		}
	}
	if count < 6 {
		t.Errorf("found only %d fragments of YAML", count)
	}
}

// The example of the README is the sample that its commands apply.
func TestTheExampleOfTheReadmeIsTheQuickstart(t *testing.T) {
	objects := func(text string) []any {
		var out []any
		for document := range strings.SplitSeq(text, "\n---\n") {
			var object any
			if err := yaml.Unmarshal([]byte(document), &object); err != nil {
				t.Fatal(err)
			}
			if object != nil {
				out = append(out, object)
			}
		}
		return out
	}
	for _, one := range snippets(t) {
		if one.page == "README.md" && one.language == "yaml" {
			if diff := cmp.Diff(objects(read(t, "config/samples/quickstart.yaml")), objects(one.text)); diff != "" {
				t.Errorf("README.md and config/samples/quickstart.yaml differ (-sample +README):\n%s", diff)
			}
			return
		}
	}
	t.Error("README.md has no example")
}

var name = regexp.MustCompile(`\brekey_[a-z0-9_]+\b`)

// Metrics are declared under their names; histograms and counters are queried under others, too.
func TestEveryMetricOnAPageExists(t *testing.T) {
	list := exec.Command("git", "grep", "-hoE", `"rekey_[a-z0-9_]+"`, "--", "controllers", "internal", "*.go")
	list.Dir = world.Root()
	declared, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, page := range markdown(t) {
		if filepath.Base(page.page) == "benchmarks.md" {
			continue
		}
		for _, metric := range name.FindAllString(page.text, -1) {
			count++
			plain := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(metric, "")
			if !strings.Contains(string(declared), `"`+metric+`"`) && !strings.Contains(string(declared), `"`+plain+`"`) {
				t.Errorf("%s names the metric %s, which does not exist", page.page, metric)
			}
		}
	}
	if count < 10 {
		t.Errorf("found only %d metrics", count)
	}
}
