// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rekey/rekey/hack/localcluster/internal/assets"
	"github.com/rekey/rekey/hack/localcluster/internal/cluster"
	"github.com/rekey/rekey/hack/localcluster/internal/doctor"
	"github.com/rekey/rekey/hack/localcluster/internal/node"
)

func assetsCommand(ctx context.Context, args []string) error {
	var o options
	rest, err := o.parse("assets", args, withBuild)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("assets takes no argument, got %q", rest)
	}
	dir, err := o.builder().Ensure(ctx, assets.ForAPI)
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}

// clusterOptions checks whether the level can work here, and builds what it
// needs.
func (o *options) clusterOptions(ctx context.Context) (cluster.Options, error) {
	opts := cluster.Options{Dir: o.dir, Level: cluster.Level(o.level), APIServerArgs: o.apiServerArgs, Log: os.Stderr}
	programs := assets.ForAPI
	if opts.Level != cluster.LevelAPI {
		programs = assets.All
	}
	if opts.Level == cluster.LevelNode {
		if missing := doctor.Missing(doctor.Node()); len(missing) > 0 {
			return opts, fmt.Errorf("the node level does not work here:\n%s\nwhat still works: --level control, and `make test`", doctor.Text(missing))
		}
	}
	var err error
	if opts.Assets, err = o.builder().Ensure(ctx, programs); err != nil {
		return opts, err
	}
	if opts.Level == cluster.LevelNode {
		opts.PauseImage, err = o.builder().PauseImage(ctx)
	}
	return opts, err
}

func statusCommand(_ context.Context, args []string) error {
	var o options
	if _, err := o.parse("status", args, withDir); err != nil {
		return err
	}
	state, err := cluster.Load(o.dir)
	if err != nil {
		return err
	}
	printState(o.dir, state)
	if !state.Launcher.Alive() {
		return errors.New("its launcher was interrupted; `localcluster down` or the next `up` cleans up what it left")
	}
	if !state.Ready {
		return errors.New("it is not ready")
	}
	return nil
}

// printState writes one KEY=value per line, for scripts.
func printState(dir string, s cluster.State) {
	fmt.Printf("LOCALCLUSTER_DIR=%s\nLEVEL=%s\nREADY=%t\n", dir, s.Level, s.Ready && s.Launcher.Alive())
	fmt.Printf("KUBECONFIG=%s\nKUBEBUILDER_ASSETS=%s\nSERVER=%s\nLAUNCHER_PID=%d\n", s.Kubeconfig, s.Assets, s.Server, s.Launcher.PID)
	if s.Node != nil {
		fmt.Printf("HOST_IP=%s\nNODE_IP=%s\nPOD_CIDR=%s\nSERVICE_CIDR=%s\n", s.Node.HostIP, s.Node.NodeIP, s.Node.PodCIDR, s.Node.ServiceCIDR)
	}
}

func loadCommand(ctx context.Context, args []string) error {
	var o options
	archives, err := o.parse("load", args, withDir)
	if err != nil {
		return err
	}
	if len(archives) == 0 {
		return errors.New("load needs at least one image archive")
	}
	state, err := cluster.Load(o.dir)
	if err != nil {
		return err
	}
	if state.Node == nil || !state.Ready {
		return fmt.Errorf("the cluster in %s has no node that is ready; start it with --level node", o.dir)
	}
	for _, archive := range archives {
		if err := node.Import(ctx, *state.Node, archive); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "loaded", archive)
	}
	return nil
}

func doctorCommand(_ context.Context, args []string) error {
	var o options
	if _, err := o.parse("doctor", args, withBuild); err != nil {
		return err
	}
	built := o.builder()
	fmt.Print(doctor.Report(built.Current()))
	return nil
}
