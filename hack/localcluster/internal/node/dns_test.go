// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

// fakeAPI knows the Service web and the headless Service db of one namespace.
func fakeAPI(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path + "?" + r.URL.RawQuery {
	case "/api/v1/namespaces/shop/services?fieldSelector=metadata.name%3Dweb":
		fmt.Fprint(w, `{"items":[{"spec":{"clusterIP":"10.1.2.3"}}]}`)
	case "/api/v1/namespaces/shop/services?fieldSelector=metadata.name%3Ddb":
		fmt.Fprint(w, `{"items":[{"spec":{"clusterIP":"None"}}]}`)
	case "/api/v1/namespaces/broken/services?fieldSelector=metadata.name%3Dweb":
		http.Error(w, "etcd is down", http.StatusInternalServerError)
	case "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Ddb":
		fmt.Fprint(w, `{"items":[{"endpoints":[{"addresses":["10.1.0.5"],"conditions":{"ready":true}},
			{"addresses":["10.1.0.6"],"conditions":{"ready":false}},{"addresses":["10.1.0.7"]}]}]}`)
	default:
		fmt.Fprint(w, `{"items":[]}`)
	}
}

func TestPodsFindServicesByName(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(fakeAPI))
	defer api.Close()
	names := nameServer{server: api.URL, http: api.Client()}
	tests := map[string]struct {
		name  string
		kind  dnsmessage.Type
		rcode dnsmessage.RCode
		want  []string
	}{
		"a Service has its own address":                                    {"web.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, []string{"10.1.2.3"}},
		"names ignore case":                                                {"WEB.Shop.svc.CLUSTER.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, []string{"10.1.2.3"}},
		"a headless Service has those of its ready pods":                   {"db.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, []string{"10.1.0.5", "10.1.0.7"}},
		"a Service has no IPv6 address, but it exists":                     {"web.shop.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, nil},
		"a missing Service":                                                {"nobody.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, nil},
		"a name with too many parts, as search lists produce":              {"web.shop.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, nil},
		"a name of the Internet":                                           {"example.com.", dnsmessage.TypeA, dnsmessage.RCodeNameError, nil},
		"a failing API server is not an answer that a name does not exist": {"web.broken.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeServerFailure, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			reply := exchange(t, names, tc.name, tc.kind)
			if reply.RCode != tc.rcode || !reply.Response || reply.ID != 7 {
				t.Errorf("header is %+v, want code %v", reply.Header, tc.rcode)
			}
			var got []string
			for _, answer := range reply.Answers {
				body, ok := answer.Body.(*dnsmessage.AResource)
				if !ok {
					t.Fatalf("an answer is a %T", answer.Body)
				}
				got = append(got, fmt.Sprintf("%d.%d.%d.%d", body.A[0], body.A[1], body.A[2], body.A[3]))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

func exchange(t *testing.T, names nameServer, name string, kind dnsmessage.Type) dnsmessage.Message {
	t.Helper()
	asked, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	question := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{
		{Name: asked, Type: kind, Class: dnsmessage.ClassINET},
	}}
	packed, err := question.Pack()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := names.answer(packed)
	if err != nil {
		t.Fatal(err)
	}
	var reply dnsmessage.Message
	if err := reply.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestAPacketThatIsNotAQuestionIsAnError(t *testing.T) {
	if _, err := (nameServer{}).answer([]byte("hello")); err == nil {
		t.Error("no error")
	}
}
