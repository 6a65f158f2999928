// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// controlPlane is a control plane that belongs to one test, which can kill and restart its parts.
type controlPlane struct {
	t               *testing.T
	dir             string
	etcdURL, peer   string
	port            string
	etcd, apiServer *exec.Cmd
	config          *rest.Config
	client          client.Client
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// startControlPlane starts etcd and an API server with rekey's kinds.
func startControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	p := &controlPlane{t: t, dir: t.TempDir(), port: freePort(t),
		etcdURL: "http://127.0.0.1:" + freePort(t), peer: "http://127.0.0.1:" + freePort(t)}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"sa.key":     string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"tokens.csv": "token-of-the-test,admin,admin,system:masters\n",
	} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.config = &rest.Config{Host: "https://127.0.0.1:" + p.port, BearerToken: "token-of-the-test",
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
	t.Cleanup(func() { p.killAPIServer(); p.killEtcd() })
	p.startEtcd()
	p.startAPIServer()
	if _, err := envtest.InstallCRDs(p.config, envtest.CRDInstallOptions{
		Paths: []string{filepath.Join(world.Root(), "config", "crd", "bases")}, ErrorIfPathMissing: true, MaxTime: time.Minute}); err != nil {
		t.Fatal(err)
	}
	scheme, err := world.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	if p.client, err = client.New(p.config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *controlPlane) run(name string, arguments ...string) *exec.Cmd {
	p.t.Helper()
	command := exec.Command(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), name), arguments...)
	if err := command.Start(); err != nil {
		p.t.Fatal(err)
	}
	return command
}

func kill(command *exec.Cmd) {
	if command != nil {
		_ = command.Process.Kill()
		_ = command.Wait()
	}
}

func (p *controlPlane) killEtcd()      { kill(p.etcd); p.etcd = nil }
func (p *controlPlane) killAPIServer() { kill(p.apiServer); p.apiServer = nil }

func (p *controlPlane) startEtcd() {
	p.t.Helper()
	p.etcd = p.run("etcd", "--data-dir", filepath.Join(p.dir, "etcd"), "--listen-client-urls", p.etcdURL, "--advertise-client-urls", p.etcdURL,
		"--listen-peer-urls", p.peer, "--log-level", "error", "--snapshot-count", "100000")
	p.awaitHealthy(http.DefaultClient, p.etcdURL+"/version")
}

func (p *controlPlane) startAPIServer() {
	p.t.Helper()
	at := func(name string) string { return filepath.Join(p.dir, name) }
	p.apiServer = p.run("kube-apiserver", "--etcd-servers", p.etcdURL, "--cert-dir", at("certs"), "--bind-address", "127.0.0.1", "--secure-port", p.port,
		"--authorization-mode", "RBAC", "--token-auth-file", at("tokens.csv"), "--service-account-issuer", "https://faults.test",
		"--service-account-key-file", at("sa.key"), "--service-account-signing-key-file", at("sa.key"), "--service-cluster-ip-range", "10.0.0.0/24",
		"--disable-admission-plugins", "ServiceAccount", "--etcd-healthcheck-timeout", "10s")
	transport, err := rest.HTTPClientFor(p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	p.awaitHealthy(transport, p.config.Host+"/readyz")
}

// awaitHealthy waits until a server reports that it is healthy.
func (p *controlPlane) awaitHealthy(c *http.Client, url string) {
	p.t.Helper()
	until(p.t, func() bool {
		response, err := c.Get(url)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, func() string { return url + " is not healthy" })
}

// copyEtcd copies the data of etcd while it is stopped.
func (p *controlPlane) copyEtcd(from, to string) {
	p.t.Helper()
	to = filepath.Join(p.dir, to)
	if err := os.RemoveAll(to); err != nil {
		p.t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(filepath.Join(p.dir, from))); err != nil {
		p.t.Fatal(err)
	}
}

// estate is the set of objects on a control plane: an authority with an identity, and a server with two logins.
type estate struct {
	*controlPlane
	fake       *databasetest.Fake
	authority  *v1alpha1.CertificateAuthority
	identity   *v1alpha1.ClientIdentity
	login      *v1alpha1.DatabaseCredential
	everything []client.Object
	stop       func()
}

func (p *controlPlane) settle() *estate {
	p.t.Helper()
	e := &estate{controlPlane: p, fake: databasetest.NewFakeOf(postgres.New(postgres.Options{})), authority: anAuthority(), identity: fixture.ClientIdentity("app"), login: aCredential("orders")}
	server := aServer()
	e.everything = []client.Object{e.authority, server, e.identity, e.login}
	e.start()
	p.create(append([]client.Object{aPolicy(), fixture.AdminSecret()}, e.everything...)...)
	untilHealthy(p.t, p.client, e.everything...)
	return e
}

func (e *estate) start() { e.stop = startOperator(e.t, e.config, "default", e.fake).stop }

func (p *controlPlane) create(objects ...client.Object) {
	p.t.Helper()
	for _, o := range objects {
		o.SetNamespace("default")
		if err := p.client.Create(p.t.Context(), o); err != nil {
			p.t.Fatal(err)
		}
	}
}

// rotate requests a rotation, and retries until the API server accepts the request.
func (e *estate) rotate(token string) {
	e.t.Helper()
	until(e.t, func() bool {
		login := &v1alpha1.DatabaseCredential{}
		if e.client.Get(e.t.Context(), client.ObjectKeyFromObject(e.login), login) != nil {
			return false
		}
		metav1.SetMetaDataAnnotation(&login.ObjectMeta, v1alpha1.AnnotationRotate, token)
		return e.client.Update(e.t.Context(), login) == nil
	}, func() string { return "the annotation could not be set" })
}

// retire requests the end of the overlap.
func (e *estate) retire(token string) {
	e.t.Helper()
	until(e.t, func() bool {
		login := &v1alpha1.DatabaseCredential{}
		if e.client.Get(e.t.Context(), client.ObjectKeyFromObject(e.login), login) != nil {
			return false
		}
		metav1.SetMetaDataAnnotation(&login.ObjectMeta, v1alpha1.AnnotationRetirePrevious, token)
		return e.client.Update(e.t.Context(), login) == nil
	}, func() string { return "the annotation could not be set" })
}

func (e *estate) published() bool {
	secret := &corev1.Secret{}
	err := e.client.Get(e.t.Context(), client.ObjectKey{Namespace: "default", Name: "orders-db"}, secret)
	return err == nil && e.fake.Accepts(string(secret.Data["username"]), string(secret.Data["password"]))
}

func (e *estate) revision(want int64) {
	e.t.Helper()
	until(e.t, func() bool {
		return e.client.Get(e.t.Context(), client.ObjectKeyFromObject(e.login), e.login) == nil && e.login.Status.Revision >= want && healthy(e.login)
	}, func() string {
		return fmt.Sprintf("revision %d, want %d:%s", e.login.Status.Revision, want, describe(e.login))
	})
}

// I1, I3, I8, R6, R27: the API server, or etcd, is killed during a rotation, while the operator lives or restarts: nothing is
// lost, nothing is rotated twice, and everything is in order afterwards.
func TestAControlPlaneKilledDuringARotationLosesNothing(t *testing.T) {
	e := startControlPlane(t).settle()
	revision := e.login.Status.Revision
	for turn, killed := range []string{"the API server", "etcd", "both, and the operator"} {
		// It dies during the call of the database: the ledger already records the version.
		e.fake.Before("Stage", func() {
			if killed != "the API server" {
				e.killEtcd()
			}
			if killed != "etcd" {
				e.killAPIServer()
			}
		})
		stages := e.fake.Calls("Stage")
		e.rotate(fmt.Sprintf("round %d", turn))
		until(t, func() bool { return e.fake.Calls("Stage") > stages }, func() string { return "nothing was staged" })
		late := fixture.ClientIdentity(fmt.Sprintf("late-%d", turn))
		late.Namespace = "default"
		if killed == "both, and the operator" {
			e.stop()
		}
		after(time.Duration(size.Number(3, 8)) * time.Second)
		if e.etcd == nil {
			e.startEtcd()
		}
		if e.apiServer == nil {
			e.startAPIServer()
		}
		if killed == "both, and the operator" {
			e.start()
		}
		until(t, func() bool { return e.client.Create(t.Context(), late) == nil }, func() string { return "the API server accepts no writes" })
		revision++
		e.revision(revision)
		untilHealthy(t, e.client, append(e.everything, late)...)
		if e.login.Status.Revision != revision || !e.published() {
			t.Errorf("after %s was killed the login is at revision %d, want %d, or is rejected", killed, e.login.Status.Revision, revision)
		}
		if again := e.fake.Calls("Stage") - stages; again > 2 {
			t.Errorf("after %s was killed the version was staged %d times", killed, again)
		}
		if e.identity.Status.Revision != 1 || late.Status.Revision != 1 {
			t.Errorf("after %s was killed the certificates are at revisions %d and %d", killed, e.identity.Status.Revision, late.Status.Revision)
		}
		e.retire(fmt.Sprintf("round %d", turn))
		until(t, func() bool {
			login, _ := e.fake.Login(map[string]string{"orders_a": "orders_b", "orders_b": "orders_a"}[e.login.Status.ActiveUsername])
			return !login.CanLogin
		}, func() string { return "the previous login is not retired" })
	}
}

// R19: etcd is restored from a copy from two rotations ago, so the markers at the server are ahead of the ledger. rekey is
// restarted, according to the runbook: the restored password works again, and no valid certificate is replaced.
func TestAnEtcdRestoredFromAnOldBackupIsRepairedAutomatically(t *testing.T) {
	e := startControlPlane(t).settle()
	serial := e.identity.Status.SerialNumber
	e.stop()
	e.killAPIServer()
	e.killEtcd()
	e.copyEtcd("etcd", "copy")
	e.startEtcd()
	e.startAPIServer()
	e.start()
	for turn := range 2 {
		e.rotate(fmt.Sprintf("round %d", turn))
		e.revision(int64(2 + turn))
		e.retire(fmt.Sprintf("round %d", turn))
		other := map[string]string{"orders_a": "orders_b", "orders_b": "orders_a"}[e.login.Status.ActiveUsername]
		until(t, func() bool { login, _ := e.fake.Login(other); return !login.CanLogin }, func() string { return "the previous login is not retired" })
	}
	newest := fixture.ClientIdentity("newest")
	e.create(newest)
	untilHealthy(t, e.client, newest)
	e.stop()
	e.killAPIServer()
	e.killEtcd()
	e.copyEtcd("copy", "etcd")
	e.startEtcd()
	e.startAPIServer()
	if e.published() {
		t.Fatal("the restored password works already: this proves nothing")
	}
	e.start()
	// A new process proves everything within five minutes. No request is needed, but a user who requests a rotation meanwhile
	// must not make it worse.
	e.rotate("after the restore")
	until(t, func() bool { return e.published() }, func() string { return "the published login is still rejected" })
	e.revision(4)
	untilHealthy(t, e.client, e.everything...)
	if e.identity.Status.SerialNumber != serial {
		t.Error("the restore created a new certificate")
	}
	if !e.published() {
		t.Error("the published credential is rejected in the end")
	}
}
