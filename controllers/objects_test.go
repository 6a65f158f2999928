// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

// Most tests start with these objects and change what they test.

func duration(d time.Duration) v1alpha1.Duration  { return fixture.Duration(d) }
func anAuthority() *v1alpha1.CertificateAuthority { return fixture.Authority() }
func aClientIdentity() *v1alpha1.ClientIdentity   { return fixture.ClientIdentity("app") }
func aServerIdentity() *v1alpha1.ServerIdentity   { return fixture.ServerIdentity("api") }
func aPolicy() *v1alpha1.RotationPolicy           { return fixture.Policy() }
func anAdminSecret() *corev1.Secret               { return fixture.AdminSecret() }
func aServer() *v1alpha1.DatabaseServer           { return fixture.Server() }
func aCredential() *v1alpha1.DatabaseCredential   { return fixture.Credential("orders") }
