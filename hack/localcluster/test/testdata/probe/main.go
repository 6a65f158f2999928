// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command probe runs in a pod of the test and reports what the pod sees.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "echo" {
		fmt.Println(strings.Join(os.Args[2:], " "))
		return
	}
	http.HandleFunc("/value", func(w http.ResponseWriter, _ *http.Request) {
		data, err := os.ReadFile("/etc/probe/value")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(data)
	})
	http.HandleFunc("/fetch", fetch)
	log.Println("probe is ready")
	log.Fatal(http.ListenAndServe(":8080", nil)) //nolint:gosec // a test's server in a test's pod
}

// fetch requests a URL from within the pod. It does not verify certificates: the
// test is about packets.
func fetch(w http.ResponseWriter, r *http.Request) {
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
	}}
	resp, err := client.Get(r.URL.Query().Get("url"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}
