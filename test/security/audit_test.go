// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"bufio"
	"encoding/json"
	"os"
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

// requests reads the whole audit log.
func (c *cluster) requests() []request {
	c.t.Helper()
	file, err := os.Open(c.audit)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var out []request
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		r := request{line: lines.Text()}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			c.t.Fatalf("reading the audit log: %v", err)
		}
		out = append(out, r)
	}
	if err := lines.Err(); err != nil {
		c.t.Fatal(err)
	}
	return out
}
