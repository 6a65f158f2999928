// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
)

func TestThePodIsRestricted(t *testing.T) {
	pod := deployment(t, "default").Spec.Template.Spec
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.Volumes) > 0 || len(pod.InitContainers) > 0 {
		t.Errorf("the pod uses namespaces of its node, volumes or init containers")
	}
	podContext := &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)), RunAsGroup: new(int64(65532)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if diff := cmp.Diff(podContext, pod.SecurityContext); diff != "" {
		t.Errorf("security context of the pod (-want +got):\n%s", diff)
	}
	containerContext := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true), RunAsNonRoot: new(true),
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	for _, container := range pod.Containers {
		if diff := cmp.Diff(containerContext, container.SecurityContext); diff != "" {
			t.Errorf("security context of container %s (-want +got):\n%s", container.Name, diff)
		}
		for _, port := range container.Ports {
			if port.HostPort != 0 {
				t.Errorf("container %s uses a port of its node", container.Name)
			}
		}
	}
}

func TestTheNamespaceEnforcesRestricted(t *testing.T) {
	namespaces := only[*corev1.Namespace](objects(t, "default"))
	if len(namespaces) != 1 || namespaces[0].Name != "rekey-system" {
		t.Fatalf("want the Namespace rekey-system, got %v", namespaces)
	}
	for _, mode := range []string{"enforce", "audit", "warn"} {
		if got := namespaces[0].Labels["pod-security.kubernetes.io/"+mode]; got != "restricted" {
			t.Errorf("pod-security.kubernetes.io/%s is %q", mode, got)
		}
	}
}

func TestTheContainerIsBoundedProbedAndPinned(t *testing.T) {
	container := deployment(t, "default").Spec.Template.Spec.Containers[0]
	for _, list := range []corev1.ResourceList{container.Resources.Requests, container.Resources.Limits} {
		if list.Cpu().IsZero() || list.Memory().IsZero() {
			t.Errorf("requests or limits are missing: %v", container.Resources)
		}
	}
	for name, probe := range map[string]*corev1.Probe{"/healthz": container.LivenessProbe, "/readyz": container.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != name || probe.HTTPGet.Port.StrVal != "probes" {
			t.Errorf("the probe of %s is %v", name, probe)
		}
	}
	if !regexp.MustCompile(`^rekey\.dev/rekey:v\d+\.\d+\.\d+$`).MatchString(container.Image) {
		t.Errorf("image %q is not pinned to a version", container.Image)
	}
}

func TestReplicasElectALeaderAndSurviveADrain(t *testing.T) {
	manager := deployment(t, "default")
	if *manager.Spec.Replicas < 2 || !slices.Contains(manager.Spec.Template.Spec.Containers[0].Args, "--leader-elect") {
		t.Errorf("want at least two replicas and --leader-elect")
	}
	budgets := only[*policyv1.PodDisruptionBudget](objects(t, "default"))
	if len(budgets) != 1 || budgets[0].Spec.MaxUnavailable.IntValue() != 1 {
		t.Fatalf("want one budget that allows one disruption, got %v", budgets)
	}
	if diff := cmp.Diff(manager.Spec.Selector, budgets[0].Spec.Selector); diff != "" {
		t.Errorf("the budget selects pods other than the Deployment's (-deployment +budget):\n%s", diff)
	}
}

func TestServiceAndNetworkPolicyUseTheMetricsPort(t *testing.T) {
	all := objects(t, "default")
	template := deployment(t, "default").Spec.Template
	port := ""
	for _, p := range template.Spec.Containers[0].Ports {
		if slices.Contains(template.Spec.Containers[0].Args, "--metrics-bind-address=:8443") && p.ContainerPort == 8443 {
			port = p.Name
		}
	}
	services, policies := only[*corev1.Service](all), only[*networkingv1.NetworkPolicy](all)
	if len(services) != 1 || services[0].Spec.Ports[0].TargetPort.StrVal != port || port == "" {
		t.Errorf("the Service does not lead to port %q: %v", port, services)
	}
	if len(policies) != 1 || policies[0].Spec.Ingress[0].Ports[0].Port.StrVal != port {
		t.Errorf("the NetworkPolicy does not admit port %q: %v", port, policies)
	}
	for key, value := range services[0].Spec.Selector {
		if template.Labels[key] != value || policies[0].Spec.PodSelector.MatchLabels[key] != value {
			t.Errorf("Service, NetworkPolicy and pod differ in label %s", key)
		}
	}
	if slices.Contains(policies[0].Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
		t.Error("the NetworkPolicy restricts egress, but cannot know the addresses of databases")
	}
}

func TestTheDockerfileCopiesExistingFilesAndRunsAsNonRoot(t *testing.T) {
	dockerfile := read(t, "Dockerfile")
	ignored := read(t, ".dockerignore")
	for line := range strings.SplitSeq(dockerfile, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "COPY" || strings.HasPrefix(fields[1], "--from") {
			continue
		}
		for _, source := range fields[1 : len(fields)-1] {
			if found, err := filepath.Glob(filepath.Join(root, source)); err != nil || len(found) == 0 {
				t.Errorf("the Dockerfile copies %s, which does not exist (%v)", source, err)
			}
			if !strings.Contains(ignored, "\n!"+source+"\n") {
				t.Errorf(".dockerignore hides %s, which the Dockerfile copies", source)
			}
		}
	}
	pod := deployment(t, "default").Spec.Template.Spec
	for _, want := range []string{"\nUSER 65532:65532\n", "\nENTRYPOINT [\"" + pod.Containers[0].Command[0] + "\"]\n", "CGO_ENABLED=0", "-trimpath"} {
		if !strings.Contains(dockerfile, want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
	if regexp.MustCompile(`(?m)^ARG (BUILDER|BASE)=\S+:latest`).MatchString(dockerfile) {
		t.Error("a base image is not pinned")
	}
}

func TestTheProgramHasEveryFlagInTheManifests(t *testing.T) {
	flags := read(t, "internal/flags/flags.go")
	for _, folder := range []string{"default", "namespaced"} {
		for _, argument := range deployment(t, folder).Spec.Template.Spec.Containers[0].Args {
			name, _, _ := strings.Cut(strings.TrimPrefix(argument, "--"), "=")
			if !strings.Contains(flags, `, "`+name+`", `) {
				t.Errorf("config/%s sets %s, which the program does not know", folder, argument)
			}
		}
	}
	if !strings.Contains(read(t, "Dockerfile"), "-X main.version=") || !strings.Contains(read(t, "main.go"), "\nvar version = ") {
		t.Error("the Dockerfile and the program disagree about the location of the version")
	}
}
