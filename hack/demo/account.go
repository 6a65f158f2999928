// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// accountKubeconfig writes a kubeconfig with exactly the rights of the operator's service account.
func (p *processes) accountKubeconfig(ctx context.Context, account string) (string, error) {
	hours := int64(4 * 3600)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hours}}
	token, err := p.clientset.CoreV1().ServiceAccounts(operatorNamespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token for the operator's service account: %w", err)
	}
	config := rest.AnonymousClientConfig(p.config)
	if err := rest.LoadTLSFiles(config); err != nil {
		return "", fmt.Errorf("reading the cluster's authority: %w", err)
	}
	written := api.NewConfig()
	written.Clusters["demo"] = &api.Cluster{
		Server: config.Host, CertificateAuthorityData: config.CAData,
		TLSServerName: config.ServerName, InsecureSkipTLSVerify: config.Insecure,
	}
	written.AuthInfos["operator"] = &api.AuthInfo{Token: token.Status.Token}
	written.Contexts["demo"] = &api.Context{Cluster: "demo", AuthInfo: "operator"}
	written.CurrentContext = "demo"
	path := filepath.Join(p.programs.dir, "operator.kubeconfig")
	if err := clientcmd.WriteToFile(*written, path); err != nil {
		return "", fmt.Errorf("writing the operator's kubeconfig: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return "", fmt.Errorf("protecting the operator's kubeconfig: %w", err)
	}
	return path, nil
}
