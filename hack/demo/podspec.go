// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// programUser is the user of the images.
const programUser int64 = 65532

// programPod returns a pod that runs one of our programs and satisfies the restricted Pod Security standard. Each Secret
// is mounted at /etc/<key>.
func programPod(namespace, name, image string, args []string, secrets map[string]string) *corev1.Pod {
	container := corev1.Container{
		Name: name, Image: image, ImagePullPolicy: corev1.PullNever, Args: args,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			ReadOnlyRootFilesystem:   new(true),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
	}
	var volumes []corev1.Volume
	for _, volume := range slices.Sorted(maps.Keys(secrets)) {
		volumes = append(volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secrets[volume], DefaultMode: new(int32(0o440))},
		}})
		container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: "/etc/" + volume, ReadOnly: true})
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/name": name}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{container}, Volumes: volumes,
			RestartPolicy:                 corev1.RestartPolicyNever, // a restart would hide a crash and reset the counts
			AutomountServiceAccountToken:  new(false),
			TerminationGracePeriodSeconds: new(int64(3)),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(programUser), RunAsGroup: new(programUser), FSGroup: new(programUser),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
		},
	}
}

// serverService returns the Service of the mTLS server.
func serverService() *corev1.Service {
	port := func(name string, number int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromInt32(number), Protocol: corev1.ProtocolTCP}
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: serverNamespace, Name: "api"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app.kubernetes.io/name": "api"},
			Ports:    []corev1.ServicePort{port("mtls", 8443), port("health", 8080)},
		},
	}
}
