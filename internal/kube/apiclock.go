// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// APIClock compares our clock with that of the API server, by the Date header of its answers (RFC 9110, section 6.6.1;
// whole seconds). Nothing is retired while the two disagree.
type APIClock struct {
	clock clock.PassiveClock
	off   atomic.Int64
	known atomic.Bool
}

// NewAPIClock returns a clock that has seen no answer yet.
func NewAPIClock(clock clock.PassiveClock) *APIClock { return &APIClock{clock: clock} }

// Off returns how far the API server's clock is ahead of ours, negative where it is behind, within a second; known is false before
// the first answer.
func (c *APIClock) Off() (off time.Duration, known bool) {
	return time.Duration(c.off.Load()), c.known.Load()
}

// Wrap returns a transport that observes the date of every answer.
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

// observe takes the date as the truth for the time between asking and being answered; it is cut to whole seconds, so up to a
// second more is no difference.
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

// Seen records that the API server's clock is that far ahead of ours, as an answer would: for callers whose clock is not that of
// the wall.
func (c *APIClock) Seen(ahead time.Duration) {
	now := c.clock.Now()
	c.observe(now, now, now.Add(ahead))
}
