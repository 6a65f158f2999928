// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command mutate breaks the product in each way that the rows of test/reliability name, one at a time, and runs the test
// that guards against it: it must fail. No file is touched: the compiler is handed another version of one file
// (go build -overlay), also where a test builds a program; what is no Go file is changed in a copy of the repository. It is run from the root of the repository: make mutate.
package main
