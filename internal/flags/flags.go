// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package flags

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
)

// Values are the operator's flags, checked.
type Values struct {
	// MetricsAddress and ProbeAddress are what the two servers listen on.
	MetricsAddress, ProbeAddress string
	// LeaderElect reports whether to reconcile only while holding the lease.
	LeaderElect bool
	// Namespaces to reconcile, each once; empty for all.
	Namespaces []string
	// OperatorNamespace holds the lease and the key pairs of cluster-wide authorities.
	OperatorNamespace string
	// AllowLoopback allows databases on loopback addresses.
	AllowLoopback bool
	// Workers is the number of concurrent reconciles per kind.
	Workers int
	// QPS is the maximum of queries per second to the API server.
	QPS float32
	// LogLevel of every logger.
	LogLevel zapcore.Level
	// ShowVersion reports whether to print the version and exit. Then nothing else was checked.
	ShowVersion bool
}

// Bounds of the numeric flags. A worker is a goroutine for each kind. A rate must be a number and, once doubled, fit into an int.
const (
	maxWorkers     = 1000
	minQPS, maxQPS = float32(0.1), float32(100_000)
)

// levels maps --log-level to zap. logr counts downwards: V(1) is debug, V(2) is trace.
var levels = map[string]zapcore.Level{"error": zapcore.ErrorLevel, "info": zapcore.InfoLevel, "debug": zapcore.DebugLevel, "trace": -2}

// texts holds flags that are parsed further once all have been read.
type texts struct {
	namespaces, level string
	qps               float64
}

// declare returns a set with every flag and its default.
func (v *Values) declare(text *texts) *flag.FlagSet {
	set := flag.NewFlagSet("rekey", flag.ContinueOnError)
	set.StringVar(&v.MetricsAddress, "metrics-bind-address", ":8443", "Address of the metrics endpoint, over TLS, for clients that the API server authorizes; 0 turns it off.")
	set.StringVar(&v.ProbeAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz.")
	set.BoolVar(&v.LeaderElect, "leader-elect", false, "Reconcile only while holding the lease in the operator's namespace.")
	set.StringVar(&text.namespaces, "watch-namespaces", "", "Namespaces to reconcile, separated by commas; empty for all. If set, Roles in them are enough for Secrets.")
	set.StringVar(&v.OperatorNamespace, "operator-namespace", os.Getenv("POD_NAMESPACE"), "Namespace of the key pairs of cluster-wide authorities and of the lease.")
	set.BoolVar(&v.AllowLoopback, "allow-loopback", false, "Allow databases on loopback addresses, for a local cluster.")
	set.IntVar(&v.Workers, "max-concurrent-reconciles", 20, "Maximum number of concurrent reconciles per kind.")
	set.Float64Var(&text.qps, "kube-api-qps", 1000, "Maximum queries per second to the API server.")
	set.StringVar(&text.level, "log-level", "info", "Log level: error, info, debug or trace.")
	set.BoolVar(&v.ShowVersion, "version", false, "Print the version and exit.")
	// controller-runtime declares the flag that locates the cluster.
	if f := flag.CommandLine.Lookup(config.KubeconfigFlagName); f != nil {
		set.Var(f.Value, f.Name, f.Usage)
	}
	return set
}

// Parse reads the arguments, without the program's name. The error names the flag and what it must be.
func Parse(arguments []string) (Values, error) {
	var v Values
	var text texts
	set := v.declare(&text)
	if err := set.Parse(arguments); err != nil {
		return v, err
	}
	for name := range strings.SplitSeq(text.namespaces, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(v.Namespaces, name) {
			v.Namespaces = append(v.Namespaces, name)
		}
	}
	v.QPS = float32(text.qps)
	var known bool
	v.LogLevel, known = levels[text.level]
	return v, v.check(known, text.level, set.Args())
}

func (v *Values) check(levelKnown bool, level string, rest []string) error {
	switch {
	case v.ShowVersion:
		return nil
	case !levelKnown:
		return fmt.Errorf("--log-level %q: must be error, info, debug or trace", level)
	case v.Workers < 1 || v.Workers > maxWorkers:
		return fmt.Errorf("--max-concurrent-reconciles %d: must be from 1 to %d", v.Workers, maxWorkers)
	case !(v.QPS >= minQPS && v.QPS <= maxQPS): // NaN is neither
		return fmt.Errorf("--kube-api-qps %v: must be from %v to %v", v.QPS, minQPS, maxQPS)
	case v.OperatorNamespace == "":
		return errors.New("--operator-namespace is required if POD_NAMESPACE is not set")
	case slices.ContainsFunc(v.Namespaces, noNamespace):
		return fmt.Errorf("--watch-namespaces %q: must be names of namespaces, separated by commas: lower case letters, digits and hyphens, at most 63", strings.Join(v.Namespaces, ","))
	case noNamespace(v.OperatorNamespace):
		return fmt.Errorf("--operator-namespace %q: must be the name of a namespace: lower case letters, digits and hyphens, at most 63", v.OperatorNamespace)
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q: rekey accepts flags only", rest[0])
	}
	return nil
}

// noNamespace reports whether no namespace can have this name. A namespace that does not exist yet is served once it does.
func noNamespace(name string) bool { return len(validation.IsDNS1123Label(name)) > 0 }
