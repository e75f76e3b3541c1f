// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/go-logr/logr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns/netnstest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	netnstest.Main(m)
}

const (
	zone = "us-east-1a"
	// deadline ends a wait that would not end; it is no expectation.
	deadline = 2 * time.Minute
	tick     = 20 * time.Millisecond
)

// world is a simulated account whose VPC carries packets, and a real API server that is in the VPC by an ENI, as that of EKS.
type world struct {
	cloud   *simulator.Cloud
	network *vpc.Network
	ec2     *ec2.Client
	kube    client.Client
	control *controlplane.ControlPlane

	calls                atomic.Int32 // of AWS that have no answer yet; those of a killed agent have their effect still
	endpoint             netip.Addr   // of the API server and of AWS, in the VPC
	awsURL               string
	nodeSubnet, pods     string
	vpcID, image, config string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ms := func(low, high int) simulator.Span {
		return simulator.Span{Min: time.Duration(low) * time.Millisecond, Max: time.Duration(high) * time.Millisecond}
	}
	w := &world{cloud: simulator.New(simulator.Options{Seed: 1, Latency: simulator.Profile{
		Read: ms(1, 5), Write: ms(50, 150), Attach: ms(50, 100), Detach: ms(50, 100), Metadata: ms(10, 30), Propagation: ms(5, 20),
	}})}
	var err error
	w.network, err = vpc.New("/run/vpc")
	require.NoError(t, err)
	t.Cleanup(w.network.Close)
	require.NoError(t, w.network.ServeMetadata(func(vpcID string) http.Handler {
		return w.cloud.IMDS(func(remote netip.Addr) (string, bool) { return vpc.InstanceOf(w.cloud.Snapshot(), vpcID, remote) })
	}))
	local := w.serveAWS(t, "127.0.0.1:0")
	w.ec2 = ec2.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + local), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	w.createVPC(t)
	w.follow(t)
	w.startControlPlane(t)
	return w
}

func (w *world) serveAWS(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	handler := w.cloud.Handler()
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.calls.Add(1)
		defer w.calls.Add(-1)
		handler.ServeHTTP(rw, r)
	})}
	go server.Serve(listener) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

func (w *world) createVPC(t *testing.T) {
	t.Helper()
	created, err := w.ec2.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/21")})
	require.NoError(t, err)
	w.vpcID = *created.Vpc.VpcId
	eventually(t, func(c *assert.CollectT) {
		_, err := w.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: &w.vpcID, CidrBlock: aws.String("100.64.0.0/16")})
		require.NoError(c, err)
	})
	subnet := func(cidr string) (id string) {
		eventually(t, func(c *assert.CollectT) {
			out, err := w.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: &w.vpcID, CidrBlock: aws.String(cidr), AvailabilityZone: aws.String(zone)})
			require.NoError(c, err)
			id = *out.Subnet.SubnetId
		})
		return id
	}
	w.nodeSubnet, w.pods = subnet("10.0.0.0/24"), subnet("100.64.0.0/19")
	images, err := w.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: aws.String("architecture"), Values: []string{"x86_64"}}, {Name: aws.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(t, err)
	w.image = *images.Images[0].ImageId
	eventually(t, func(c *assert.CollectT) {
		out, err := w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &w.nodeSubnet, Description: aws.String("Amazon EKS test")})
		require.NoError(c, err)
		w.endpoint = netip.MustParseAddr(*out.NetworkInterface.PrivateIpAddress)
		require.NoError(c, w.cloud.AttachToService(*out.NetworkInterface.NetworkInterfaceId, "eks"))
		w.network.Plug(*out.NetworkInterface.NetworkInterfaceId, w.network.AWSPath(), "eks")
	})
}

// follow gives the VPC's packets each change of the account.
func (w *world) follow(t *testing.T) {
	require.NoError(t, w.network.Apply(w.cloud.Snapshot()))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	t.Cleanup(func() {
		stop()
		<-done
	})
	changed := w.cloud.Changed()
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				assert.NoError(t, w.network.Apply(w.cloud.Snapshot()))
			}
		}
	}()
}

func (w *world) startControlPlane(t *testing.T) {
	t.Helper()
	w.awsURL = "http://" + w.serveAWS(t, net.JoinHostPort(w.endpoint.String(), "0"))
	var err error
	w.control, err = controlplane.Start(t.Context(), controlplane.Options{Dir: t.TempDir(), BinDir: controlplanetest.BinDir(), Bind: w.endpoint})
	require.NoError(t, err)
	t.Cleanup(w.control.Stop)
	config, err := w.control.AdminKubeconfig("https://" + net.JoinHostPort(w.endpoint.String(), strconv.Itoa(w.control.Port())))
	require.NoError(t, err)
	w.config = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(w.config, config, 0o600))

	rendered, err := charts.Render(charts.CRDs, charts.Release{Name: charts.CRDs})
	require.NoError(t, err)
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, object := range rendered {
		if name := object.GetName(); name != "podnetworks.dovetail.dev" && name != "eniconfigs.crd.k8s.amazonaws.com" {
			continue
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd))
		crds = append(crds, crd)
	}
	require.Len(t, crds, 2)
	_, err = envtest.InstallCRDs(w.control.RESTConfig(), envtest.CRDInstallOptions{CRDs: crds})
	require.NoError(t, err)
	scheme := runtime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	require.NoError(t, eniconfig.AddToScheme(scheme))
	w.kube, err = client.New(w.control.RESTConfig(), client.Options{Scheme: scheme})
	require.NoError(t, err)
	w.createENIConfig(t)
}

func (w *world) createENIConfig(t *testing.T) {
	require.NoError(t, w.kube.Create(t.Context(), &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: zone}, Spec: eniconfig.ENIConfigSpec{Subnet: w.pods}}))
}

// warm makes the PodNetwork of all nodes warm so many prefixes; addresses rest for a second.
func (w *world) warm(t *testing.T, prefixes int32) {
	t.Helper()
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.PodNetworkSpec{
		Addressing: v1alpha1.Addressing{Warm: &v1alpha1.Warm{PrefixTarget: &prefixes}, Cooldown: &metav1.Duration{Duration: time.Second}},
	}}
	require.NoError(t, w.kube.Create(t.Context(), network))
}

// launch starts an instance and its Node; nothing runs on it.
func (w *world) launch(t *testing.T, instanceType ec2types.InstanceType) *instance {
	t.Helper()
	out, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: instanceType, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: &w.nodeSubnet,
	})
	require.NoError(t, err)
	launched := out.Instances[0]
	i := &instance{
		world: w, id: *launched.InstanceId, name: *launched.PrivateDnsName, address: netip.MustParseAddr(*launched.PrivateIpAddress),
		netns: w.network.InstancePath(*launched.InstanceId), stateDir: t.TempDir(), confDir: t.TempDir(), log: filepath.Join(t.TempDir(), "agent.log"),
	}
	eventually(t, func(c *assert.CollectT) { require.NoError(c, i.in(func() error { return hasLink("eth0") })) })
	require.NoError(t, w.kube.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: i.name, Labels: map[string]string{corev1.LabelTopologyZone: zone, v1alpha1.LabelPodNetwork: "default"},
	}}))
	t.Cleanup(func() {
		i.killAgent()
		if log, err := os.ReadFile(i.log); err == nil && t.Failed() {
			t.Logf("the end of the log of the agent of %s:\n%s", i.name, log[max(0, len(log)-8000):])
		}
	})
	return i
}

// terminate ends the instance and waits until EC2 has nothing of it any more.
func (w *world) terminate(t *testing.T, i *instance) {
	t.Helper()
	_, err := w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{i.id}})
	require.NoError(t, err)
	eventually(t, func(c *assert.CollectT) {
		for _, n := range w.enis(i) {
			require.Fail(c, "the instance left an ENI", "%s, attachment %+v", n.ID, n.Attachment)
		}
	})
	require.NoError(t, w.kube.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: i.name}}))
}

// enis are all in the account that were made for an instance, whether the API tells of them yet or not.
func (w *world) enis(i *instance) (enis []simulator.Interface) {
	for _, n := range w.cloud.Snapshot().Interfaces {
		if n.Tags[eni.TagInstance] == i.id {
			enis = append(enis, n)
		}
	}
	return enis
}

func eventually(t *testing.T, f func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, f, deadline, tick)
}

func seeded(t *testing.T) uint64 {
	chosen := *seed
	if chosen == 0 {
		chosen = uint64(time.Now().UnixNano()) //nolint:gosec // any number
	}
	t.Logf("seed %d; again with: go test ./test/node -run '%s' -args -seed %d", chosen, t.Name(), chosen)
	return chosen
}

func describe(format string, args ...any) string { return fmt.Sprintf(format, args...) }
