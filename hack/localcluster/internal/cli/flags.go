// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/rekey/rekey/hack/localcluster/internal/assets"
	"github.com/rekey/rekey/hack/localcluster/internal/cluster"
)

// options are the flags that several commands share.
type options struct {
	source, cache, dir, level string
	dirGiven, detach          bool
	apiServerArgs             list
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string { return fmt.Sprint([]string(*l)) }

// Set adds one value.
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

const (
	withBuild = 1 << iota
	withDir
	withLevel
	withDetach
)

// parse parses the command's flags and returns the remaining arguments.
func (o *options) parse(name string, args []string, wanted int) ([]string, error) {
	set := flag.NewFlagSet("localcluster "+name, flag.ContinueOnError)
	set.StringVar(&o.source, "source", "", "the folder of the localcluster module (default: found in the parents of the working folder)")
	if wanted&withBuild != 0 {
		set.StringVar(&o.cache, "cache", "", "the folder for the built programs (default: .cache/kube of the repository)")
	}
	if wanted&withDir != 0 {
		set.StringVar(&o.dir, "dir", "", "the cluster's scratch folder (default: .cache/cluster of the repository; for run: a new one)")
	}
	if wanted&withLevel != 0 {
		set.StringVar(&o.level, "level", "api", "api, control or node")
		set.Var(&o.apiServerArgs, "apiserver-arg", "key=value for kube-apiserver; may be repeated")
	}
	if wanted&withDetach != 0 {
		set.BoolVar(&o.detach, "detach", false, "leave the cluster running in the background")
	}
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(0)
		}
		return nil, errUsage
	}
	levels := []string{"", string(cluster.LevelAPI), string(cluster.LevelControl), string(cluster.LevelNode)}
	if !slices.Contains(levels, o.level) {
		return nil, fmt.Errorf("unknown level %q; use api, control or node", o.level)
	}
	return set.Args(), o.findFolders(wanted)
}

// findFolders fills in the defaults that depend on where the repository is.
func (o *options) findFolders(wanted int) error {
	o.dirGiven = o.dir != ""
	found, err := findSource(o.source)
	if err != nil && (wanted&withBuild != 0 || o.dir == "") {
		return err
	}
	o.source = found
	cache := filepath.Join(filepath.Dir(filepath.Dir(found)), ".cache")
	if o.cache == "" {
		o.cache = filepath.Join(cache, "kube")
	}
	if o.dir == "" {
		o.dir = filepath.Join(cache, "cluster")
	}
	o.cache, err = filepath.Abs(o.cache)
	if err != nil {
		return fmt.Errorf("finding the cache: %w", err)
	}
	o.dir, err = filepath.Abs(o.dir)
	if err != nil {
		return fmt.Errorf("finding the cluster's folder: %w", err)
	}
	return nil
}

// findSource finds the module in the parents of the working folder.
func findSource(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the working folder: %w", err)
	}
	for {
		candidate := filepath.Join(dir, "hack", "localcluster")
		if _, err := os.Stat(filepath.Join(candidate, "cmd", "kube", "main.go")); err == nil {
			return candidate, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no hack/localcluster in the working folder or its parents; run this in the repository or set --source and --dir")
		}
		dir = parent
	}
}

func (o *options) builder() assets.Builder {
	return assets.Builder{Source: o.source, Cache: o.cache, Log: os.Stderr}
}
