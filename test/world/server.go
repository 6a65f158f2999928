// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/go-logr/logr"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/apiserver"
)

// apiServer is shared by all tests of a package that calls Main.
var apiServer *rest.Config

// Main runs the tests of a package with a real API server, and then each of the functions.
func Main(m *testing.M, after ...func()) int {
	ctrl.SetLogger(logr.Discard())
	for _, f := range after {
		defer f()
	}
	environment, err := StartAPIServer()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = apiserver.Stop(environment) }()
	apiServer = environment.Config
	return m.Run()
}

// APIServer returns the configuration of the server that Main started, for clients of a test's own.
func APIServer() *rest.Config { return rest.CopyConfig(apiServer) }

// StartAPIServer starts an API server with our CRDs. The caller stops it.
func StartAPIServer() (*envtest.Environment, error) {
	environment := &envtest.Environment{}
	// As in some clusters: naming an owner that blocks deletion requires the right to set its finalizers.
	environment.ControlPlane.GetAPIServer().Configure().Set("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	return environment, apiserver.Start(environment)
}

// Root returns the folder of the module.
func Root() string { return apiserver.Root() }

// Scheme returns a scheme with the kinds of Kubernetes and our own.
func Scheme() (*apiruntime.Scheme, error) {
	scheme := apiruntime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("registering the kinds: %w", err)
	}
	return scheme, nil
}
