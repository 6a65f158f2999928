// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
)

const (
	// secretsPage is the first page size for Secrets that cannot be streamed: each may have 1 MiB.
	secretsPage = 32
	// largestSecretsPage is the largest page size, used if the previous Secrets were small.
	largestSecretsPage = 512
	// pageBytes is the target size of a page, in bytes.
	pageBytes = 8 << 20
	// mostPageBytes is the limit at which reading a page of more than secretsPage Secrets stops: the size of the next Secrets is
	// unknown. That page and all later ones are then requested with secretsPage.
	mostPageBytes = 32 << 20
)

// errAnswerTooLong ends the reading of a response that exceeds its limit.
var errAnswerTooLong = errors.New("the response exceeds the limit of this process")

// answerBound limits the size of the response to a request. heeded is true if a transport enforces it.
type answerBound struct {
	most   int64
	heeded bool
}

type answerBoundKey struct{}

// BoundAnswers returns a transport that stops reading a response that exceeds the limit in the request's context.
func BoundAnswers(next http.RoundTripper) http.RoundTripper { return boundingTransport{next} }

type boundingTransport struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (t boundingTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := t.next.RoundTrip(request)
	if bound, ok := request.Context().Value(answerBoundKey{}).(*answerBound); ok && err == nil {
		bound.heeded = true
		if bound.most > 0 {
			response.Body = &boundedBody{response.Body, bound.most}
		}
	}
	return response, err
}

// boundedBody is a body with a size limit.
type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *boundedBody) Read(into []byte) (int, error) {
	if int64(len(into)) > b.left+1 {
		into = into[:b.left+1]
	}
	n, err := b.ReadCloser.Read(into)
	if b.left -= int64(n); b.left < 0 {
		return 0, errAnswerTooLong
	}
	return n, err
}

// secretPages requests Secrets page by page.
type secretPages struct {
	inner toolscache.ListerWatcherWithContext
	limit int64
	// cautious is true if no page may be larger than secretsPage.
	cautious bool
}

// next returns the page that the options request. If the previous Secrets were small, it requests a larger one.
func (p *secretPages) next(ctx context.Context, options metav1.ListOptions) (*corev1.SecretList, error) {
	for {
		bound := &answerBound{}
		if p.limit > secretsPage {
			bound.most = mostPageBytes
		}
		options.Limit = p.limit
		answer, err := p.inner.ListWithContext(context.WithValue(ctx, answerBoundKey{}, bound), options)
		if errors.Is(err, errAnswerTooLong) && bound.most > 0 {
			p.limit, p.cautious = secretsPage, true
			continue
		}
		if err != nil {
			return nil, err
		}
		page, ok := answer.(*corev1.SecretList)
		if !ok {
			return nil, fmt.Errorf("listing Secrets: the answer is a %T", answer)
		}
		p.grow(page, bound.heeded)
		return page, nil
	}
}

// grow sets the size of the next page according to the bytes of this one.
func (p *secretPages) grow(page *corev1.SecretList, heeded bool) {
	if p.cautious || !heeded || len(page.Items) == 0 {
		p.limit = secretsPage
		return
	}
	size := 0
	for i := range page.Items {
		size += page.Items[i].Size()
	}
	fits := int64(len(page.Items)) * pageBytes / int64(max(size, 1))
	p.limit = max(secretsPage, min(fits, 4*p.limit, largestSecretsPage))
}

// list returns all Secrets, page by page. It calls keep for each Secret of a page before it requests the next page.
func (p *secretPages) list(ctx context.Context, options metav1.ListOptions, keep func(*corev1.Secret) error) (runtime.Object, error) {
	// Version 0 is answered from a cache that does not support pages.
	if options.ResourceVersion == "0" {
		options.ResourceVersion, options.ResourceVersionMatch = "", ""
	}
	all := &corev1.SecretList{}
	for {
		page, err := p.next(ctx, options)
		if err != nil {
			return nil, err
		}
		for i := range page.Items {
			if err := keep(&page.Items[i]); err != nil {
				return nil, err
			}
			all.Items = append(all.Items, page.Items[i])
		}
		all.TypeMeta, all.ListMeta = page.TypeMeta, page.ListMeta
		if page.Continue == "" {
			return all, nil
		}
		options.Continue, options.ResourceVersion, options.ResourceVersionMatch = page.Continue, "", ""
	}
}
