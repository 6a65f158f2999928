// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
)

// kind is what the matrix needs to know about a kind.
type kind struct {
	name string
	// database is true if a life needs a server: it then runs on every version.
	database bool
	// sampled is true if short size does not test every request, because that takes long or another kind tests the same.
	sampled bool
	// twin is true if another kind takes the same steps through the same code.
	twin bool
	// object returns the object of a run, which does not exist yet.
	object func(*run) client.Object
	// always fails the run if an invariant that must always hold does not.
	always func(*run)
	// reached returns what the status lacks, or an empty string.
	reached func(*run, want) string
	// finally fails the run if an invariant does not hold at the end of the story.
	finally func(*run, want)
	// clean removes what the run left outside its namespace.
	clean func(*run)
}

func nothing(*run)                     {}
func nothingMissing(*run, want) string { return "" }
func nothingMore(*run, want)           {}

// authority creates a key pair, once.
func authority(name string, object func(name string, spec v1alpha1.AuthoritySpec) client.Object) kind {
	return kind{
		name: name, sampled: name == "ClusterCertificateAuthority", twin: name == "ClusterCertificateAuthority",
		object:  func(r *run) client.Object { return object(r.id, authoritySpec(r.id+"-secret")) },
		always:  keyPairKept,
		reached: nothingMissing, finally: keyPairFinally, clean: nothing,
	}
}

var certificateAuthority = authority("CertificateAuthority", func(name string, spec v1alpha1.AuthoritySpec) client.Object {
	return fixture.Authority(func(a *v1alpha1.CertificateAuthority) { a.Name, a.Spec = name, spec })
})

var clusterCertificateAuthority = authority("ClusterCertificateAuthority", func(name string, spec v1alpha1.AuthoritySpec) client.Object {
	return fixture.ClusterAuthority(name, func(a *v1alpha1.ClusterCertificateAuthority) { a.Spec.AuthoritySpec = spec })
})

// keyPairKept checks I5 for an authority: its key never changes, and the Secret that holds it stays.
func keyPairKept(r *run) {
	r.seen.Lock()
	made := len(r.seen.leaves[0])
	r.seen.Unlock()
	if made > 1 {
		r.fail("I5", "%d key pairs were stored for one authority", made)
	}
	secret := r.secret(r.id + "-secret")
	if secret == nil && r.published {
		r.fail("I1", "the key pair existed, but no longer does")
	}
	r.published = r.published || secret != nil
}

func keyPairFinally(r *run, w want) {
	secret := r.secret(r.id + "-secret")
	var record corev1.ConfigMap
	r.must(r.Client.Get(r.Ctx, client.ObjectKey{Namespace: r.Namespace, Name: secretstore.LedgerName(r.life.kind.name, r.id)}, &record))
	if secret == nil || record.Data["tls.crt"] != string(secret.Data["tls.crt"]) {
		r.fail("I5", "the record does not match the key pair")
	}
	if _, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"]); err != nil {
		r.fail("I1", "the key pair is invalid")
	}
	if w.gone {
		return
	}
	goes := specOf(r.object).DeletionPolicy == v1alpha1.DeletionDelete
	if ownedBy(secret, r.object) != goes || ownedBy(&record, r.object) != goes {
		r.fail("I8", "with the deletion policy %s, the Secret is deleted with the authority: %v, the record: %v",
			specOf(r.object).DeletionPolicy, ownedBy(secret, r.object), ownedBy(&record, r.object))
	}
}

// specOf returns the part of the spec that both kinds of authority share.
func specOf(o client.Object) *v1alpha1.AuthoritySpec {
	if cluster, ok := o.(*v1alpha1.ClusterCertificateAuthority); ok {
		return &cluster.Spec.AuthoritySpec
	}
	return &o.(*v1alpha1.CertificateAuthority).Spec
}

var clientIdentity = kind{
	name: "ClientIdentity",
	object: func(r *run) client.Object {
		return fixture.ClientIdentity(r.id, func(i *v1alpha1.ClientIdentity) {
			configureIdentity(r.id, &i.Spec.IdentitySpec)
			i.Spec.CommonName = "app"
		})
	},
	always: certificateWorks, reached: certificateReached, finally: certificateFinally, clean: nothing,
}

var serverIdentity = kind{
	name: "ServerIdentity",
	object: func(r *run) client.Object {
		return fixture.ServerIdentity(r.id, func(i *v1alpha1.ServerIdentity) {
			configureIdentity(r.id, &i.Spec.IdentitySpec)
			i.Spec.DNSNames = []v1alpha1.DNSName{"api.example.internal"}
		})
	},
	always: certificateWorks, reached: certificateReached, finally: certificateFinally, clean: nothing,
}

// identityOf returns the parts of an identity of either kind.
func identityOf(o client.Object) (*v1alpha1.IdentitySpec, *v1alpha1.IdentityStatus) {
	if server, ok := o.(*v1alpha1.ServerIdentity); ok {
		return &server.Spec.IdentitySpec, &server.Status
	}
	identity := o.(*v1alpha1.ClientIdentity)
	return &identity.Spec.IdentitySpec, &identity.Status
}

// certificateWorks checks I1 and I5: a TLS handshake with the published certificate succeeds, and a revision has one key.
func certificateWorks(r *run) {
	r.seen.Lock()
	for seq, leaves := range r.seen.leaves {
		if len(leaves) > 1 {
			r.seen.Unlock()
			r.fail("I5", "%d certificates were stored as revision %d", len(leaves), seq)
		}
	}
	r.seen.Unlock()
	secret := r.secret(r.id + "-secret")
	if secret == nil {
		if r.published {
			r.fail("I1", "the Secret was published, but no longer exists")
		}
		return
	}
	r.published = true
	_, isServer := r.object.(*v1alpha1.ServerIdentity)
	if err := handshakes(secret, isServer, r.clock.Now()); err != nil {
		r.fail("I1", "the certificate in the Secret (revision %d) does not work: %v", revisionOf(secret), err)
	}
}

func certificateReached(r *run, w want) string {
	_, status := identityOf(r.object)
	if status.Revision != w.revision {
		return fmt.Sprintf("the status reports revision %d, not %d", status.Revision, w.revision)
	}
	return ""
}

func certificateFinally(r *run, w want) {
	secret := r.secret(r.id + "-secret")
	if secret == nil {
		r.fail("I1", "the Secret does not exist")
	}
	if revisionOf(secret) != w.revision && !w.gone {
		r.fail("I3", "the Secret has revision %d, not %d", revisionOf(secret), w.revision)
	}
	spec, status := identityOf(r.object)
	if goes := spec.DeletionPolicy == v1alpha1.DeletionDelete; ownedBy(secret, r.object) != goes {
		r.fail("I8", "with the deletion policy %s, the Secret is deleted with the identity: %v", spec.DeletionPolicy, ownedBy(secret, r.object))
	}
	if w.gone {
		return
	}
	chain, err := pki.ParseCertificates(secret.Data["tls.crt"])
	r.must(err)
	leaf := chain[0]
	if status.SerialNumber != pki.SerialNumber(leaf.SerialNumber) {
		r.fail("I8", "the status describes a certificate other than the Secret's")
	}
	for _, name := range spec.DNSNames {
		if !slices.Contains(leaf.DNSNames, string(name)) {
			r.fail("I8", "the certificate lacks %s", name)
		}
	}
	if leaf.Subject.CommonName != spec.CommonName {
		r.fail("I8", "the certificate is for %q", leaf.Subject.CommonName)
	}
}

// peer is the other side of every handshake.
var peer = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "peer"}, DNSNames: []string{"peer"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})

// handshakes uses a Secret as its owner does, with a peer that trusts its authority.
func handshakes(secret *corev1.Secret, isServer bool, now time.Time) error {
	pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		return errors.New("key and certificate do not match")
	}
	trusted, known := x509.NewCertPool(), x509.NewCertPool()
	trusted.AppendCertsFromPEM(secret.Data["ca.crt"])
	known.AddCert(peer().Leaf)
	at := func() time.Time { return now }
	server := &tls.Config{Certificates: []tls.Certificate{peer()}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert, Time: at}
	dialer := &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: known, ServerName: "peer", Time: at}
	if isServer {
		server = &tls.Config{Certificates: []tls.Certificate{pair}, Time: at}
		dialer = &tls.Config{RootCAs: trusted, ServerName: "api.example.internal", Time: at}
	}
	near, far := net.Pipe()
	defer func() { _, _ = near.Close(), far.Close() }()
	served := make(chan error, 1)
	go func() {
		connection := tls.Server(far, server)
		err := connection.Handshake()
		if err == nil {
			_, err = connection.Write([]byte{1})
		}
		served <- err
		_ = far.Close()
	}()
	dialed := tls.Client(near, dialer)
	err = dialed.Handshake()
	if err == nil {
		_, err = dialed.Read(make([]byte, 1))
	}
	_ = near.Close()
	return errors.Join(err, <-served)
}

var databaseServer = kind{
	name: "DatabaseServer", database: true, sampled: true,
	object: func(r *run) client.Object { return aServer(r.id, r.server.Address()) },
	always: nothing, finally: nothingMore, clean: nothing,
	reached: func(r *run, _ want) string {
		if r.object.(*v1alpha1.DatabaseServer).Status.ServerVersion == "" {
			return "the status names no version"
		}
		return ""
	},
}

var rotationPolicy = kind{
	name:   "RotationPolicy",
	object: func(r *run) client.Object { return aPolicy(r.id) },
	always: nothing, finally: nothingMore, clean: nothing,
	reached: func(r *run, w want) string {
		if users := r.object.(*v1alpha1.RotationPolicy).Status.Users; users == nil || *users != w.users {
			return fmt.Sprintf("the status does not count %d users", w.users)
		}
		return ""
	},
}
