// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/util/validation"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// options are the flags.
type options struct {
	metricsAddress, probeAddress string
	leaderElect                  bool
	namespaces                   []string
	operatorNamespace            string
	allowLoopback                bool
	workers                      int
	qps                          float32
	logLevel                     zapcore.Level
	showVersion                  bool
}

// Bounds of the flags that are numbers. A worker is a goroutine for each kind; what is not a number, or does not fit into an
// int once it is doubled, is no rate.
const (
	maxWorkers     = 1000
	minQPS, maxQPS = float32(0.1), float32(100_000)
)

// levels of --log-level. logr counts downwards: V(1) is debug, V(2) is trace.
var levels = map[string]zapcore.Level{"error": zapcore.ErrorLevel, "info": zapcore.InfoLevel, "debug": zapcore.DebugLevel, "trace": -2}

// texts are flags that are read further once all are known.
type texts struct {
	namespaces, level string
	qps               float64
}

// flags declares every flag with its default.
func (o *options) flags(text *texts) *flag.FlagSet {
	set := flag.NewFlagSet("rekey", flag.ContinueOnError)
	set.StringVar(&o.metricsAddress, "metrics-bind-address", ":8443", "Address of the metrics, over TLS, for clients that the API server authorises; 0 turns them off.")
	set.StringVar(&o.probeAddress, "health-probe-bind-address", ":8081", "Address of /healthz and /readyz.")
	set.BoolVar(&o.leaderElect, "leader-elect", false, "Work only while holding the lease in the operator's namespace.")
	set.StringVar(&text.namespaces, "namespaces", "", "Namespaces to work in, separated by commas; empty for all. With namespaces, Roles there are enough for Secrets.")
	set.StringVar(&o.operatorNamespace, "operator-namespace", os.Getenv("POD_NAMESPACE"), "Namespace of the key pairs of cluster-wide authorities and of the lease.")
	set.BoolVar(&o.allowLoopback, "allow-loopback", false, "Allow databases on loopback addresses, for a local cluster.")
	set.IntVar(&o.workers, "max-concurrent", 20, "Objects of one kind that are worked on at once.")
	set.Float64Var(&text.qps, "kube-api-qps", 1000, "Requests per second to the API server, at the most.")
	set.StringVar(&text.level, "log-level", "info", "Log level: error, info, debug or trace.")
	set.BoolVar(&o.showVersion, "version", false, "Print the version and exit.")
	// Where the cluster is: the same flag as everywhere (sigs.k8s.io/controller-runtime/pkg/client/config).
	if f := flag.CommandLine.Lookup("kubeconfig"); f != nil {
		set.Var(f.Value, f.Name, f.Usage)
	}
	return set
}

func parseFlags(arguments []string) (options, error) {
	var o options
	var text texts
	set := o.flags(&text)
	if err := set.Parse(arguments); err != nil {
		return o, err
	}
	for name := range strings.SplitSeq(text.namespaces, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(o.namespaces, name) {
			o.namespaces = append(o.namespaces, name)
		}
	}
	o.qps = float32(text.qps)
	var known bool
	o.logLevel, known = levels[text.level]
	return o, o.check(known, text.level, set.Args())
}

func (o *options) check(levelKnown bool, level string, rest []string) error {
	switch {
	case o.showVersion:
		return nil
	case !levelKnown:
		return fmt.Errorf("--log-level %q: must be error, info, debug or trace", level)
	case o.workers < 1 || o.workers > maxWorkers:
		return fmt.Errorf("--max-concurrent %d: must be from 1 to %d", o.workers, maxWorkers)
	case !(o.qps >= minQPS && o.qps <= maxQPS): // not a number is neither
		return fmt.Errorf("--kube-api-qps %v: must be from %v to %v", o.qps, minQPS, maxQPS)
	case o.operatorNamespace == "":
		return errors.New("--operator-namespace is needed where POD_NAMESPACE is not set")
	case slices.ContainsFunc(o.namespaces, noNamespace):
		return fmt.Errorf("--namespaces %q: must be names of namespaces, separated by commas: lower case letters, digits and hyphens, at most 63", strings.Join(o.namespaces, ","))
	case noNamespace(o.operatorNamespace):
		return fmt.Errorf("--operator-namespace %q: must be the name of a namespace: lower case letters, digits and hyphens, at most 63", o.operatorNamespace)
	case len(rest) > 0:
		return fmt.Errorf("argument %q is not known: rekey takes flags only", rest[0])
	}
	return nil
}

// noNamespace reports whether no namespace can have the name. One that does not exist yet is served when it does.
func noNamespace(name string) bool { return len(validation.IsDNS1123Label(name)) > 0 }

// setLogger makes JSON lines of every log, also of client-go's.
func setLogger(level zapcore.Level) {
	ctrl.SetLogger(zap.New(zap.UseDevMode(false), zap.Level(level)))
}
