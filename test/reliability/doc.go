// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reliability lists what can go wrong with credentials (the classes), how rekey prevents it, which tests show that,
// and how to break the product so that a test fails. The rows are YAML, one file per class. docs/reliability.md is generated
// from them; make try runs the tests of a class, make mutate applies its breaks.
package reliability
