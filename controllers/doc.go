// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers is the imperative shell: the only package that depends on both Kubernetes and the planner.
//
// One reconcile of a credential (<kind>_controller.go) flows like this:
//
//	resolve   spec, policy and references become plain values and a Source
//	Drive     observe -> rotation.Next -> perform one step, until no step is left (internal/lifecycle)
//	report    Outcome -> conditions -> status -> Events -> Result (internal/report)
//
// Authorities, servers and policies have no versions: they are checked and reported.
//
// Where to start reading: README, config/samples, one of api/v1alpha1/*_types.go, internal/rotation/doc.go and next.go, then
// internal/lifecycle/doc.go and driver.go, then one engine. kinds.go is the table of kinds, from which setup.go sets up every
// controller, index and watch.
//
// Three rules hold everywhere. A request to a remote system is recorded before it is sent. Status is a report and never an
// input. After every effect, the state is observed again.
package controllers
