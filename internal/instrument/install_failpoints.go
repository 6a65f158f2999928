// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build failpoints

package instrument

import (
	"os"

	"k8s.io/client-go/rest"

	"github.com/rekey/rekey/internal/failpoint"
)

// Install sets the failpoints that the environment names, on the connection to the API server too.
func Install(config *rest.Config) (Hooks, error) {
	points, err := failpoint.New(os.Getenv(failpoint.VariablePoint), os.Getenv(failpoint.VariableTrace))
	if err != nil {
		return Hooks{}, err
	}
	config.Wrap(points.Transport)
	return Hooks{Engine: points.Engine, Issuer: points.Issuer, Tracer: points.Tracer()}, nil
}
