// SPDX-License-Identifier: Apache-2.0

package bootstrap_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
)

const (
	al2023 = `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
metadata: {creationTimestamp: null}
spec:
  cluster: {apiServerEndpoint: https://10.0.0.9, certificateAuthority: Y2E=, cidr: 172.20.0.0/16, name: test}
  kubelet:
    config:
      maxPods: 110
      kubeReserved: {cpu: 70m, memory: 1465Mi}
      registerWithTaints: [{effect: NoExecute, key: karpenter.sh/unregistered}]
    flags:
    - --node-labels=a=b,dovetail.dev/pod-network=default
--//--
`
	al2 = `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: text/x-shellscript; charset="us-ascii"

#!/bin/bash -xe
exec > >(tee /var/log/user-data.log|logger -t user-data -s 2>/dev/console) 2>&1
/etc/eks/bootstrap.sh 'test' --apiserver-endpoint 'https://10.0.0.9' --b64-cluster-ca 'Y2E=' \
--dns-cluster-ip '172.20.0.10' \
--use-max-pods false \
--kubelet-extra-args '--node-labels="a=b,dovetail.dev/pod-network=default" --register-with-taints="karpenter.sh/unregistered:NoExecute" --max-pods=110 --kube-reserved="cpu=70m,memory=1465Mi"'
--//--
`
	bottlerocket = `[settings]
[settings.kubernetes]
api-server = 'https://10.0.0.9'
cluster-certificate = 'Y2E='
cluster-name = 'test'
max-pods = 110
cluster-dns-ip = '172.20.0.10'
[settings.kubernetes.node-labels]
'a' = 'b'
'dovetail.dev/pod-network' = 'default'
[settings.kubernetes.node-taints]
'karpenter.sh/unregistered' = [':NoExecute']
[settings.kubernetes.kube-reserved]
cpu = '70m'
memory = '1465Mi'
`
)

func TestUserDataOfEachAMIFamilySaysTheSame(t *testing.T) {
	for name, raw := range map[string]string{"AL2": al2, "AL2023": al2023, "Bottlerocket": bottlerocket} {
		t.Run(name, func(t *testing.T) {
			got, err := bootstrap.DecodeUserData([]byte(raw))
			require.NoError(t, err)
			require.Equal(t, bootstrap.UserData{
				ClusterName: "test", Endpoint: "https://10.0.0.9", CA: []byte("ca"), MaxPods: 110, ClusterDNS: []string{"172.20.0.10"},
				Labels:       map[string]string{"a": "b", "dovetail.dev/pod-network": "default"},
				Taints:       []corev1.Taint{{Key: "karpenter.sh/unregistered", Effect: corev1.TaintEffectNoExecute}},
				KubeReserved: map[string]string{"cpu": "70m", "memory": "1465Mi"},
			}, got)
		})
	}
}

func TestUserDataThatStartsNoKubeletIsRefused(t *testing.T) {
	for name, raw := range map[string]string{
		"empty":       "",
		"a script":    "#!/bin/sh\necho hello\n",
		"no endpoint": "[settings.kubernetes]\ncluster-name = 'x'\n",
		"broken YAML": "kind: NodeConfig\n\tspec: {",
		"max-pods":    "/etc/eks/bootstrap.sh x --apiserver-endpoint y --kubelet-extra-args --max-pods=many",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bootstrap.DecodeUserData([]byte(raw))
			require.ErrorIs(t, err, bootstrap.ErrUserData)
		})
	}
}

func FuzzDecodeUserDataNeverPanics(f *testing.F) {
	for _, seed := range []string{al2, al2023, bottlerocket, ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := bootstrap.DecodeUserData(raw)
		if err == nil {
			require.NotEmpty(t, got.Endpoint)
		}
	})
}
