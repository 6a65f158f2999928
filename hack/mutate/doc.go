// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command mutate breaks the product in each way that the rows of test/reliability list, one at a time, and runs the test
// that guards against it, which must fail. It changes no file: the compiler reads another version of one file (go build
// -overlay), also for programs that a test builds, and files that are not Go are changed in a copy of the repository. Run
// it from the root of the repository: make mutate.
package main
