// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/test/apiserver"
	"github.com/rekey/rekey/test/world"
)

const (
	operatorNamespace = "rekey-system"
	operatorAccount   = "system:serviceaccount:rekey-system:rekey"
	// tenant is the namespace in config/namespaced.
	tenant   = "web"
	patience = 90 * time.Second
)

// auditPolicy records every request in full, except the contents of Secrets and tokens.
const auditPolicy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"], "rules": [
  {"level": "Metadata", "resources": [{"group": "", "resources": ["secrets", "serviceaccounts/token"]}]},
  {"level": "Metadata", "resources": [{"group": "authentication.k8s.io", "resources": ["tokenreviews"]}]},
  {"level": "RequestResponse"}]}`

// cluster is a real API server with rekey installed from a folder of config/. No controller of Kubernetes runs in it.
type cluster struct {
	t      *testing.T
	folder string
	dir    string
	audit  string
	config *rest.Config
	client client.WithWatch
	// parsed is what was read from the audit log; read is its length.
	parsed []request
	read   int64
	// kubeconfig of a cluster admin.
	kubeconfig string
}

// strict is the installation that runs with the admission plugin OwnerReferencesPermissionEnforcement, as some clusters do.
const strict = "namespaced"

// install renders and applies config/<folder>.
func install(t *testing.T, folder string) *cluster {
	t.Helper()
	c := &cluster{t: t, folder: folder, dir: t.TempDir()}
	c.audit = filepath.Join(c.dir, "audit.log")
	policy := c.file("policy.json", auditPolicy)
	environment := &envtest.Environment{}
	environment.ControlPlane.GetAPIServer().Configure().
		Set("audit-policy-file", policy).Set("audit-log-path", c.audit).Set("audit-log-mode", "blocking").Set("audit-log-maxsize", "4000")
	if folder == strict {
		environment.ControlPlane.GetAPIServer().Configure().Set("enable-admission-plugins", "OwnerReferencesPermissionEnforcement")
	}
	if err := apiserver.Start(environment); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = apiserver.Stop(environment) })
	c.config = environment.Config
	scheme, err := world.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if c.client, err = client.NewWithWatch(c.config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	c.kubeconfig = c.file("admin.kubeconfig", string(kubeconfigOf(t, environment)))
	c.namespace(tenant, map[string]string{"internal-mtls": "true"})
	c.apply(string(rendered(t, folder)), "--server-side", "--force-conflicts")
	return c
}

func kubeconfigOf(t *testing.T, environment *envtest.Environment) []byte {
	t.Helper()
	user, err := environment.AddUser(envtest.User{Name: "person", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var renderings sync.Map

// rendered returns what `kubectl apply -k config/<folder>` would apply.
func rendered(t *testing.T, folder string) []byte {
	t.Helper()
	once, _ := renderings.LoadOrStore(folder, sync.OnceValues(func() ([]byte, error) {
		var stderr bytes.Buffer
		command := exec.Command("go", "-C", filepath.Join(world.Root(), "hack", "tools"), "tool", "kustomize", "build", filepath.Join(world.Root(), "config", folder))
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			return nil, fmt.Errorf("building config/%s: %w: %s", folder, err, stderr.String())
		}
		return out, nil
	}))
	out, err := once.(func() ([]byte, error))()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// file writes a text into the scratch folder.
func (c *cluster) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// apply runs kubectl apply, as a user does, so that the last-applied-configuration annotation exists.
func (c *cluster) apply(manifests string, flags ...string) {
	c.t.Helper()
	arguments := append([]string{"--kubeconfig", c.kubeconfig, "apply", "-f", c.file("manifests.yaml", manifests)}, flags...)
	out, err := exec.Command(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl"), arguments...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

func (c *cluster) namespace(name string, labels map[string]string) {
	c.t.Helper()
	c.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
}

func (c *cluster) create(objects ...client.Object) {
	c.t.Helper()
	for _, o := range objects {
		if err := c.client.Create(c.t.Context(), o); err != nil && !apierrors.IsAlreadyExists(err) {
			c.t.Fatalf("creating %T %s/%s: %v", o, o.GetNamespace(), o.GetName(), err)
		}
	}
}

// edit changes an object as a user does.
func (c *cluster) edit(o client.Object, change func()) {
	c.t.Helper()
	c.until("editing "+o.GetName(), func() error {
		if err := c.client.Get(c.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		change()
		return c.client.Update(c.t.Context(), o)
	})
}

func (c *cluster) remove(o client.Object) {
	c.t.Helper()
	if err := c.client.Delete(c.t.Context(), o); client.IgnoreNotFound(err) != nil {
		c.t.Fatalf("deleting %T %s: %v", o, o.GetName(), err)
	}
}

// until polls until check returns nil.
func (c *cluster) until(what string, ask func() error) {
	c.t.Helper()
	if err := poll(c.t.Context(), ask); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

func poll(ctx context.Context, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("condition not met within %s: %w", patience, err)
		case <-tick.C:
		}
	}
}

// token returns a token of a service account, as a pod gets one.
func (c *cluster) token(namespace, name string) string {
	c.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	request := &authenticationv1.TokenRequest{}
	if err := c.client.SubResource("token").Create(c.t.Context(), account, request); err != nil {
		c.t.Fatalf("requesting a token of %s/%s: %v", namespace, name, err)
	}
	return request.Status.Token
}

// accountConfig writes a kubeconfig of the operator's service account, and returns its path.
func (c *cluster) accountConfig() string {
	c.t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["here"] = &clientcmdapi.Cluster{Server: "https://" + strings.TrimPrefix(c.config.Host, "https://"), CertificateAuthorityData: c.config.CAData}
	config.AuthInfos["operator"] = &clientcmdapi.AuthInfo{Token: c.token(operatorNamespace, "rekey")}
	config.Contexts["here"] = &clientcmdapi.Context{Cluster: "here", AuthInfo: "operator"}
	config.CurrentContext = "here"
	text, err := clientcmd.Write(*config)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.file("operator.kubeconfig", string(text))
}
