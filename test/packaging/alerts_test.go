// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/test/golden"
)

// ruleFile is the file that Prometheus reads.
type ruleFile struct {
	Groups []struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	} `json:"groups"`
}

type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

const runbooks = "https://github.com/rekey/rekey/blob/main/docs/runbooks/"

func alerts(t *testing.T) []rule {
	t.Helper()
	var file ruleFile
	if err := yaml.UnmarshalStrict([]byte(read(t, "config/prometheus/rules.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	var out []rule
	for _, group := range file.Groups {
		out = append(out, group.Rules...)
	}
	if len(out) < 9 {
		t.Fatalf("there are only %d alerts", len(out))
	}
	return out
}

func TestPrometheusRuleIsGeneratedFromTheRules(t *testing.T) {
	text := read(t, "config/prometheus/rules.yaml")
	_, groups, found := strings.Cut(text, "\ngroups:\n")
	if !found {
		t.Fatal("rules.yaml has no groups")
	}
	var out strings.Builder
	out.WriteString(`# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Made from rules.yaml: go test ./test/packaging -run TestPrometheusRuleIsGeneratedFromTheRules -update
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: rekey
  namespace: rekey-system
  labels:
    app.kubernetes.io/name: rekey
spec:
  groups:
`)
	for line := range strings.SplitSeq(strings.TrimRight(groups, "\n"), "\n") {
		if line != "" {
			line = "  " + line
		}
		out.WriteString(line + "\n")
	}
	golden.Check(t, filepath.Join(root, "config/prometheus/prometheus_rule.yaml"), out.String())

	var resource struct {
		Spec ruleFile `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(out.String()), &resource); err != nil {
		t.Fatal(err)
	}
	if got := resource.Spec.Groups[0].Rules; !cmp.Equal(alerts(t), got) {
		t.Errorf("the PrometheusRule holds other rules:\n%s", cmp.Diff(alerts(t), got))
	}
}

func TestEveryAlertExplainsItselfAndLinksToARunbook(t *testing.T) {
	for _, alert := range alerts(t) {
		for _, key := range []string{"summary", "description", "runbook_url"} {
			if alert.Annotations[key] == "" {
				t.Errorf("%s has no %s", alert.Alert, key)
			}
		}
		if !slices.Contains([]string{"warning", "critical"}, alert.Labels["severity"]) {
			t.Errorf("%s has severity %q", alert.Alert, alert.Labels["severity"])
		}
		page, ours := strings.CutPrefix(alert.Annotations["runbook_url"], runbooks)
		if _, err := os.Stat(filepath.Join(root, "docs/runbooks", page)); err != nil || !ours {
			t.Errorf("the runbook of %s does not exist: %v", alert.Alert, err)
		}
	}
}

// Metrics of controller-runtime's work queues that alerts use.
var queueMetrics = []string{"workqueue_depth", "workqueue_longest_running_processor_seconds"}

func TestAlertsUseMetricsThatExist(t *testing.T) {
	have := append(ourMetrics(t), queueMetrics...)
	name := regexp.MustCompile(`\b[a-z]+_[a-z_]+\b`)
	words := []string{"group_left"}
	used := map[string]bool{}
	for _, alert := range alerts(t) {
		expression := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(alert.Expr, "")
		for _, metric := range name.FindAllString(expression, -1) {
			used[metric] = true
			if !slices.Contains(have, metric) && !slices.Contains(words, metric) {
				t.Errorf("%s uses %s, which is not exported", alert.Alert, metric)
			}
		}
	}
	if !used["rekey_resource_condition"] {
		t.Error("no alert uses a condition: the test does not parse the expressions correctly")
	}
	for _, metric := range queueMetrics {
		if !used[metric] {
			t.Errorf("no alert uses %s", metric)
		}
	}
}

// ourMetrics returns the metric names in the source of the program.
func ourMetrics(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"controllers/*.go", "internal/*/*.go"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	literal := regexp.MustCompile(`"(rekey_[a-z_]+)"`)
	var out []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range literal.FindAllStringSubmatch(string(data), -1) {
			out = append(out, found[1])
		}
	}
	return out
}

func TestEveryAlertIsTested(t *testing.T) {
	tests := read(t, "config/prometheus/rules_test.yaml")
	for _, alert := range alerts(t) {
		fires := regexp.MustCompile(`alertname: ` + alert.Alert + `\n    exp_alerts:\n`)
		if !fires.MatchString(tests) {
			t.Errorf("no test in rules_test.yaml makes %s fire", alert.Alert)
		}
	}
}
