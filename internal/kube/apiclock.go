// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// APIClock compares this process's clock with the API server's, by the Date header of its responses (RFC 9110, section 6.6.1;
// whole seconds). Nothing is retired while the two disagree.
type APIClock struct {
	clock clock.PassiveClock
	off   atomic.Int64
	known atomic.Bool
}

// NewAPIClock returns a clock that has seen no response yet.
func NewAPIClock(clock clock.PassiveClock) *APIClock { return &APIClock{clock: clock} }

// Off returns how far the API server's clock is ahead of this one, to within a second; negative if it is behind. known is false
// before the first response.
func (c *APIClock) Off() (off time.Duration, known bool) {
	return time.Duration(c.off.Load()), c.known.Load()
}

// Wrap returns a transport that observes the date of every response.
func (c *APIClock) Wrap(next http.RoundTripper) http.RoundTripper {
	return dateObserver{clock: c, next: next}
}

type dateObserver struct {
	clock *APIClock
	next  http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (o dateObserver) RoundTrip(request *http.Request) (*http.Response, error) {
	asked := o.clock.clock.Now()
	response, err := o.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		o.clock.observe(asked, o.clock.clock.Now(), date)
	}
	return response, nil
}

// observe assumes that the date was right at some instant between request and response. Dates are truncated to whole seconds,
// so up to one more second does not count as a difference.
func (c *APIClock) observe(asked, answered, date time.Time) {
	var off time.Duration
	switch {
	case date.After(answered):
		off = date.Sub(answered)
	case date.Add(time.Second).Before(asked):
		off = date.Add(time.Second).Sub(asked)
	}
	c.off.Store(int64(off))
	c.known.Store(true)
}
