// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
)

// until calls do repeatedly until the context ends.
func until(ctx context.Context, every time.Duration, do func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		do()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// operatorLogs holds every line that any process of the operator has written, including killed ones.
type operatorLogs struct {
	clientset *kubernetes.Clientset
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu         sync.Mutex
	lines      []string
	containers map[string]bool // Those that are followed.
}

func followOperator(clientset *kubernetes.Clientset) *operatorLogs {
	ctx, cancel := context.WithCancel(context.Background())
	l := &operatorLogs{clientset: clientset, cancel: cancel, containers: map[string]bool{}}
	l.running.Go(func() { until(ctx, 250*time.Millisecond, func() { l.find(ctx) }) })
	return l
}

// find starts to follow every new container.
func (l *operatorLogs) find(ctx context.Context) {
	pods, err := l.clientset.CoreV1().Pods(operatorNamespace).List(ctx, metav1.ListOptions{LabelSelector: operatorSelector})
	if err != nil {
		return // The API server is queried again.
	}
	for _, pod := range pods.Items {
		for _, container := range pod.Status.ContainerStatuses {
			if container.State.Running == nil || l.containers[container.ContainerID] {
				continue
			}
			l.containers[container.ContainerID] = true
			l.running.Go(func() { l.follow(ctx, pod.Name) })
		}
	}
}

func (l *operatorLogs) follow(ctx context.Context, pod string) {
	stream, err := l.clientset.CoreV1().Pods(operatorNamespace).GetLogs(pod, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
	if err != nil {
		l.add(fmt.Sprintf("%s: following the log: %v", pod, err))
		return
	}
	defer func() { _ = stream.Close() }()
	scanner := bufio.NewScanner(stream)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		l.add(pod + ": " + scanner.Text())
	}
}

func (l *operatorLogs) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// tail returns the last lines; a negative number returns all.
func (l *operatorLogs) tail(number int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number < 0 || number > len(l.lines) {
		number = len(l.lines)
	}
	return strings.Join(l.lines[len(l.lines)-number:], "\n")
}

func (l *operatorLogs) stop() {
	l.cancel()
	l.running.Wait()
}

// seenSecrets holds every secret value that any Secret of the cluster ever had.
type seenSecrets struct {
	clientset *kubernetes.Clientset
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu       sync.Mutex
	canaries map[string][]byte // By a description.
}

func watchSecrets(clientset *kubernetes.Clientset) *seenSecrets {
	ctx, cancel := context.WithCancel(context.Background())
	s := &seenSecrets{clientset: clientset, cancel: cancel, canaries: map[string][]byte{}}
	s.running.Go(func() { until(ctx, 250*time.Millisecond, func() { s.watch(ctx) }) })
	return s
}

// watch sees every existing Secret, and every change from then on.
func (s *seenSecrets) watch(ctx context.Context) {
	watcher, err := s.clientset.CoreV1().Secrets("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return // It is retried.
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if secret, ok := event.Object.(*corev1.Secret); ok {
			s.add(secret)
		}
	}
}

// hidden are the keys that must not appear outside a Secret.
var hidden = []string{credential.KeyPassword, credential.KeyVerifier, credential.KeyPrivateKey, "uri", "tls-combined.pem"}

func (s *seenSecrets) add(secret *corev1.Secret) {
	where := secret.Namespace + "/" + secret.Name
	data := map[string][]byte{}
	for _, key := range hidden {
		if value := secret.Data[key]; len(value) > 0 {
			data[key] = value
		}
	}
	if secret.Type == v1alpha1.SecretTypeLedger {
		if ledger, err := secretstore.DecodeLedger(secret.Data); err == nil {
			for name, record := range map[string]*secretstore.Record{"pending": ledger.Pending, "current": ledger.Current, "previous": ledger.Previous} {
				for _, key := range hidden {
					if record != nil && !record.Material[key].IsEmpty() {
						data[name+" "+key] = record.Material[key].Reveal()
					}
				}
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, value := range data {
		s.canaries[fmt.Sprintf("%s of %s, written at resourceVersion %s", key, where, secret.ResourceVersion)] = value
	}
}

func (s *seenSecrets) all() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.canaries)
}

func (s *seenSecrets) stop() {
	s.cancel()
	s.running.Wait()
}
