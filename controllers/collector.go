// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// collectTimeout of one scrape.
const collectTimeout = 10 * time.Second

// collector reads gauges off the cached objects at scrape time, so that those of deleted objects vanish. Times are absolute.
type collector struct {
	reader                                          client.Reader
	notAfter, renewal, lastRotation, authorityUntil *prometheus.Desc
	condition, suspended                            *prometheus.Desc
}

func newCollector(reader client.Reader) *collector {
	object := []string{"kind", "namespace", "name"}
	return &collector{
		reader: reader,
		notAfter: prometheus.NewDesc("rekey_credential_not_after_timestamp_seconds",
			"When the published certificate ends.", object, nil),
		renewal: prometheus.NewDesc("rekey_credential_renewal_timestamp_seconds",
			"When the published version is due to be replaced.", object, nil),
		lastRotation: prometheus.NewDesc("rekey_credential_last_rotation_timestamp_seconds",
			"When the published version became the current one.", object, nil),
		authorityUntil: prometheus.NewDesc("rekey_authority_not_after_timestamp_seconds",
			"When the first certificate of the authority's chain ends.", object, nil),
		condition: prometheus.NewDesc("rekey_resource_condition",
			"1 for the status that each condition of an object has.", append(object, "type", "status", "reason"), nil),
		suspended: prometheus.NewDesc("rekey_resource_suspended",
			"1 where rotation is suspended by the object itself.", object, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.notAfter, c.renewal, c.lastRotation, c.authorityUntil, c.condition, c.suspended} {
		descriptions <- d
	}
}

// gauges of one object; nil times are left out.
type gauges struct {
	labels                                          []string
	conditions                                      []metav1.Condition
	notAfter, renewal, lastRotation, authorityUntil *metav1.Time
	suspended                                       bool
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout) //nolint:forbidigo // a scrape has no context
	defer cancel()
	for _, list := range []client.ObjectList{
		&v1alpha1.ClientIdentityList{}, &v1alpha1.ServerIdentityList{}, &v1alpha1.DatabaseCredentialList{}, &v1alpha1.DatabaseServerList{},
		&v1alpha1.CertificateAuthorityList{}, &v1alpha1.ClusterCertificateAuthorityList{}, &v1alpha1.RotationPolicyList{},
	} {
		// The objects are only read: no copies.
		if err := c.reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			out <- prometheus.NewInvalidMetric(c.condition, err)
			continue
		}
		for _, g := range gaugesOf(list) {
			c.send(out, g)
		}
	}
}

func (c *collector) send(out chan<- prometheus.Metric, g gauges) {
	for desc, at := range map[*prometheus.Desc]*metav1.Time{
		c.notAfter: g.notAfter, c.renewal: g.renewal, c.lastRotation: g.lastRotation, c.authorityUntil: g.authorityUntil,
	} {
		if at != nil {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(at.Unix()), g.labels...)
		}
	}
	for _, condition := range g.conditions {
		labels := slices.Concat(g.labels, []string{condition.Type, string(condition.Status), condition.Reason})
		out <- prometheus.MustNewConstMetric(c.condition, prometheus.GaugeValue, 1, labels...)
	}
	if g.suspended {
		out <- prometheus.MustNewConstMetric(c.suspended, prometheus.GaugeValue, 1, g.labels...)
	}
}

func gaugesOf(list client.ObjectList) []gauges {
	switch l := list.(type) {
	case *v1alpha1.ClientIdentityList:
		return each(l.Items, func(i *v1alpha1.ClientIdentity) gauges {
			return identityGauges(kindClientIdentity, i, i.Spec.Suspend, &i.Status)
		})
	case *v1alpha1.ServerIdentityList:
		return each(l.Items, func(i *v1alpha1.ServerIdentity) gauges {
			return identityGauges(kindServerIdentity, i, i.Spec.Suspend, &i.Status)
		})
	case *v1alpha1.DatabaseCredentialList:
		return each(l.Items, func(i *v1alpha1.DatabaseCredential) gauges {
			return gauges{labels: []string{kindDatabaseCredential, i.Namespace, i.Name}, conditions: i.Status.Conditions,
				renewal: i.Status.NextRotationTime, lastRotation: i.Status.LastRotationTime, suspended: i.Spec.Suspend}
		})
	case *v1alpha1.DatabaseServerList:
		return each(l.Items, func(i *v1alpha1.DatabaseServer) gauges {
			return gauges{labels: []string{"DatabaseServer", i.Namespace, i.Name}, conditions: i.Status.Conditions}
		})
	case *v1alpha1.CertificateAuthorityList:
		return each(l.Items, func(i *v1alpha1.CertificateAuthority) gauges {
			return gauges{labels: []string{"CertificateAuthority", i.Namespace, i.Name}, conditions: i.Status.Conditions, authorityUntil: i.Status.NotAfter}
		})
	case *v1alpha1.ClusterCertificateAuthorityList:
		return each(l.Items, func(i *v1alpha1.ClusterCertificateAuthority) gauges {
			return gauges{labels: []string{"ClusterCertificateAuthority", "", i.Name}, conditions: i.Status.Conditions, authorityUntil: i.Status.NotAfter}
		})
	case *v1alpha1.RotationPolicyList:
		return each(l.Items, func(i *v1alpha1.RotationPolicy) gauges {
			return gauges{labels: []string{"RotationPolicy", i.Namespace, i.Name}, conditions: i.Status.Conditions, suspended: i.Spec.Suspend}
		})
	}
	return nil
}

func identityGauges(kind string, object client.Object, suspended bool, status *v1alpha1.IdentityStatus) gauges {
	return gauges{labels: []string{kind, object.GetNamespace(), object.GetName()}, conditions: status.Conditions,
		notAfter: status.NotAfter, renewal: status.RenewalTime, suspended: suspended}
}

func each[T any](items []T, read func(*T) gauges) []gauges {
	out := make([]gauges, 0, len(items))
	for i := range items {
		out = append(out, read(&items[i]))
	}
	return out
}
