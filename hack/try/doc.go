// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command try runs the tests that the rows of test/reliability name for a class, and says of each what it shows. It is run
// from the root of the repository: make try CLASS=R2. With -stages it runs nothing, and writes down what the stages of hack/test.sh
// saw: make record.
package main
