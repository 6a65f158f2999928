// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// collectTimeout limits one scrape.
const collectTimeout = 10 * time.Second

// Kind is what the metrics need to know about a kind.
type Kind struct {
	Name    string
	NewList func() client.ObjectList
	// Gauges returns the times that the metrics show of an object; nil for none.
	Gauges func(v1alpha1.Object) Gauges
}

// Gauges are the times of one object; nil ones are omitted.
type Gauges struct {
	NotAfter, Renewal, LastRotation, AuthorityNotAfter *metav1.Time
}

// Collector reads gauges from the cached objects at scrape time, so that those of deleted objects disappear. Times are absolute.
type Collector struct {
	kinds                                           []Kind
	reader                                          client.Reader
	notAfter, renewal, lastRotation, authorityUntil *prometheus.Desc
	condition, suspended                            *prometheus.Desc
}

// NewCollector returns a collector of these kinds.
func NewCollector(reader client.Reader, kinds []Kind) *Collector {
	object := []string{"kind", "namespace", "name"}
	return &Collector{
		kinds: kinds, reader: reader,
		notAfter: prometheus.NewDesc("rekey_credential_not_after_timestamp_seconds",
			"When the published certificate expires.", object, nil),
		renewal: prometheus.NewDesc("rekey_credential_renewal_timestamp_seconds",
			"When the published version is due to be replaced.", object, nil),
		lastRotation: prometheus.NewDesc("rekey_credential_last_rotation_timestamp_seconds",
			"When the published version became the current one.", object, nil),
		authorityUntil: prometheus.NewDesc("rekey_authority_not_after_timestamp_seconds",
			"When the first certificate of the authority's chain expires.", object, nil),
		condition: prometheus.NewDesc("rekey_resource_condition",
			"1 for each condition of an object, with its status and reason.", append(object, "type", "status", "reason"), nil),
		suspended: prometheus.NewDesc("rekey_resource_suspended",
			"1 if the object itself suspends rotation.", object, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.notAfter, c.renewal, c.lastRotation, c.authorityUntil, c.condition, c.suspended} {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout) //nolint:forbidigo // a scrape has no context
	defer cancel()
	for _, kind := range c.kinds {
		list := kind.NewList()
		// The objects are only read: no copies.
		if err := c.reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			out <- prometheus.NewInvalidMetric(c.condition, err)
			continue
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			if object, ok := item.(v1alpha1.Object); ok {
				c.send(out, kind, object)
			}
			return nil
		})
		if err != nil {
			out <- prometheus.NewInvalidMetric(c.condition, err)
		}
	}
}

func (c *Collector) send(out chan<- prometheus.Metric, kind Kind, object v1alpha1.Object) {
	labels := []string{kind.Name, object.GetNamespace(), object.GetName()}
	var g Gauges
	if kind.Gauges != nil {
		g = kind.Gauges(object)
	}
	for desc, at := range map[*prometheus.Desc]*metav1.Time{
		c.notAfter: g.NotAfter, c.renewal: g.Renewal, c.lastRotation: g.LastRotation, c.authorityUntil: g.AuthorityNotAfter,
	} {
		if at != nil {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(at.Unix()), labels...)
		}
	}
	for _, condition := range object.GetConditions() {
		all := slices.Concat(labels, []string{condition.Type, string(condition.Status), condition.Reason})
		out <- prometheus.MustNewConstMetric(c.condition, prometheus.GaugeValue, 1, all...)
	}
	if suspendable, ok := object.(v1alpha1.Suspendable); ok && suspendable.GetSuspend() {
		out <- prometheus.MustNewConstMetric(c.suspended, prometheus.GaugeValue, 1, labels...)
	}
}
