// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rekey/rekey/hack/localcluster/internal/pki"
)

// PauseImage is the name of the image that holds a pod's namespaces.
const PauseImage = "rekey.dev/pause:local"

// Settings is everything that the node's first process needs.
type Settings struct {
	Place `json:"place"`
	// Assets is the folder with kubelet and kube-proxy.
	Assets string `json:"assets"`
	// PauseImage is the archive of the image of that name.
	PauseImage string `json:"pauseImage"`
	// Logs is the folder for the logs of the node's programs.
	Logs string `json:"logs"`
	// CA is the certificate of the cluster's CA.
	CA string `json:"ca"`
	// Kubelet is the kubelet's serving certificate.
	Kubelet pki.Pair `json:"kubelet"`
	// KubeletConfig and ProxyConfig are kubeconfigs.
	KubeletConfig string `json:"kubeletConfig"`
	ProxyConfig   string `json:"proxyConfig"`
	// Server is the API server's URL.
	Server string `json:"server"`
	// Names is the client certificate of the name server, with kube-proxy's rights.
	Names pki.Pair `json:"names"`
}

func (s Settings) file(name string) string { return filepath.Join(s.Dir, name) }

// Write writes the settings to a file, and the configuration of each of the
// node's programs next to it.
func (s Settings) Write() (string, error) {
	plugins, err := pluginDir()
	if err != nil {
		return "", err
	}
	texts := map[string]string{
		"containerd.toml": s.containerdConfig(plugins),
		"resolv.conf":     "nameserver " + s.NodeIP + "\n",
	}
	objects := map[string]any{
		"cni/10-bridge.conflist": s.bridgeConfig(),
		"kubelet.json":           s.kubeletConfig(),
		"kube-proxy.json":        s.proxyConfig(),
		"settings.json":          s,
	}
	for name, object := range objects {
		data, err := json.MarshalIndent(object, "", "  ")
		if err != nil {
			return "", fmt.Errorf("encoding %s: %w", name, err)
		}
		texts[name] = string(data) + "\n"
	}
	for name, text := range texts {
		if err := os.MkdirAll(filepath.Dir(s.file(name)), 0o755); err != nil {
			return "", fmt.Errorf("creating the folder of %s: %w", name, err)
		}
		if err := os.WriteFile(s.file(name), []byte(text), 0o644); err != nil {
			return "", fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return s.file("settings.json"), nil
}

// object is a JSON object.
type object = map[string]any

func (s Settings) bridgeConfig() object {
	return object{
		"cniVersion": "0.4.0", "name": "rekey",
		"plugins": []object{{
			"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
			"ipam": object{
				"type":   "host-local",
				"ranges": [][]object{{{"subnet": s.PodCIDR}}},
				"routes": []object{{"dst": "0.0.0.0/0"}},
			},
		}},
	}
}

func (s Settings) kubeletConfig() object {
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": s.NodeIP, "readOnlyPort": 0, "healthzPort": 0,
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": s.CA},
		},
		"authorization":            object{"mode": "Webhook"},
		"tlsCertFile":              s.Kubelet.Cert,
		"tlsPrivateKeyFile":        s.Kubelet.Key,
		"containerRuntimeEndpoint": "unix://" + s.Socket(),
		"podLogsDir":               s.file("pods"),
		"volumePluginDir":          s.file("volume-plugins"),
		"resolvConf":               s.file("resolv.conf"),
		"clusterDomain":            "cluster.local",
		"clusterDNS":               []string{s.NodeIP},
		"cgroupDriver":             "cgroupfs",
		"cgroupRoot":               "/" + s.Cgroup,
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"oomScoreAdj":              0, // lowering it needs a capability that not every root has
		"enforceNodeAllocatable":   []string{},
		// The disk is the developer's: the node neither measures nor cleans it.
		"localStorageCapacityIsolation": false,
		"imageGCHighThresholdPercent":   100,
		"evictionHard":                  object{"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
		"syncFrequency":                 "5s", // pods see a changed Secret within about this time
		"nodeStatusUpdateFrequency":     "5s",
	}
}

func (s Settings) proxyConfig() object {
	return object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"clientConnection": object{"kubeconfig": s.ProxyConfig},
		"hostnameOverride": Name,
		"clusterCIDR":      s.PodCIDR,
		"mode":             "iptables",
		"oomScoreAdj":      0,
		// These limits are the machine's, not a namespace's.
		"conntrack": object{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
	}
}

func (s Settings) containerdConfig(plugins string) string {
	cri := `plugins."io.containerd.grpc.v1.cri"`
	runc := cri + `.containerd.runtimes.runc`
	return fmt.Sprintf(`version = 2
root = %q
state = %q

[grpc]
  address = %q

[%s]
  sandbox_image = %q
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

[%s.cni]
  bin_dir = %q
  conf_dir = %q

[%s.containerd]
  snapshotter = %q
  default_runtime_name = "runc"

[%s]
  runtime_type = "io.containerd.runc.v2"

[%s.options]
  Root = %q
  SystemdCgroup = false
`,
		filepath.Join(s.Run, "containerd"), filepath.Join(s.Run, "state"), s.Socket(),
		cri, PauseImage,
		cri, plugins, s.file("cni"),
		cri, Snapshotter(s.Dir),
		runc, runc, filepath.Join(s.Run, "runc"))
}

// pluginDir returns the folder of the distribution's network plugins.
func pluginDir() (string, error) {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if missingPlugin(dir) == "" {
			return dir, nil
		}
	}
	return "", errors.New("no network plugins (bridge, host-local, loopback) in /usr/lib/cni, /opt/cni/bin or /usr/libexec/cni")
}

func missingPlugin(dir string) string {
	for _, name := range []string{"bridge", "host-local", "loopback"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return name
		}
	}
	return ""
}
