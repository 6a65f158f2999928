// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package doctor reports what this machine lacks for each level of a cluster, and
// how to fix it.
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
	// Err is nil if the machine has it.
	Err error
	// Fix is how to get it.
	Fix string
}

const install = "run hack/install-deps.sh node as root"

// Build returns the checks for building the programs.
func Build() []Check {
	_, err := exec.LookPath("go")
	return []Check{
		{Name: "Linux on amd64 or arm64", Err: platform(), Fix: "use a Linux machine"},
		{Name: "Go", Err: err, Fix: "install the Go version in go.mod"},
	}
}

// Node returns the checks for what the node level needs besides the programs.
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

// Missing returns the checks that failed.
func Missing(checks []Check) []Check {
	var missing []Check
	for _, check := range checks {
		if check.Err != nil {
			missing = append(missing, check)
		}
	}
	return missing
}

// Text formats checks, one per line.
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

// Report returns the full report: what each level needs and what works here.
func Report(current string) string {
	var out strings.Builder
	build, atNode := Build(), Node()
	built := "not built yet; the first use takes 5 to 8 minutes on 2 cores"
	if _, err := os.Stat(current); err == nil {
		built = "built, at " + current
	}
	fmt.Fprintf(&out, "Levels api and control (make test):\n%s\n  Kubernetes programs: %s\n", Text(build), built)
	fmt.Fprintf(&out, "Level node (make cluster, make demo, make e2e), in addition:\n%s\n", Text(atNode))
	fmt.Fprintf(&out, "  image layers are combined by: %s\n", node.Snapshotter(os.TempDir()))
	switch {
	case len(Missing(build)) > 0:
		out.WriteString("No level works until the first list is complete.\n")
	case len(Missing(atNode)) > 0:
		out.WriteString("Levels api and control work here. Set KUBECONFIG to use an existing cluster instead.\n")
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
