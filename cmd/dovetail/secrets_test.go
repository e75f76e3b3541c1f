// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// secrets by which a user's command line is known to servers and proxies.
var secrets = map[string]string{
	"AWS_ACCESS_KEY_ID": "AKIAGEHEIM0000000001", "AWS_SECRET_ACCESS_KEY": "geheimSecretAccessKey", "AWS_SESSION_TOKEN": "geheimSessionToken", "bearer token": "geheim.bearer.token", "password of a proxy": "geheimPassword",
}

// TestNoCommandTellsCredentials lets each command fail: by a server that does not know the user, one that nobody is at, and an EC2 that
// refuses. What it prints is what people paste in an issue.
func TestNoCommandTellsCredentials(t *testing.T) {
	withoutCredentials(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, secrets[name])
	}
	config := chartstest.StartAPIServer(t)
	c := useCluster(t, config)
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	require.NoError(t, c.Create(t.Context(), network))
	network.Status.Zones = []v1alpha1.ZoneStatus{{Zone: "us-east-1a", ENIConfig: "us-east-1a", Subnet: "subnet-1", CIDR: "100.64.0.0/24"}}
	require.NoError(t, c.Status().Update(t.Context(), network))
	require.NoError(t, c.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "x", Labels: map[string]string{v1alpha1.LabelPodNetwork: "default"}}}))

	silent := func(t *testing.T, args ...string) (out string, err error) {
		t.Helper()
		out, err = run(t, args...)
		for kind, secret := range secrets {
			require.NotContains(t, fmt.Sprint(out, err), secret, "%s tells the %s", strings.Join(args, " "), kind)
		}
		return out, err
	}
	t.Run("EC2 refuses", func(t *testing.T) {
		var asked atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			assert.Contains(t, r.Header.Get("Authorization"), secrets["AWS_ACCESS_KEY_ID"], "the request is the user's")
			assert.Equal(t, secrets["AWS_SESSION_TOKEN"], r.Header.Get("X-Amz-Security-Token"))
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized to perform this operation.</Message></Error></Errors><RequestID>1</RequestID></Response>`)
		}))
		t.Cleanup(server.Close)
		t.Setenv("AWS_REGION", "us-east-1")
		for endpoint, says := range map[string]string{server.URL: "not authorized", "http://127.0.0.1:1": "refused"} {
			t.Setenv("AWS_ENDPOINT_URL", endpoint)
			_, err := silent(t, "capacity", "--map")
			require.ErrorContains(t, err, says)
			for _, line := range []string{"capacity", "capacity -o json", "plan", "plan -o json", "status", "doctor", "overview"} {
				_, _ = silent(t, strings.Fields(line)...) // some of them do without EC2
			}
		}
		require.Positive(t, asked.Load())
	})
	for name, cluster := range map[string]*clientcmdapi.Cluster{
		"the API server does not know the user": {Server: config.Host, CertificateAuthorityData: config.CAData},
		"nobody answers":                        {Server: "https://127.0.0.1:1"},
		"the proxy does not answer":             {Server: config.Host, CertificateAuthorityData: config.CAData, ProxyURL: "http://user:" + secrets["password of a proxy"] + "@127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kubeconfig")
			require.NoError(t, clientcmd.WriteToFile(clientcmdapi.Config{
				Clusters: map[string]*clientcmdapi.Cluster{"c": cluster}, AuthInfos: map[string]*clientcmdapi.AuthInfo{"u": {Token: secrets["bearer token"]}},
				Contexts: map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}}, CurrentContext: "x",
			}, path))
			t.Setenv("KUBECONFIG", path)
			for _, line := range []string{
				"status", "overview", "doctor", "capacity", "plan", "why x", "node status x", "migrate status", "migrate pause", "migrate stop x", "migrate start x -l a=b",
			} {
				_, err := silent(t, strings.Fields(line)...)
				require.Error(t, err, line)
			}
		})
	}
}
