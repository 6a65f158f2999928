// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// domain is the suffix of every name that the server knows.
const domain = "svc.cluster.local."

// nameServer resolves Services for pods. It queries the API server each time, so
// it has no state. Other names do not exist: a node has no route out of the
// machine.
type nameServer struct {
	server string
	http   *http.Client
}

// serve answers queries until the connection fails.
func (n nameServer) serve(conn net.PacketConn) error {
	buffer := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return fmt.Errorf("reading a query: %w", err)
		}
		question := append([]byte(nil), buffer[:size]...)
		go func() {
			answer, err := n.answer(question)
			if err != nil {
				log.Printf("name server: %v", err)
				return
			}
			// Clients retry if an answer is lost.
			_, _ = conn.WriteTo(answer, from)
		}()
	}
}

func (n nameServer) answer(question []byte) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(question)
	if err != nil {
		return nil, fmt.Errorf("reading a query: %w", err)
	}
	asked, err := parser.Question()
	if err != nil {
		return nil, fmt.Errorf("reading a query: %w", err)
	}
	reply := dnsmessage.Message{
		Header: dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true,
			RecursionDesired: header.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{asked},
	}
	addresses, err := n.lookup(strings.ToLower(asked.Name.String()))
	switch {
	case errors.Is(err, errNoName):
		reply.RCode = dnsmessage.RCodeNameError
	case err != nil:
		log.Printf("name server: %v", err)
		reply.RCode = dnsmessage.RCodeServerFailure
	case asked.Type == dnsmessage.TypeA:
		for _, address := range addresses {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: asked.Name, Class: dnsmessage.ClassINET, TTL: 5},
				Body:   &dnsmessage.AResource{A: address},
			})
		}
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil, fmt.Errorf("writing an answer: %w", err)
	}
	return packed, nil
}

var errNoName = errors.New("no such name")

// lookup returns the address of a Service, or its pods' addresses if it is
// headless.
func (n nameServer) lookup(name string) ([][4]byte, error) {
	service, ok := strings.CutSuffix(name, "."+domain)
	if !ok {
		return nil, errNoName
	}
	parts := strings.Split(service, ".")
	if len(parts) != 2 {
		return nil, errNoName
	}
	var services struct {
		Items []struct{ Spec struct{ ClusterIP string } }
	}
	if err := n.list("/api/v1", parts[1], "services", url.Values{"fieldSelector": {"metadata.name=" + parts[0]}}, &services); err != nil {
		return nil, err
	}
	if len(services.Items) == 0 {
		return nil, errNoName
	}
	if address := services.Items[0].Spec.ClusterIP; address != "None" {
		return addresses(address), nil
	}
	return n.endpoints(parts[0], parts[1])
}

func (n nameServer) endpoints(service, namespace string) ([][4]byte, error) {
	var slices struct {
		Items []struct {
			Endpoints []struct {
				Addresses  []string
				Conditions struct{ Ready *bool }
			}
		}
	}
	query := url.Values{"labelSelector": {"kubernetes.io/service-name=" + service}}
	if err := n.list("/apis/discovery.k8s.io/v1", namespace, "endpointslices", query, &slices); err != nil {
		return nil, err
	}
	var found [][4]byte
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if ready := endpoint.Conditions.Ready; ready == nil || *ready {
				found = append(found, addresses(endpoint.Addresses...)...)
			}
		}
	}
	return found, nil
}

// addresses returns the IPv4 addresses; a node has no others.
func addresses(texts ...string) [][4]byte {
	var found [][4]byte
	for _, text := range texts {
		if address := net.ParseIP(text).To4(); address != nil {
			found = append(found, [4]byte(address))
		}
	}
	return found
}

func (n nameServer) list(api, namespace, resource string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	address := n.server + api + "/namespaces/" + url.PathEscape(namespace) + "/" + resource + "?" + query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("listing %s: %w", resource, err)
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return fmt.Errorf("listing %s: %w", resource, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return fmt.Errorf("listing %s: %w", resource, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("listing %s: %s: %s", resource, resp.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("reading the list of %s: %w", resource, err)
	}
	return nil
}
