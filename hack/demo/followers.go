// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// followers stream the logs of pods, as `kubectl logs --follow` does.
type followers struct {
	clientset *kubernetes.Clientset
	ctx       context.Context //nolint:containedctx // it stops all followers together
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

func newFollowers(clientset *kubernetes.Clientset) *followers {
	ctx, cancel := context.WithCancel(context.Background())
	return &followers{clientset: clientset, ctx: ctx, cancel: cancel}
}

// follow copies every line of a pod's log to the transcript, from the first one on.
func (f *followers) follow(namespace, name string, to *transcript) {
	f.running.Go(func() {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		lines := 0 // already copied: a broken stream resumes where it stopped
		for {
			ended := f.stream(namespace, name, &lines, to)
			select {
			case <-f.ctx.Done():
				return
			case <-tick.C:
			}
			if ended && !f.alive(namespace, name) {
				return
			}
		}
	})
}

// stream reads one log to its end, without the lines that were copied before. It reports whether there was a log.
func (f *followers) stream(namespace, name string, lines *int, to *transcript) bool {
	stream, err := f.clientset.CoreV1().Pods(namespace).GetLogs(name, &corev1.PodLogOptions{Follow: true}).Stream(f.ctx)
	if err != nil {
		return false // the container has not started yet, or its pod is gone
	}
	defer func() { _ = stream.Close() }()
	reader := bufio.NewReader(stream)
	for read := 0; ; read++ {
		line, err := reader.ReadBytes('\n')
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		if read >= *lines {
			_, _ = to.Write(line) // it never fails
			*lines++
		}
	}
}

// alive reports whether the pod may still write to its log.
func (f *followers) alive(namespace, name string) bool {
	pod, err := f.clientset.CoreV1().Pods(namespace).Get(f.ctx, name, metav1.GetOptions{})
	return err == nil && pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// followAll follows every pod with the labels, including those created later.
func (f *followers) followAll(namespace string, with client.MatchingLabels, to *transcript) {
	f.running.Go(func() {
		known := map[string]bool{}
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for {
			f.followNew(namespace, with, known, to)
			select {
			case <-f.ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// followNew follows the pods that are not followed yet.
func (f *followers) followNew(namespace string, with client.MatchingLabels, known map[string]bool, to *transcript) {
	selector := labels.SelectorFromSet(labels.Set(with)).String()
	pods, err := f.clientset.CoreV1().Pods(namespace).List(f.ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return // the next poll may find them
	}
	for _, pod := range pods.Items {
		if !known[pod.Name] {
			known[pod.Name] = true
			f.follow(namespace, pod.Name, to)
		}
	}
}

// stop stops all followers.
func (f *followers) stop() {
	f.cancel()
	f.running.Wait()
}
