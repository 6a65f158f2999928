// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rekey/rekey/hack/localcluster/internal/pki"
	"github.com/rekey/rekey/hack/localcluster/internal/process"
)

// client queries one server with one client certificate.
type client struct {
	server string
	http   *http.Client
}

func newClient(server string, ca *pki.Authority, pair pki.Pair) (client, error) {
	asker, err := pki.Client(ca.CertFile(), pair)
	return client{server: server, http: asker}, err
}

// get returns the body of a 200 answer.
func (c client) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+path, nil)
	if err != nil {
		return nil, fmt.Errorf("requesting %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("requesting %s: %w", path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("requesting %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("requesting %s: %s: %s", path, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// nodeReady returns nil once the API server reports the node as Ready.
func (c client) nodeReady(ctx context.Context, name string) error {
	body, err := c.get(ctx, "/api/v1/nodes/"+name)
	if err != nil {
		return err
	}
	var got struct {
		Status struct {
			Conditions []struct {
				Type    string `json:"type"`
				Status  string `json:"status"`
				Message string `json:"message"`
			} `json:"conditions"`
		} `json:"status"`
		Spec struct {
			Taints []struct {
				Key string `json:"key"`
			} `json:"taints"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return fmt.Errorf("reading the node: %w", err)
	}
	if len(got.Spec.Taints) > 0 {
		return fmt.Errorf("the node is still tainted with %s", got.Spec.Taints[0].Key)
	}
	for _, condition := range got.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		if condition.Status == "True" {
			return nil
		}
		return fmt.Errorf("the node is not ready: %s", condition.Message)
	}
	return errors.New("the node has not reported yet")
}

// await polls until the answer is good, the child exits, or the time is over.
func await(ctx context.Context, child *process.Child, ask func(context.Context) error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-child.Done():
			return fmt.Errorf("it exited\n%s", process.Tail(child.LogFile, 20))
		case <-ctx.Done():
			return fmt.Errorf("it was not ready in time: %w (%w)\n%s", err, context.Cause(ctx), process.Tail(child.LogFile, 20))
		case <-tick.C:
		}
	}
}

// withoutProxy returns the environment without proxy settings: every program
// connects only to this machine.
func withoutProxy() []string {
	names := []string{"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, strings.ToLower(name))
	})
}
