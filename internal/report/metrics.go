// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// Metrics are counters that are updated while working. What objects show is collected at scrape time (collector.go).
type Metrics struct {
	steps  *prometheus.CounterVec
	issued *prometheus.CounterVec
	errors *prometheus.CounterVec
}

// NewMetrics returns registered counters. It also registers a gauge of the clock's offset and the version of this build.
func NewMetrics(registry prometheus.Registerer, clockOffset func() (offset time.Duration, known bool), version string) *Metrics {
	m := &Metrics{
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rekey_step_attempts_total",
			Help: "Attempted steps in the life of credentials, by kind, step, result (success, failure) and reason of the failure.",
		}, []string{"kind", "step", "result", "reason"}),
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rekey_issued_total", Help: "Versions that became current, by kind.",
		}, []string{"kind"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rekey_errors_total", Help: "Failures outside of steps, by what failed and reason.",
		}, []string{"of", "reason"}),
	}
	offset := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rekey_clock_offset_seconds", Help: "Absolute difference between this process's clock and the API server's, as of its last answer.",
	}, func() float64 {
		off, _ := clockOffset()
		return off.Abs().Seconds()
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rekey_build_info", Help: "1, with the version of this build.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	registry.MustRegister(m.steps, m.issued, m.errors, offset, build)
	return m
}

// Count counts the steps that a reconcile performed, and the one that failed; a nil error means that none failed.
func (m *Metrics) Count(kind string, performed []rotation.Step, failed rotation.Step, err error) {
	for _, step := range performed {
		m.steps.WithLabelValues(kind, string(step), "success", "").Inc()
		if step == rotation.StepCommit {
			m.issued.WithLabelValues(kind).Inc()
		}
	}
	if err != nil {
		m.steps.WithLabelValues(kind, string(failed), "failure", string(fault.ReasonOf(err, fault.RemoteFailed))).Inc()
	}
}

// Failed counts a failure outside the steps.
func (m *Metrics) Failed(of string, reason fault.Reason) {
	m.errors.WithLabelValues(of, string(reason)).Inc()
}
