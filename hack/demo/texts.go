// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	eventsv1 "k8s.io/api/events/v1"

	"github.com/rekey/rekey/test/canary"
)

// texts returns everything that a user could read: logs, Events, rekey's objects, and the demo's own output.
func (d *demo) texts(ctx context.Context) (map[string]string, error) {
	var events eventsv1.EventList
	if err := d.kube.List(ctx, &events); err != nil {
		return nil, fmt.Errorf("listing the Events: %w", err)
	}
	eventText, err := json.Marshal(events)
	if err != nil {
		return nil, fmt.Errorf("encoding the Events: %w", err)
	}
	objects, err := (&restarter{d}).objects(ctx)
	if err != nil {
		return nil, err
	}
	objectText, err := json.Marshal(objects)
	if err != nil {
		return nil, fmt.Errorf("encoding the objects: %w", err)
	}
	return map[string]string{
		"the operator's log": d.said.operator.String(), "the application's log": d.said.app.String(), "the server's log": d.said.server.String(),
		"PostgreSQL's log": d.db.LogText(), "the Events": string(eventText), "the objects": string(objectText), "this story": d.out.wrote.String(),
	}, nil
}

// search searches these texts for every secret that was observed.
func (d *demo) search(ctx context.Context) (promise, error) {
	texts, err := d.texts(ctx)
	if err != nil {
		return promise{}, err
	}
	size := 0
	for where, text := range texts {
		if text == "" {
			return promise{}, fmt.Errorf("searching for secrets: %s is empty", where)
		}
		size += len(text)
	}
	d.past.mu.Lock()
	defer d.past.mu.Unlock()
	d.past.canaries["the admin's password"] = d.db.admin.Reveal()
	found := canary.Search(d.past.canaries, texts)
	for _, line := range found {
		d.out.tellf(time.Now(), "broken", "secrets", "%s", line)
	}
	return promise{
		text: "passwords or keys in logs, Events, objects", expected: "0",
		seen: fmt.Sprintf("%d (%d secrets, %d kB)", len(found), len(d.past.canaries), size/1000), kept: len(found) == 0,
	}, nil
}
