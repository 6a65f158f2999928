// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/pki"
)

// lifetimeSlack is how far a certificate's lifetime may differ from the one in the spec.
const lifetimeSlack = 2 * time.Hour

// KeyPair opens authorities with a key pair that a user provides.
type KeyPair struct{}

// keyPairSettings are the settings of an authority with a key pair that a user provides.
type keyPairSettings struct {
	// SecretName is where the key pair is.
	SecretName string `json:"secretName"`
}

var _ issuer.Opener = KeyPair{}

// Keys implements issuer.Opener. Trust anchors above the chain are optional; invalid ones are an error and do not count as absent.
func (KeyPair) Keys() []issuer.Key {
	return []issuer.Key{
		{Name: credential.KeyCertificate, MaxBytes: pki.MaxCertificateBytes},
		{Name: credential.KeyPrivateKey},
		{Name: credential.KeyAuthority, MaxBytes: pki.MaxCertificateBytes, Optional: true},
	}
}

// Open implements issuer.Opener. Every error has class Permanent.
func (KeyPair) Open(_ context.Context, config issuer.Config) (*issuer.Authority, error) {
	if err := decode(config.Settings, &keyPairSettings{}); err != nil {
		return nil, err
	}
	return open(config, config.Secret[credential.KeyAuthority].Reveal())
}

// Managed opens authorities with a self-signed key pair that rekey creates.
type Managed struct{}

var (
	_ issuer.Opener  = Managed{}
	_ issuer.Creator = Managed{}
)

// managedSettings are the settings of an authority with a key pair that rekey creates.
type managedSettings struct {
	CommonName   string   `json:"commonName"`
	KeyAlgorithm string   `json:"keyAlgorithm"`
	Lifetime     duration `json:"lifetime"`
	// SecretName is the name of the Secret with the key pair. It is decoded but not used: the caller has read the Secret.
	SecretName string `json:"secretName"`
}

// duration is in the form of Go, as the API stores it.
type duration struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) (err error) {
	d.Duration, err = time.ParseDuration(string(text))
	return err
}

func parseManaged(settings []byte) (managedSettings, error) {
	var out managedSettings
	err := decode(settings, &out)
	return out, err
}

// decode reads settings. A field that the issuer does not know is an error: it would be ignored silently.
func decode(settings []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(settings))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return invalid("reading the settings: %w", err)
	}
	return nil
}

// Keys implements issuer.Opener.
func (Managed) Keys() []issuer.Key {
	return []issuer.Key{{Name: credential.KeyCertificate, MaxBytes: pki.MaxCertificateBytes}, {Name: credential.KeyPrivateKey}}
}

// Open implements issuer.Opener. Every error has class Permanent. A key pair that was created for other settings is used, and the
// first note describes how it differs.
func (Managed) Open(_ context.Context, config issuer.Config) (*issuer.Authority, error) {
	settings, err := parseManaged(config.Settings)
	if err != nil {
		return nil, err
	}
	authority, err := open(config, nil)
	if err != nil {
		return nil, err
	}
	if note := earlierSettings(authority.Anchors, settings); note != "" {
		authority.Notes = append([]string{note}, authority.Notes...)
	}
	return authority, nil
}

// Create implements issuer.Creator.
func (Managed) Create(settings []byte, now time.Time) (credential.Material, error) {
	wanted, err := parseManaged(settings)
	if err != nil {
		return nil, err
	}
	crt, key, err := NewSelfSigned(Root{CommonName: wanted.CommonName, KeyAlgorithm: issuer.KeyAlgorithm(wanted.KeyAlgorithm), Lifetime: wanted.Lifetime.Duration}, now)
	if err != nil {
		return nil, err
	}
	return credential.Material{
		credential.KeyCertificate: credential.NewSensitive(crt), credential.KeyPrivateKey: key, credential.KeyAuthority: credential.NewSensitive(crt),
	}, nil
}

// open returns the authority of a key pair.
func open(config issuer.Config, anchors []byte) (*issuer.Authority, error) {
	parsed, err := Parse(config.Secret[credential.KeyCertificate].Reveal(), config.Secret[credential.KeyPrivateKey].Reveal(), anchors)
	if err != nil {
		return nil, err
	}
	signer, err := New(parsed, config.Constraints)
	if err != nil {
		return nil, err
	}
	notes, err := parsed.usageNotes(config.Constraints.Usages, config.Now)
	if err != nil {
		return nil, err
	}
	info := parsed.Info(config.Now)
	return &issuer.Authority{
		Issuer: signer,
		Info: issuer.Info{
			SignsWith: "the key pair", SHA256: info.SHA256, Subject: info.Subject, NotBefore: info.NotBefore, NotAfter: info.ChainNotAfter,
			RawSubject: parsed.certificate.RawSubject, Notes: slices.Concat(notes, parsed.serverNotes(config.Constraints.Usages), info.Notes),
		},
		Profile: issuer.Profile{Backdate: pki.Backdate, KeyID: info.KeyID},
		Anchors: info.Anchors,
	}, nil
}

// earlierSettings describes how a key pair differs from the settings, if it was created for an earlier authority of this name and
// retained; empty if it does not.
func earlierSettings(anchors []byte, wanted managedSettings) string {
	certificates, err := pki.ParseCertificates(anchors)
	if err != nil {
		return ""
	}
	certificate := certificates[0]
	var differs []string
	differ := func(field, has, wants string) {
		if has != wants {
			differs = append(differs, fmt.Sprintf("its %s is %q, but spec.managed says %q", field, has, wants))
		}
	}
	differ("commonName", certificate.Subject.CommonName, wanted.CommonName)
	differ("keyAlgorithm", string(pki.AlgorithmOf(certificate.PublicKey)), wanted.KeyAlgorithm)
	// The certificate is backdated: its validity starts slightly before the instant at which it was created.
	if lifetime := certificate.NotAfter.Sub(certificate.NotBefore); (lifetime - wanted.Lifetime.Duration).Abs() > lifetimeSlack {
		differ("lifetime", lifetime.Truncate(time.Hour).String(), wanted.Lifetime.String())
	}
	if len(differs) == 0 {
		return ""
	}
	return fmt.Sprintf("The key pair was kept from an earlier authority of this name: %s; for another key pair, create an authority with another name and secretName.", strings.Join(differs, "; "))
}
