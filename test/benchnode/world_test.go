// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

const (
	zone = "us-east-1a"
	// perCall is what each EC2 call takes, and what an interface takes to be attached.
	perCall = 300 * time.Millisecond
	// deadline ends a wait that would not end; it is no expectation.
	deadline = 2 * time.Minute
)

// world is a simulated account whose VPC carries packets, and a real API server in it.
type world struct {
	cloud    *simulator.Cloud
	network  *vpc.Network
	ec2      *ec2.Client
	kube     client.Client
	endpoint netip.Addr // of the API server and of AWS, in the VPC

	nodeSubnet, podSubnet string
	image                 string
	kubeconfig, awsURL    string // for agents

	mu    sync.Mutex
	calls map[string]int // of EC2 by agents, by action
}

func newWorld(t *testing.T) *world {
	t.Helper()
	each := simulator.Span{Min: perCall, Max: perCall}
	w := &world{calls: map[string]int{}, cloud: simulator.New(simulator.Options{Seed: 1, Latency: simulator.Profile{
		Read: each, Write: each, Launch: each, Attach: each, Detach: each,
	}})}
	var err error
	w.network, err = vpc.New("/run/vpc")
	require.NoError(t, err)
	t.Cleanup(w.network.Close)
	require.NoError(t, w.network.ServeMetadata(func(vpcID string) http.Handler {
		return w.cloud.IMDS(func(remote netip.Addr) (string, bool) { return vpc.InstanceOf(w.cloud.Snapshot(), vpcID, remote) })
	}))
	w.ec2 = ec2.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String("http://" + serve(t, "127.0.0.1:0", w.cloud.Handler())),
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	w.createVPC(t)
	w.follow(t)
	w.awsURL = "http://" + serve(t, net.JoinHostPort(w.endpoint.String(), "0"), w.counted(w.cloud.Handler()))
	w.startControlPlane(t)
	return w
}

func serve(t *testing.T, address string, handler http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	require.NoError(t, err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go server.Serve(listener) //nolint:errcheck // it ends with the test
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// counted counts the calls that agents make.
func (w *world) counted(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the agent was killed
		}
		form, _ := url.ParseQuery(string(body)) // what is no form has no action
		w.mu.Lock()
		w.calls[form.Get("Action")]++
		w.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler.ServeHTTP(response, r)
	})
}

// takeCalls returns the calls since it was called last.
func (w *world) takeCalls() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = map[string]int{}
	return calls
}

func (w *world) createVPC(t *testing.T) {
	t.Helper()
	created, err := w.ec2.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/21")})
	require.NoError(t, err)
	id := created.Vpc.VpcId
	_, err = w.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: id, CidrBlock: aws.String("100.64.0.0/16")})
	require.NoError(t, err)
	subnet := func(cidr string) string {
		out, err := w.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: id, CidrBlock: aws.String(cidr), AvailabilityZone: aws.String(zone)})
		require.NoError(t, err)
		return *out.Subnet.SubnetId
	}
	w.nodeSubnet, w.podSubnet = subnet("10.0.0.0/24"), subnet("100.64.0.0/19")
	images, err := w.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: aws.String("architecture"), Values: []string{"x86_64"}}, {Name: aws.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(t, err)
	w.image = *images.Images[0].ImageId
	endpoint, err := w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &w.nodeSubnet})
	require.NoError(t, err)
	w.endpoint = netip.MustParseAddr(*endpoint.NetworkInterface.PrivateIpAddress)
	require.NoError(t, w.cloud.AttachToService(*endpoint.NetworkInterface.NetworkInterfaceId, "eks"))
	w.network.Plug(*endpoint.NetworkInterface.NetworkInterfaceId, w.network.AWSPath(), "eks")
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
	control, err := controlplane.Start(t.Context(), controlplane.Options{Dir: t.TempDir(), BinDir: controlplanetest.BinDir(), Bind: w.endpoint})
	require.NoError(t, err)
	t.Cleanup(control.Stop)
	config, err := control.AdminKubeconfig("https://" + net.JoinHostPort(w.endpoint.String(), strconv.Itoa(control.Port())))
	require.NoError(t, err)
	w.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(w.kubeconfig, config, 0o600))

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
	_, err = envtest.InstallCRDs(control.RESTConfig(), envtest.CRDInstallOptions{CRDs: crds})
	require.NoError(t, err)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, eniconfig.AddToScheme} {
		require.NoError(t, add(scheme))
	}
	unlimited := rest.CopyConfig(control.RESTConfig())
	unlimited.QPS = -1
	w.kube, err = client.New(unlimited, client.Options{Scheme: scheme})
	require.NoError(t, err)
	for _, object := range []client.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}, // no controller makes it
		&v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: zone}, Spec: eniconfig.ENIConfigSpec{Subnet: w.podSubnet}},
	} {
		require.NoError(t, w.kube.Create(t.Context(), object))
	}
}

// createPod that is bound to the instance's node.
func (w *world) createPod(ctx context.Context, name, node string) error {
	return w.kube.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Name: "web", Image: "registry.example/web:v1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
			Env:       []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")}},
		}}},
	})
}

func eventually(t *testing.T, f func(*assert.CollectT)) {
	t.Helper()
	require.EventuallyWithT(t, f, deadline, 20*time.Millisecond)
}
