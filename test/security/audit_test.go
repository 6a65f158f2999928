// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
)

// request is a line of the audit log.
type request struct {
	line string

	Verb        string            `json:"verb"`
	RequestURI  string            `json:"requestURI"`
	Annotations map[string]string `json:"annotations"`
	User        struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"responseStatus"`
}

// forbidden reports whether the user lacked the right. A refusal by admission is something else.
func (r request) forbidden() bool { return r.Annotations["authorization.k8s.io/decision"] == "forbid" }

func (r request) resource() string {
	if r.ObjectRef.Subresource != "" {
		return r.ObjectRef.Resource + "/" + r.ObjectRef.Subresource
	}
	return r.ObjectRef.Resource
}

// requests returns the whole audit log. It reads what was added since the last call.
func (c *cluster) requests() []request {
	c.t.Helper()
	file, err := os.Open(c.audit)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(c.read, io.SeekStart); err != nil {
		c.t.Fatal(err)
	}
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return c.parsed // The server may still be writing the last line.
		}
		if err != nil {
			c.t.Fatal(err)
		}
		r := request{line: strings.TrimSuffix(string(line), "\n")}
		if err := json.Unmarshal(line, &r); err != nil {
			c.t.Fatalf("reading the audit log: %v", err)
		}
		c.parsed, c.read = append(c.parsed, r), c.read+int64(len(line))
	}
}
