// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/test/world"
)

// needs are commands that this test cannot run, and the reason.
var needs = map[string]string{
	`kubectl .*(rollout status|wait) `:                "waits for pods, which need a node; test/e2e covers it",
	`kubectl .*\btop `:                                "needs a metrics server",
	`kubectl .*\b(run|exec|port-forward)\b`:           "needs a node",
	`kubectl apply -k config/prometheus`:              "needs the kinds of the Prometheus operator",
	`openssl pkcs12 -in keystore`:                     "needs a keystore that rekey wrote; internal/keystore reads one with openssl",
	`kustomize edit`:                                  "needs the kustomize program",
	`^(docker|export|unset|cd) `:                      "is the reader's own shell or container engine",
	`^make .*(&&|deploy|cluster|image|undeploy)`:      "is a target that starts or changes a cluster; its name is checked",
	`^(kubectl|openssl) [a-z0-9]+( --?[a-z0-9_-]+)*$`: "is a verb with its options, not a command",
}

// elsewhere returns the reason why a command is not run here, and the pattern that matched it.
func elsewhere(command string) (reason, pattern string) {
	for pattern, reason := range needs {
		if regexp.MustCompile(pattern).MatchString(command) {
			return reason, pattern
		}
	}
	return "", ""
}

// The wrapper turns every change into a server-side dry run: pages are read in no particular order.
const wrapper = `#!/usr/bin/env bash
dry=
for word in "$@"; do
  case "$word" in
    apply|delete|annotate|label|patch|create|scale|set|replace) dry=--dry-run=server; break ;;
    get|describe|logs|events|auth|rollout) break ;;
  esac
done
for word in "$@"; do case "$word" in --dry-run*) dry= ;; esac; done
exec "$REAL_KUBECTL" "$@" $dry
`

// cluster is an API server with the objects that the pages assume, and the folder in which the commands run.
type cluster struct {
	folder      string
	environment []string
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	environment, err := world.StartAPIServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = environment.Stop() })
	user, err := environment.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{folder: t.TempDir()}
	for _, name := range []string{"config", "dist", "hack"} {
		if err := os.Symlink(filepath.Join(world.Root(), name), filepath.Join(c.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	authority, err := pgtest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := authority.Issue([]string{"orders-db.rekey-samples"}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "kubeconfig", kubeconfig, 0o600)
	c.write(t, "bin/kubectl", []byte(wrapper), 0o755)
	c.write(t, "password", []byte("only for this test"), 0o600)
	for _, name := range []string{"ca.crt", "tls.crt"} {
		c.write(t, name, certificate, 0o644)
	}
	c.write(t, "tls.key", key, 0o600)
	// The line before the one that uses it writes it.
	c.write(t, "ca.ext", []byte("basicConstraints=critical,CA:TRUE\n"), 0o644)
	c.environment = append(os.Environ(),
		"KUBECONFIG="+filepath.Join(c.folder, "kubeconfig"), "HOME="+c.folder, "REAL_KUBECTL="+filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl"),
		"PATH="+filepath.Join(c.folder, "bin")+":"+os.Getenv("PATH"),
		"NS=rekey-samples", "NAME=orders", "KIND=clientidentity", "SECRET=orders-mtls", "CA_SECRET=internal-ca",
		"CONFIGMAP=orders-db-ca", "AUTHORITY=internal", "SERVER=orders", "POLICY=daily")
	return c
}

func (c *cluster) write(t *testing.T, name string, text []byte, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(c.folder, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
}

// run runs a command in bash, and returns its standard error; failed reports whether it exited with an error.
func (c *cluster) run(t *testing.T, command string) (complaint string, failed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+command)
	shell.Dir, shell.Env = c.folder, c.environment
	var complaints bytes.Buffer
	shell.Stderr = &complaints
	err := shell.Run()
	return complaints.String(), err != nil
}

// filled is a world in which the samples were applied and took effect.
func (c *cluster) filled(t *testing.T) {
	t.Helper()
	for _, command := range []string{
		"apply --server-side -f dist/install.yaml -f config/samples/00-namespaces.yaml",
		"apply --server-side -f config/samples",
		"create namespace web",
		"-n rekey-samples create secret tls orders-mtls --cert=tls.crt --key=tls.key",
		"-n rekey-samples create secret generic orders-ledger --type=rekey.dev/ledger",
		"-n rekey-samples create secret generic orders-keystore --from-file=password",
		"-n rekey-samples create secret generic orders-jvm-mtls --from-file=keystore.p12=tls.crt",
		"-n rekey-system create secret tls internal-ca --cert=tls.crt --key=tls.key",
		"-n rekey-samples create secret tls internal-ca --cert=tls.crt --key=tls.key",
		"-n rekey-samples create role rekey-secrets --verb=get --resource=secrets",
		"-n rekey-samples create rolebinding rekey-secrets --role=rekey-secrets --serviceaccount=rekey-system:rekey",
		"-n rekey-samples delete configmap orders-db-ca",
		"-n rekey-samples create configmap orders-db-ca --from-file=ca.crt",
		`-n rekey-samples patch clientidentity orders --subresource=status --type merge -p '{"status":{"notAfter":"2030-01-01T00:00:00Z"}}'`,
		"-n rekey-samples-api get certificateauthority peers -o json | sed 's/\"peers\"/\"orders\"/; s/\"rekey-samples-api\"/\"rekey-samples\"/' | $REAL_KUBECTL create -f -",
	} {
		if complaint, failed := c.run(t, "$REAL_KUBECTL "+command); failed {
			t.Fatalf("kubectl %s: %s", command, complaint)
		}
	}
}

// wrong matches a complaint about the command or what it names. It does not match if the object to create exists, or if
// openssl has no trust anchor.
var (
	wrong  = regexp.MustCompile(`(?i)error|not found|unknown|usage|no matches|unable to|invalid`)
	exempt = regexp.MustCompile(`(?i).*(already exists|verify error:num=2[01]).*`)
)

func TestEveryKubectlAndOpensslCommandOnAPageRuns(t *testing.T) {
	c := startCluster(t)
	c.filled(t)
	server, err := pgtest.Start(t.Context(), pgtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	tried, used := map[string]bool{}, map[string]bool{}
	for _, one := range shell(t) {
		for _, command := range one.commands() {
			if _, pattern := elsewhere(command); pattern != "" {
				used[pattern] = true
				continue
			}
			if tried[command] || !strings.Contains(command, "kubectl ") && !strings.Contains(command, "openssl ") {
				continue
			}
			tried[command] = true
			complaint, failed := c.run(t, placed(strings.ReplaceAll(command, "<host>:<port>", server.Address())))
			if wrong.MatchString(exempt.ReplaceAllString(complaint, "")) || failed && complaint == "" && !searches(command) {
				t.Errorf("%s: %s\n%s", one.page, command, complaint)
			}
		}
	}
	if len(tried) < 80 {
		t.Errorf("found only %d commands", len(tried))
	}
	t.Logf("%d commands", len(tried))
	for pattern := range needs {
		if !used[pattern] {
			t.Errorf("no page has a command that matches %q: remove the pattern", pattern)
		}
	}
}

// searches reports whether a command ends with a search, which fails if it finds nothing.
func searches(command string) bool { return strings.Contains(command, "| grep") }
