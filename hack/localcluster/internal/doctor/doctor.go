// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package doctor says what this machine lacks for each level of a cluster, and
// how to get it.
package doctor

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/rekey/rekey/hack/localcluster/internal/node"
)

// Check is one thing that a level needs.
type Check struct {
	Name string
	// Err is nil where the machine has it.
	Err error
	// Fix says how to get it.
	Fix string
}

const install = "run hack/install-deps.sh node as root"

// Build lists what building the programs needs.
func Build() []Check {
	_, err := exec.LookPath("go")
	return []Check{
		{Name: "Linux on amd64 or arm64", Err: platform(), Fix: "use a Linux machine"},
		{Name: "Go", Err: err, Fix: "install the Go version that go.mod names"},
	}
}

// Node lists what the node level needs beyond the programs.
func Node() []Check {
	checks := []Check{{Name: "root", Err: root(), Fix: "run as root, for example with sudo -E"}}
	for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr", "runc", "ip", "iptables", "iptables-save", "mount"} {
		_, err := exec.LookPath(program)
		checks = append(checks, Check{Name: program, Err: err, Fix: install})
	}
	return append(checks,
		Check{Name: "network plugins", Err: node.PluginsInstalled(), Fix: install},
		Check{Name: "control groups", Err: node.CgroupsMounted(), Fix: "mount control groups below /sys/fs/cgroup"},
		Check{Name: "namespaces", Err: node.NamespacesWork(), Fix: "run outside a container, or in a privileged one"},
	)
}

// Missing keeps the checks that failed.
func Missing(checks []Check) []Check {
	var missing []Check
	for _, check := range checks {
		if check.Err != nil {
			missing = append(missing, check)
		}
	}
	return missing
}

// Text shows checks one per line.
func Text(checks []Check) string {
	var out strings.Builder
	for _, check := range checks {
		if check.Err == nil {
			fmt.Fprintf(&out, "  ok       %s\n", check.Name)
			continue
		}
		fmt.Fprintf(&out, "  MISSING  %s: %v\n           %s\n", check.Name, check.Err, check.Fix)
	}
	return strings.TrimRight(out.String(), "\n")
}

// Report is the whole story: what each level needs and what still works.
func Report(current string) string {
	var out strings.Builder
	build, atNode := Build(), Node()
	built := "not built yet; the first use takes about 5 to 8 minutes on 2 cores"
	if _, err := os.Stat(current); err == nil {
		built = "built, at " + current
	}
	fmt.Fprintf(&out, "Levels api and control (make test):\n%s\n  Kubernetes programs: %s\n", Text(build), built)
	fmt.Fprintf(&out, "Level node (make cluster, make demo, make e2e), besides that:\n%s\n", Text(atNode))
	fmt.Fprintf(&out, "  images are laid over each other by %s\n", node.Snapshotter(os.TempDir()))
	switch {
	case len(Missing(build)) > 0:
		out.WriteString("Nothing works before the first list is complete.\n")
	case len(Missing(atNode)) > 0:
		out.WriteString("What works here: levels api and control. An existing cluster can be used with KUBECONFIG.\n")
	default:
		out.WriteString("Every level works here.\n")
	}
	return out.String()
}

func platform() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		return fmt.Errorf("this is %s on %s", runtime.GOOS, runtime.GOARCH)
	}
	return nil
}

func root() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("running as uid %d", uid)
	}
	return nil
}
