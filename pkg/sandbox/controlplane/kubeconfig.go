// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfig writes a client configuration as a file with everything in it.
func kubeconfig(config *rest.Config) ([]byte, error) {
	const name = "dovetail-sandbox"
	out := api.NewConfig()
	cluster, user, kubeContext := api.NewCluster(), api.NewAuthInfo(), api.NewContext()
	cluster.Server, cluster.CertificateAuthorityData = config.Host, config.CAData
	user.ClientCertificateData, user.ClientKeyData = config.CertData, config.KeyData
	kubeContext.Cluster, kubeContext.AuthInfo = name, name
	out.Clusters[name], out.AuthInfos[name], out.Contexts[name] = cluster, user, kubeContext
	out.CurrentContext = name
	content, err := clientcmd.Write(*out)
	if err != nil {
		return nil, fmt.Errorf("write a kubeconfig: %w", err)
	}
	return content, nil
}
