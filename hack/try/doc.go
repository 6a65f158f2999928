// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command try runs the tests that the rows of test/reliability list for a class, and prints what each shows. Run it from
// the root of the repository: make try CLASS=R2. With -stages it runs no test and records the results that the last stages
// of hack/test.sh left: make record.
package main
