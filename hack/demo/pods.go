// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pods is the place on a node: everything runs as it would in production.
type pods struct {
	*cluster
	said *said
	logs *followers
}

func newPods(c *cluster, s *said) *pods {
	return &pods{cluster: c, said: s, logs: newFollowers(c.clientset)}
}

const podPatience = 2 * time.Minute

func (p *pods) installOperator(ctx context.Context, shipped []*unstructured.Unstructured) error {
	objects, err := withImage(shipped, operatorImage)
	if err != nil {
		return err
	}
	if err := apply(ctx, p.kube, objects...); err != nil {
		return err
	}
	p.logs.followAll(operatorNamespace, client.MatchingLabels{"app.kubernetes.io/name": operatorName}, &p.said.operator)
	if err := p.operatorAvailable(ctx); err != nil {
		return err
	}
	return awaitLeader(ctx, p.kube, nil, podPatience)
}

// operatorAvailable waits until every pod of the Deployment is ready.
func (p *pods) operatorAvailable(ctx context.Context) error {
	return poll(ctx, 200*time.Millisecond, podPatience, func(ctx context.Context) error {
		var deployment appsv1.Deployment
		if err := p.kube.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}, &deployment); err != nil {
			return fmt.Errorf("reading the operator's Deployment: %w", err)
		}
		if status := deployment.Status; status.ObservedGeneration < deployment.Generation || status.ReadyReplicas < *deployment.Spec.Replicas {
			return fmt.Errorf("waiting for the operator: %d of %d pods are ready", status.ReadyReplicas, *deployment.Spec.Replicas)
		}
		return nil
	})
}

func (p *pods) restartOperator(ctx context.Context) error {
	before, err := leaders(ctx, p.kube)
	if err != nil {
		return err
	}
	err = p.kube.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(operatorNamespace), client.MatchingLabels{"app.kubernetes.io/name": operatorName})
	if err != nil {
		return fmt.Errorf("deleting the operator's pods: %w", err)
	}
	return awaitLeader(ctx, p.kube, before, podPatience)
}

func (p *pods) startServer(ctx context.Context) (string, error) {
	if err := applyTyped(ctx, p.kube, serverService()); err != nil {
		return "", err
	}
	pod := programPod(serverNamespace, "api", serverImage, []string{"--listen=:8443", "--health=:8080"}, map[string]string{"identity": serverSecret})
	if err := applyTyped(ctx, p.kube, pod); err != nil {
		return "", err
	}
	p.logs.follow(serverNamespace, pod.Name, &p.said.server)
	if err := p.running(ctx, pod); err != nil {
		return "", err
	}
	var service corev1.Service
	if err := p.kube.Get(ctx, client.ObjectKeyFromObject(serverService()), &service); err != nil {
		return "", fmt.Errorf("reading the server's Service: %w", err)
	}
	// The node's pods reach a Service as the demo does. The application's first call must find it set up.
	health := "http://" + net.JoinHostPort(service.Spec.ClusterIP, "8080") + "/"
	err := poll(ctx, 200*time.Millisecond, podPatience, func(ctx context.Context) error { return answers(ctx, health) })
	return net.JoinHostPort(service.Spec.ClusterIP, "8443"), err
}

// answers returns nil if a health endpoint answers 200.
func answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("requesting %s: %w", address, err)
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("requesting %s: %w", address, err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("requesting %s: status %d", address, response.StatusCode)
	}
	return nil
}

func (p *pods) startApp(ctx context.Context, server string) error {
	pod := programPod(appNamespace, "orders", appImage,
		[]string{"--server=" + server, "--server-name=" + serverName},
		map[string]string{"identity": appSecret, "database": loginSecret})
	if err := applyTyped(ctx, p.kube, pod); err != nil {
		return err
	}
	p.logs.follow(appNamespace, pod.Name, &p.said.app)
	return p.running(ctx, pod)
}

// running waits until a pod is ready.
func (p *pods) running(ctx context.Context, pod *corev1.Pod) error {
	return poll(ctx, 200*time.Millisecond, podPatience, func(ctx context.Context) error {
		var now corev1.Pod
		if err := p.kube.Get(ctx, client.ObjectKeyFromObject(pod), &now); err != nil {
			return fmt.Errorf("reading the pod %s: %w", pod.Name, err)
		}
		if now.Status.Phase == corev1.PodFailed {
			return finalError{fmt.Errorf("pod %s has exited: %s %s", pod.Name, now.Status.Reason, now.Status.Message)}
		}
		for _, condition := range now.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("waiting for the pod " + pod.Name + ": it is " + string(now.Status.Phase))
	})
}

func (p *pods) stop() { p.logs.stop() }
