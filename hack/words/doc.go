// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command words checks the language of the tree: the phrases of words.yaml, which read as a translation or are not what Go and
// Kubernetes call the thing, and Markdown lines that are too long. It reads Go comments, string literals and identifiers (split
// at their capitals), Markdown prose, and the text of YAML files and scripts.
//
//	go run ./hack/words          checks every file that git knows
//	go run ./hack/words docs     checks these files and folders
//	go run ./hack/words -count   prints how many findings each folder has
//
// Each finding is one line, `file:line: "found": write "replacement"`. The exit status is 1 if there is any, and 2 if the check
// itself failed. To add a phrase, add one line to words.yaml.
package main
