// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	podnet "github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

const (
	vpcID    = "vpc-0d0ec0de000000001"
	otherVPC = "vpc-0d0ec0de000000002"
	groupID  = "sg-0d0ec0de000000001"
	// A subnet, and a group, of otherVPC.
	foreignSubnet = "subnet-0d0ec0de0000000f1"
	foreignGroup  = "sg-0d0ec0de000000002"
)

// zones of the node class, each with a node subnet and a pod subnet.
var zones = []struct{ name, nodeSubnet, nodeCIDR, podSubnet, podCIDR string }{
	{"us-east-1a", "subnet-0d0ec0de000000a00", "10.0.0.0/24", "subnet-0d0ec0de0000000a1", "100.64.0.0/19"},
	{"us-east-1b", "subnet-0d0ec0de000000b00", "10.0.1.0/24", "subnet-0d0ec0de0000000b1", "100.64.32.0/19"},
	{"us-east-1c", "subnet-0d0ec0de000000c00", "10.0.2.0/24", "subnet-0d0ec0de0000000c1", "100.64.64.0/19"},
}

// startCluster starts an API server that knows every object the controller reads.
func startCluster(t *testing.T) *rest.Config {
	t.Helper()
	apis.Register(scheme.Scheme)
	return chartstest.StartAPIServer(t)
}

// world is a cluster and a VPC for one test.
type world struct {
	*testing.T
	client.Client
	cloud    *aws.Cloud
	ec2      *ec2.Client
	recorder events.Recorder
	family   corev1.IPFamily
}

// newWorld has one EC2NodeClass in three zones, an ENIConfig for each, and PodNetwork default.
func newWorld(t *testing.T, config *rest.Config) *world {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	w := &world{T: t, Client: c, cloud: aws.New(aws.Options{})}
	server := httptest.NewServer(w.cloud.Handler())
	t.Cleanup(server.Close)
	w.ec2 = ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	broadcaster := record.NewBroadcaster()
	t.Cleanup(broadcaster.Shutdown)
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: kubernetes.NewForConfigOrDie(config).CoreV1().Events("")})
	w.recorder = events.NewRecorder(broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "dovetail"}))

	t.Cleanup(w.clear)
	w.createVPCs()
	w.createNodeClass("default")
	for _, zone := range zones {
		w.create(eniConfig(zone.name, zone.podSubnet, groupID))
	}
	w.create(&v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
	return w
}

// clear leaves the cluster to the next test as it was.
func (w *world) clear() {
	ctx := context.Background() // the test's own has ended
	for _, object := range []client.Object{&v1alpha1.PodNetwork{}, &eniconfig.ENIConfig{}, &ec2nodeclass.EC2NodeClass{}, &karpv1.NodePool{}, &karpv1.NodeClaim{}, &corev1.Node{}} {
		require.NoError(w, w.DeleteAllOf(ctx, object))
	}
	require.NoError(w, w.DeleteAllOf(ctx, &appsv1.DaemonSet{}, client.InNamespace(metav1.NamespaceSystem)))
	for _, object := range []client.Object{&corev1.Event{}, &corev1.Pod{}, &corev1.ServiceAccount{}} {
		require.NoError(w, w.DeleteAllOf(ctx, object, client.InNamespace(metav1.NamespaceDefault), client.GracePeriodSeconds(0)))
	}
}

func (w *world) create(objects ...client.Object) {
	w.Helper()
	for _, object := range objects {
		require.NoError(w, w.Create(w.Context(), object))
	}
}

func (w *world) createVPCs() {
	w.cloud.ReserveIDs([]string{vpcID, otherVPC, groupID, foreignGroup})
	for i, id := range []string{vpcID, otherVPC} {
		_, err := w.ec2.CreateVpc(w.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String([]string{"10.0.0.0/21", "192.168.0.0/16"}[i])})
		require.NoError(w, err)
		_, err = w.ec2.CreateSecurityGroup(w.Context(), &ec2.CreateSecurityGroupInput{VpcId: awssdk.String(id), GroupName: awssdk.String("nodes"), Description: awssdk.String("nodes")})
		require.NoError(w, err)
	}
	_, err := w.ec2.AssociateVpcCidrBlock(w.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: awssdk.String(vpcID), CidrBlock: awssdk.String("100.64.0.0/17")})
	require.NoError(w, err)
	for _, zone := range zones {
		w.createSubnet(zone.nodeSubnet, vpcID, zone.name, zone.nodeCIDR)
		w.createSubnet(zone.podSubnet, vpcID, zone.name, zone.podCIDR)
	}
	w.createSubnet(foreignSubnet, otherVPC, "us-east-1b", "192.168.0.0/24")
}

func (w *world) createSubnet(id, vpc, zone, cidr string) {
	w.cloud.ReserveIDs([]string{id})
	created, err := w.ec2.CreateSubnet(w.Context(), &ec2.CreateSubnetInput{
		VpcId: awssdk.String(vpc), AvailabilityZone: awssdk.String(zone), CidrBlock: awssdk.String(cidr),
	})
	require.NoError(w, err)
	require.Equal(w, id, *created.Subnet.SubnetId)
}

// createNodeClass as upstream's controller leaves it: with its subnets found.
func (w *world) createNodeClass(name string) {
	nodeClass := &ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ec2nodeclass.EC2NodeClassSpec{
		AMISelectorTerms:           []ec2nodeclass.AMISelectorTerm{{Alias: "al2023@latest"}},
		SubnetSelectorTerms:        []ec2nodeclass.SubnetSelectorTerm{{Tags: map[string]string{"karpenter.sh/discovery": "test"}}},
		SecurityGroupSelectorTerms: []ec2nodeclass.SecurityGroupSelectorTerm{{Tags: map[string]string{"karpenter.sh/discovery": "test"}}},
		Role:                       "node",
	}}
	w.create(nodeClass)
	for _, zone := range zones {
		nodeClass.Status.Subnets = append(nodeClass.Status.Subnets, ec2nodeclass.Subnet{ID: zone.nodeSubnet, Zone: zone.name})
	}
	require.NoError(w, w.Status().Update(w.Context(), nodeClass))
}

// controller with nothing remembered of EC2's answers. Its clock is fast, so that no object is new to it.
func (w *world) controller() *podnetwork.Controller {
	return w.controllerAt(time.Now().Add(time.Minute))
}

func (w *world) controllerAt(now time.Time) *podnetwork.Controller {
	return podnetwork.NewController(podnetwork.Params{
		Client: w.Client, EC2: w.ec2, PodSubnets: w.podSubnets(), Recorder: w.recorder, Clock: clocktesting.NewFakeClock(now), IPFamily: w.family,
	})
}

func (w *world) podSubnets() *podsubnet.Reader {
	return &podsubnet.Reader{EC2: w.ec2, Ledger: podnet.NewLedger(clock.RealClock{}), Clock: clock.RealClock{}}
}

// reconcile returns the network as the API server has it afterwards.
func (w *world) reconcile(name string) *v1alpha1.PodNetwork {
	w.Helper()
	_, err := w.controller().Reconcile(w.Context(), w.network(name))
	require.NoError(w, err)
	return w.network(name)
}

func (w *world) network(name string) *v1alpha1.PodNetwork {
	w.Helper()
	network := &v1alpha1.PodNetwork{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: name}, network))
	return network
}

// requireEvent waits for a Warning on an object, as `kubectl describe` shows it.
func (w *world) requireEvent(kind, name, reason, message string) {
	w.Helper()
	require.Eventually(w, func() bool {
		list := &corev1.EventList{}
		if err := w.List(w.Context(), list, client.InNamespace(metav1.NamespaceDefault)); err != nil {
			return false
		}
		for _, event := range list.Items {
			if on := event.InvolvedObject; on.Kind == kind && on.Name == name && event.Reason == reason && event.Message == message {
				return event.Type == corev1.EventTypeWarning
			}
		}
		return false
	}, time.Minute, 50*time.Millisecond, "no event %s on %s %s: %s", reason, kind, name, message)
}

func eniConfig(name, subnet string, groups ...string) *eniconfig.ENIConfig {
	return &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: eniconfig.ENIConfigSpec{Subnet: subnet, SecurityGroups: groups}}
}

func (w *world) updateENIConfig(name string, change func(*eniconfig.ENIConfigSpec)) {
	w.Helper()
	config := &eniconfig.ENIConfig{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: name}, config))
	change(&config.Spec)
	require.NoError(w, w.Update(w.Context(), config))
}
