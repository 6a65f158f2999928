// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reliability knows what can go wrong with credentials (the classes), how rekey prevents each, which test shows
// it, and how to break the product so that the test fails. The rows are YAML, a file for each class. From them
// docs/reliability.md is written; make try runs the tests of a class, make mutate the breaks.
package reliability
