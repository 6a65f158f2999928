// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build failpoints

package main

import (
	"os"

	"k8s.io/client-go/rest"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/controllers"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/failpoint"
	"github.com/rekey/rekey/internal/netguard"
)

// instrument sets the failpoints on every way out of the process.
func instrument(config *rest.Config, options *controllers.Options) error {
	points, err := failpoint.New(os.Getenv(failpoint.VariablePoint), os.Getenv(failpoint.VariableTrace))
	if err != nil {
		return err
	}
	config.Wrap(points.Transport)
	options.KeyPairs = points.KeyPairs(options.KeyPairs)
	options.Engines = map[v1alpha1.Engine]database.Engine{
		v1alpha1.EnginePostgreSQL: points.Engine(postgres.New(postgres.Options{Dialer: &netguard.Dialer{}, Tracer: points.Tracer()})),
	}
	return nil
}
