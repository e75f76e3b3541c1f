// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// runCapacity in a process environment that has AWS credentials only where the test gives them.
func runCapacity(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, notes bytes.Buffer
	cmd := newCapacityCommand()
	cmd.SetOut(&out)
	cmd.SetErr(&notes)
	cmd.SetArgs(args)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), notes.String(), err
}

// useCluster writes a kubeconfig and points the environment to it.
func useCluster(t *testing.T, config *rest.Config) client.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"c": {Server: config.Host, CertificateAuthorityData: config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"u": {ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, path))
	t.Setenv("KUBECONFIG", path)
	c, err := cli.NewCluster().Client()
	require.NoError(t, err)
	return c
}

// withoutCredentials that the machine may have.
func withoutCredentials(t *testing.T) {
	t.Helper()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "") // to be set again when the test has ended
		require.NoError(t, os.Unsetenv(name))
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}

func TestCapacityIsReadFromEC2AndFromTheStatusWithoutCredentials(t *testing.T) {
	withoutCredentials(t)
	c := useCluster(t, chartstest.StartAPIServer(t))
	_, _, err := runCapacity(t)
	require.ErrorContains(t, err, "there is no PodNetwork in this cluster")

	server := httptest.NewServer(aws.New(aws.Options{}).Handler())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	t.Setenv("AWS_REGION", "eu-west-1") // another cluster's
	api := ec2.New(ec2.Options{Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")})
	vpc, err := api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String("100.64.0.0/16")})
	require.NoError(t, err)
	subnet, err := api.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, AvailabilityZone: awssdk.String("us-east-1a"), CidrBlock: awssdk.String("100.64.0.0/24")})
	require.NoError(t, err)
	id := *subnet.Subnet.SubnetId
	_, err = api.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &id, PrivateIpAddress: awssdk.String("100.64.0.5"), Ipv4PrefixCount: awssdk.Int32(4)})
	require.NoError(t, err)

	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	require.NoError(t, c.Create(t.Context(), network))
	network.Status.Zones = []v1alpha1.ZoneStatus{
		{Zone: "us-east-1a", ENIConfig: "us-east-1a", Subnet: id, CIDR: "100.64.0.0/24", FreePrefixes: 14, FreeAddresses: 251},
		{Zone: "us-east-1b", ENIConfig: "us-east-1b", Subnet: "subnet-00000000000000000", CIDR: "100.64.1.0/24", FreePrefixes: 14, FreeAddresses: 251},
	}
	network.StatusConditions().SetFalse("Ready", "ENIConfigMissing", "zone us-east-1c: no ENIConfig is named us-east-1c")
	require.NoError(t, c.Status().Update(t.Context(), network))
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim", Annotations: podnetwork.PlaceStamp(podnetwork.Place{Zone: "us-east-1a", ENIConfig: "us-east-1a", Subnet: id}, podcapacity.Need{Prefixes: 2, ENIs: 1})}}
	claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{}
	require.NoError(t, c.Create(t.Context(), claim))
	claim.Status.ProviderID = "aws:///us-east-1a/i-1"
	require.NoError(t, c.Status().Update(t.Context(), claim))

	t.Run("without credentials", func(t *testing.T) {
		stdout, stderr, err := runCapacity(t)
		require.NoError(t, err)
		require.Contains(t, stderr, "What the controller last wrote, since there are no AWS credentials (set AWS_PROFILE, or log in)")
		require.Equal(t, []string{"default", "us-east-1a", "us-east-1a", id, "100.64.0.0/24", "14", "0", "251", "0", "0%"}, strings.Fields(strings.Split(stdout, "\n")[1]))
		_, _, err = runCapacity(t, "--map")
		require.ErrorContains(t, err, "the pod subnets cannot be read from EC2, since there are no AWS credentials")
		stdout, stderr, err = runCapacity(t, "--source", "status")
		require.NoError(t, err)
		require.Empty(t, stderr)
		require.Contains(t, stdout, "PodNetwork default is not Ready: ENIConfigMissing: zone us-east-1c: no ENIConfig is named us-east-1c")
	})
	t.Run("a PodNetwork that is not there", func(t *testing.T) {
		_, _, err := runCapacity(t, "other")
		require.ErrorContains(t, err, "there is no PodNetwork other; there are default")
	})
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Run("from EC2", func(t *testing.T) {
		stdout, stderr, err := runCapacity(t, "default", "--map")
		require.NoError(t, err)
		require.Empty(t, stderr)
		t.Log("\n" + stdout)
		lines := strings.Split(stdout, "\n")
		require.Equal(t, []string{"default", "us-east-1a", "us-east-1a", id, "100.64.0.0/24", "10", "3", "186", "33"}, strings.Fields(lines[1])[:9])
		require.Contains(t, lines[2], "EC2 does not show it")
		require.Contains(t, stdout, "10 of 16 /28 are free; a cell is a /28\n100.64.0.0      +")
		require.Equal(t, 1, strings.Count(stdout, podnetwork.Legend))
	})
	t.Run("as JSON", func(t *testing.T) {
		stdout, _, err := runCapacity(t, "-o", "json", "--map")
		require.NoError(t, err)
		var found capacities
		require.NoError(t, json.Unmarshal([]byte(stdout), &found))
		require.Equal(t, "ec2", found.Source)
		require.Equal(t, "False", found.PodNetworks[0].Ready)
		one := found.PodNetworks[0].Subnets[0]
		require.Equal(t, 4, strings.Count(one.Blocks, "#"))
		one.Blocks = ""
		require.Equal(t, subnetCapacity{
			Zone: "us-east-1a", ENIConfig: "us-east-1a", Subnet: id, CIDR: "100.64.0.0/24", FreePrefixes: 10, FreeAddresses: 186,
			CommittedPrefixes: 3, CommittedAddresses: 33, Fragmentation: one.Fragmentation,
		}, one)
		require.True(t, found.PodNetworks[0].Subnets[1].Missing)
	})
	t.Run("EC2 that refuses", func(t *testing.T) {
		server.Close()
		t.Setenv("AWS_MAX_ATTEMPTS", "1")
		_, _, err := runCapacity(t)
		require.ErrorContains(t, err, "--source status prints what the controller last wrote")
	})
}

func TestCapacityOfAClusterWithoutDovetailSaysSo(t *testing.T) {
	useCluster(t, controlplanetest.Start(t))
	_, _, err := runCapacity(t)
	require.ErrorContains(t, err, "install the chart dovetail-crd, then the chart dovetail")
}

func TestCapacityRefusesFlagsThatContradictEachOther(t *testing.T) {
	for args, says := range map[string]string{
		"--source guess":        "--source guess: choose ec2 or status",
		"--source status --map": "--map needs --source ec2",
		"one two":               "accepts at most 1 arg(s), received 2",
	} {
		_, _, err := runCapacity(t, strings.Fields(args)...)
		require.ErrorContains(t, err, says, args)
	}
}

func TestTheRegionIsInTheZonesName(t *testing.T) {
	for zone, region := range map[string]string{
		"us-east-1a": "us-east-1", "us-gov-west-1b": "us-gov-west-1", "us-west-2-lax-1a": "us-west-2", "ap-southeast-2c": "ap-southeast-2", "": "",
	} {
		network := v1alpha1.PodNetwork{Status: v1alpha1.PodNetworkStatus{Zones: []v1alpha1.ZoneStatus{{Zone: zone}}}}
		require.Equal(t, region, regionOf([]v1alpha1.PodNetwork{network}))
	}
}
