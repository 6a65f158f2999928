// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows the whole life of two credentials on a real cluster, in a few minutes, as a story.
//
// It starts a local Kubernetes with a real node and a PostgreSQL with TLS, runs the operator as a pod with nothing but the
// shipped roles, and applies config/samples with lifetimes of seconds instead of hours. An application that opens
// everything anew every second uses the credentials while they rotate. At the end stands a table of promises, each with what was
// expected and what was seen; a broken one makes the exit status 1.
//
// Where to read:
//
//	main.go      the run from its first step to its last
//	cluster.go   a cluster: a local one, or the one that KUBECONFIG names
//	place.go     where operator and programs run: pods.go on the node, processes.go beside it
//	samples.go   config/samples, hurried
//	observe.go   what is seen in the cluster; programs.go what the programs say; past.go remembers both
//	promises.go  what was promised, and whether it was kept; texts.go searches everything for secrets
//
// The programs that run in the cluster are in app and server. docs/demo.md shows a run.
package main
