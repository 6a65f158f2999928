// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/kube"
	"github.com/rekey/rekey/internal/lifecycle"
)

// metrics are what is counted while working. What can be read off the objects is collected at scrape time (collector.go).
type metrics struct {
	steps  *prometheus.CounterVec
	issued *prometheus.CounterVec
	errors *prometheus.CounterVec
}

// newMetrics makes and registers the counters, and a gauge of the clock's offset.
func newMetrics(registry prometheus.Registerer, apiClock *kube.APIClock, version string) *metrics {
	m := &metrics{
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rekey_step_attempts_total",
			Help: "Steps in the life of credentials that were tried, by kind, step, result (success, failure) and reason of the failure.",
		}, []string{"kind", "step", "result", "reason"}),
		issued: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rekey_issued_total", Help: "Versions that became current, by kind.",
		}, []string{"kind"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rekey_errors_total", Help: "Failures outside of steps, by what failed and reason.",
		}, []string{"of", "reason"}),
	}
	offset := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rekey_clock_offset_seconds", Help: "How far this process's clock is from the API server's, absolute, as of its last answer.",
	}, func() float64 {
		off, _ := apiClock.Off()
		return off.Abs().Seconds()
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rekey_build_info", Help: "1, with the version of this build.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	registry.MustRegister(m.steps, m.issued, m.errors, offset, build)
	return m
}

// count counts what a pass did.
func (m *metrics) count(kind string, outcome lifecycle.Outcome) {
	for _, step := range outcome.Performed {
		m.steps.WithLabelValues(kind, string(step), "success", "").Inc()
		if step == "Commit" {
			m.issued.WithLabelValues(kind).Inc()
		}
	}
	if outcome.Err != nil && outcome.Tried {
		m.steps.WithLabelValues(kind, string(outcome.FailedStep), "failure", string(fault.ReasonOf(outcome.Err, fault.BackendFailed))).Inc()
	}
}
