// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

// Run is everything that one run measured.
type Run struct {
	Size     string    `json:"size"`
	Date     string    `json:"date"`
	Machine  Machine   `json:"machine"`
	Versions Versions  `json:"versions"`
	Fleets   []Fleet   `json:"fleets,omitempty"`
	Database *Database `json:"database,omitempty"`
}

// Machine on which it ran.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int    `json:"memoryMiB"`
	System string `json:"system"`
}

// Versions of the components.
type Versions struct {
	Rekey      string `json:"rekey"`
	Go         string `json:"go"`
	Kubernetes string `json:"kubernetes"`
	PostgreSQL string `json:"postgresql,omitempty"`
}

// Fleet is one number of identities in one number of namespaces.
type Fleet struct {
	N          int    `json:"n"`
	Namespaces int    `json:"namespaces"`
	Pairs      []Pair `json:"pairs"`
}

// Pair is the floor and rekey, one after the other, each against its own API server.
type Pair struct {
	Floor Life `json:"floor"`
	Rekey Life `json:"rekey"`
}

// Ratio returns the throughput of rekey relative to the floor.
func (p Pair) Ratio() float64 { return p.Floor.Issue.Seconds / p.Rekey.Issue.Seconds }

// Life is what one operator went through with its identities. What was not measured is nil.
type Life struct {
	// StartRSS is the memory of the process before the first identity. RSS is in KiB everywhere.
	StartRSS int      `json:"startRSS"`
	Issue    Phase    `json:"issue"`
	Idle     *Idle    `json:"idle,omitempty"`
	Renewal  *Phase   `json:"renewal,omitempty"`
	Restart  *Restart `json:"restart,omitempty"`
	// PeakRSS of the process that issued and renewed.
	PeakRSS int `json:"peakRSS"`
}

// Phase is the same change of all identities at once.
type Phase struct {
	// Seconds from the first request of the applying client until the last identity is Ready as it should be.
	Seconds float64 `json:"seconds"`
	// CPU seconds of the operator until it was quiet again.
	CPU float64 `json:"cpu"`
	// ServerCPU seconds of API server and etcd until the operator was quiet again.
	ServerCPU float64 `json:"serverCPU"`
	// PeakRSS until it was quiet again.
	PeakRSS int `json:"peakRSS"`
	// Requests that the API server counted, by "VERB resource/subresource code", without those of the applying client.
	Requests map[string]int `json:"requests"`
}

// Idle is a period in which nothing was due.
type Idle struct {
	Seconds    float64 `json:"seconds"`
	CPU        float64 `json:"cpu"`
	SettledRSS int     `json:"settledRSS"`
	Writes     int     `json:"writes"`
}

// Restart of the process with all identities.
type Restart struct {
	// Seconds from the start of the process until it has reconciled everything and is quiet.
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu"`
	PeakRSS int     `json:"peakRSS"`
	// Reconciles of identities, and Writes, which must be zero.
	Reconciles int `json:"reconciles"`
	Writes     int `json:"writes"`
}

// Database credentials rotated at once, beside a bare loop of the same SQL.
type Database struct {
	N int `json:"n"`
	// Statements and Connections of one rotation, as the server logged them.
	Statements  float64 `json:"statements"`
	Connections float64 `json:"connections"`
	// Rekey and Loop are the seconds of each repetition.
	Rekey []float64 `json:"rekey"`
	Loop  []float64 `json:"loop"`
}
