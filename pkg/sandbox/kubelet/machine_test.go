// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	sandboxaws "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns/netnstest"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "container" { // see ContainerInit below
		time.Sleep(200 * time.Millisecond) // a busy machine: nothing may take the container for running yet
		fmt.Fprintln(os.Stderr, kubelet.RunContainerInit(os.Stdin))
		os.Exit(1)
	}
	netnstest.Main(m)
}

// machine is an instance of a simulated account whose kubelet runs in the test's namespaces and joins a real control plane.
type machine struct {
	client                kubernetes.Interface
	config                *rest.Config
	node, instanceID      string
	address               netip.Addr
	confDir, binDir, logs string
	log                   string // the kubelet's own
	stop                  context.CancelFunc
	stopped               chan error
}

const maxPods = 4

// boot launches the instance and runs its kubelet; programs are by the name of the image that they stand for.
func boot(t *testing.T, programs map[string]string) *machine {
	t.Helper()
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(stateDir)) })
	control := controlplanetest.StartFull(t)
	m := &machine{
		client: kubernetes.NewForConfigOrDie(control.RESTConfig()), config: control.RESTConfig(), confDir: t.TempDir(), binDir: t.TempDir(), logs: t.TempDir(), stopped: make(chan error, 1),
	}
	m.launch(t, control)

	kubeconfig, err := control.NodeKubeconfig(control.RESTConfig().Host, m.node)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, kubeconfig, 0o600))
	ctx, stop := context.WithCancel(t.Context())
	m.stop = stop
	m.log = filepath.Join(m.logs, "kubelet.log")
	log, err := os.Create(m.log)
	require.NoError(t, err)
	t.Cleanup(func() { log.Close() })
	k, err := kubelet.New(ctx, kubelet.Options{
		Log:        slog.New(slog.NewTextHandler(log, nil)),
		Kubeconfig: file, Programs: programs, ContainerInit: []string{"/proc/self/exe", "container"},
		RootDir: t.TempDir(), LogDir: m.logs, CNIBinDir: m.binDir, CNIConfDir: m.confDir, CNICacheDir: t.TempDir(),
		InstanceType: func(name string) (bootstrap.Hardware, bool) {
			return bootstrap.Hardware{CPUs: 2, MemoryMiB: 8192, DefaultMaxPods: 29}, name == "m5.large"
		},
	})
	require.NoError(t, err)
	go func() { m.stopped <- k.Run(ctx) }()
	return m
}

// launch runs an instance by the EC2 API, and serves its metadata where instances look for them.
func (m *machine) launch(t *testing.T, control *controlplane.ControlPlane) {
	t.Helper()
	cloud := sandboxaws.New(sandboxaws.Options{Seed: 1})
	server := httptest.NewServer(cloud.Handler())
	t.Cleanup(server.Close)
	config := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}
	api := ec2.NewFromConfig(config)
	vpc, err := api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/21")})
	require.NoError(t, err)
	subnet, err := api.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{
		VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String("10.0.0.0/24"), AvailabilityZone: aws.String("us-east-1a"),
	})
	require.NoError(t, err)
	image, err := ssm.NewFromConfig(config).GetParameter(t.Context(), &ssm.GetParameterInput{
		Name: aws.String("/aws/service/eks/optimized-ami/" + controlplane.Version + "/amazon-linux-2023/x86_64/standard/recommended/image_id"),
	})
	require.NoError(t, err)
	userData := fmt.Sprintf(`MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  cluster: {name: test, apiServerEndpoint: %q, certificateAuthority: %s, cidr: 172.20.0.0/16}
  kubelet:
    config:
      maxPods: %d
      kubeReserved: {cpu: 70m, memory: 300Mi}
      registerWithTaints: [{key: karpenter.sh/unregistered, effect: NoExecute}]
    flags: [--node-labels=karpenter.sh/nodepool=default]
--//--
`, control.RESTConfig().Host, base64.StdEncoding.EncodeToString(control.CA()), maxPods)
	out, err := api.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: image.Parameter.Value, InstanceType: ec2types.InstanceTypeM5Large, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		SubnetId: subnet.Subnet.SubnetId, UserData: aws.String(base64.StdEncoding.EncodeToString([]byte(userData))),
	})
	require.NoError(t, err)
	instance := out.Instances[0]
	m.instanceID, m.node = *instance.InstanceId, *instance.PrivateDnsName
	m.address = netip.MustParseAddr(*instance.PrivateIpAddress)

	lo, err := netlink.LinkByName("lo")
	require.NoError(t, err)
	for _, address := range []netip.Addr{m.address, netip.MustParseAddr("169.254.169.254")} {
		require.NoError(t, netlink.AddrReplace(lo, &netlink.Addr{IPNet: netlink.NewIPNet(address.AsSlice())}))
	}
	listener, err := net.Listen("tcp", "169.254.169.254:80")
	require.NoError(t, err)
	metadata := httptest.NewUnstartedServer(cloud.IMDS(func(netip.Addr) (string, bool) { return m.instanceID, true }))
	metadata.Listener.Close()
	metadata.Listener = listener
	metadata.Start()
	t.Cleanup(metadata.Close)
	_, err = cloud.AddFault(sandboxaws.Fault{MetadataError: &sandboxaws.MetadataErrorFault{Status: http.StatusServiceUnavailable, Rate: 0.8}})
	require.NoError(t, err) // the boot does not give up on a metadata service that answers now and then
}

// program builds what the tests' containers run: static, as images of one program hold it.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent")
	build := exec.Command("go", "build", "-o", path, "./testdata/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return path
}
