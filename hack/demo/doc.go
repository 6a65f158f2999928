// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo tells the whole life of two credentials as a story, on a real cluster, in a few minutes.
//
// It starts a local Kubernetes with a real node and a PostgreSQL with TLS, runs the operator as a pod with only the shipped
// roles, and applies config/samples with lifetimes of seconds instead of hours. Meanwhile an application opens new
// connections every second with the rotating credentials. The demo ends with a table of promises, each with what was
// expected and what was observed; if one was broken, the exit status is 1.
//
// Where to start reading:
//
//	main.go      one run, from the first step to the last
//	cluster.go   a cluster: a local one, or the one that KUBECONFIG names
//	place.go     where the operator and the programs run: as pods (pods.go) or as processes (processes.go)
//	samples.go   config/samples with short lifetimes
//	observe.go   watches the cluster; words.go reads the programs' logs; past.go records both
//	promises.go  the promises and whether they were kept; texts.go searches every text for secrets
//
// The programs that run in the cluster are in app and server. docs/demo.md shows a run.
package main
