// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apiserver starts real API servers for tests, and creates cheap clients.
package apiserver

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Start starts an API server. It has our CRDs unless the environment names others. The caller stops it.
func Start(environment *envtest.Environment) error {
	if _, err := os.Stat(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-apiserver")); err != nil {
		return errors.New("these tests need a real API server: run `make assets` and set KUBEBUILDER_ASSETS to the folder that it prints, or run `make test`")
	}
	if len(environment.CRDs) == 0 && len(environment.CRDDirectoryPaths) == 0 {
		environment.CRDDirectoryPaths, environment.ErrorIfCRDPathMissing = []string{filepath.Join(Root(), "config", "crd", "bases")}, true
	}
	// Fair queueing takes a twentieth of the processor time, and no test depends on it.
	environment.ControlPlane.GetAPIServer().Configure().Set("enable-priority-and-fairness", "false")
	// Generous: other packages can keep the machine busy.
	environment.ControlPlaneStartTimeout, environment.ControlPlaneStopTimeout = 2*time.Minute, time.Minute
	token, file, err := adminToken()
	defer func() { _ = os.Remove(file) }() // The server reads it once.
	if err != nil {
		return fmt.Errorf("writing the administrator's token: %w", err)
	}
	environment.ControlPlane.GetAPIServer().Configure().Set("token-auth-file", file)
	defer collectLess()()
	if _, err := environment.Start(); err != nil {
		return fmt.Errorf("starting the API server: %w", err)
	}
	// Verifying a client certificate takes a tenth of the processor time of a request.
	environment.Config.BearerToken, environment.Config.CertData, environment.Config.KeyData = token, nil, nil
	environment.Config.QPS = -1
	return nil
}

// adminToken writes a file with a token of an administrator.
func adminToken() (token, file string, err error) {
	f, err := os.CreateTemp("", "tokens-*.csv")
	if err != nil {
		return "", "", err
	}
	token = rand.Text()
	_, err = fmt.Fprintf(f, "%s,admin,admin,system:masters\n", token)
	return token, f.Name(), errors.Join(err, f.Close())
}

// Stop stops an API server that Start started, and drops what its clients had in common: another one may get its port.
func Stop(environment *envtest.Environment) error {
	if config := environment.Config; config != nil {
		clients.Lock()
		maps.DeleteFunc(clients.byServer, func(key serverKey, _ shared) bool { return key.host == config.Host })
		clients.Unlock()
	}
	return environment.Stop()
}

// Root returns the folder of the module: the working directory of a test is the folder of its package.
func Root() string {
	start, err := os.Getwd()
	if err != nil {
		panic(fmt.Sprintf("finding the module: %v", err))
	}
	for folder := start; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			panic(fmt.Sprintf("finding the module: %s is not inside one", start))
		}
	}
}

// collecting serializes changes of this process's environment.
var collecting sync.Mutex

// collectLess makes programs that are started from now on collect garbage less often, up to a memory limit: an API server then needs
// a tenth less processor time. The returned function restores the environment.
func collectLess() (end func()) {
	collecting.Lock()
	before := map[string]string{"GOGC": os.Getenv("GOGC"), "GOMEMLIMIT": os.Getenv("GOMEMLIMIT")}
	set := func(values map[string]string) {
		for name, value := range values {
			if err := os.Setenv(name, value); err != nil {
				panic(err) // A name without '=' is always accepted.
			}
		}
	}
	set(map[string]string{"GOGC": "300", "GOMEMLIMIT": "1500MiB"})
	return func() { set(before); collecting.Unlock() }
}

// Scheme returns a scheme with the kinds of Kubernetes and our own.
var Scheme = sync.OnceValues(func() (*apiruntime.Scheme, error) {
	scheme := apiruntime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("registering the kinds: %w", err)
	}
	return scheme, nil
})

// shared is what all clients of a server share: connecting and discovering its kinds cost more than most tests.
type shared struct {
	http   *http.Client
	mapper meta.RESTMapper
}

// serverKey names a server and who asks it. A server of an earlier test may have had the same address.
type serverKey struct {
	host        string
	credentials [sha256.Size]byte
}

func keyOf(config *rest.Config) serverKey {
	texts := []string{
		config.BearerToken, config.Username, config.Password, config.Impersonate.UserName, config.Impersonate.UID, strings.Join(config.Impersonate.Groups, ","),
		string(config.CAData), string(config.CertData), string(config.KeyData), config.CAFile, config.CertFile, config.KeyFile,
	}
	return serverKey{config.Host, sha256.Sum256([]byte(strings.Join(texts, "\x00")))}
}

var clients = struct {
	sync.Mutex
	byServer map[serverKey]shared
}{byServer: map[serverKey]shared{}}

// Client returns a client with the credentials in the config.
func Client(config *rest.Config) (client.WithWatch, error) {
	scheme, err := Scheme()
	if err != nil {
		return nil, err
	}
	clients.Lock()
	defer clients.Unlock()
	key := keyOf(config)
	of, known := clients.byServer[key]
	if !known {
		if of.http, err = rest.HTTPClientFor(config); err != nil {
			return nil, fmt.Errorf("connecting to the API server: %w", err)
		}
		if of.mapper, err = apiutil.NewDynamicRESTMapper(config, of.http); err != nil {
			return nil, fmt.Errorf("discovering the kinds: %w", err)
		}
		clients.byServer[key] = of
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme, HTTPClient: of.http, Mapper: of.mapper})
}
