// SPDX-License-Identifier: Apache-2.0

package securitygroups_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/securitygroups"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

const cluster = "test"

// world is a cluster and an account for one test: PodNetwork and ENIConfig default, a VPC with groups first and second, another
// VPC with group foreign, and a controller whose clock the test turns.
type world struct {
	*testing.T
	client.Client
	cloud                                *aws.Cloud
	api                                  *ec2.Client
	clock                                *clocktesting.FakeClock
	controller                           *securitygroups.Controller
	recorder                             events.Recorder
	vpc                                  string
	nodeSubnet, podSubnet, otherSubnet   string
	nodes, first, second, third, foreign string
	// changes asked of EC2, refused ones too.
	changes int
}

func newWorld(t *testing.T, config *rest.Config) *world {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	w := &world{T: t, Client: c, cloud: aws.New(aws.Options{Seed: 1}), clock: clocktesting.NewFakeClock(time.Now())}
	t.Cleanup(w.clear)
	server := httptest.NewServer(w.counting(w.cloud.Handler()))
	t.Cleanup(server.Close)
	w.api = ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	broadcaster := record.NewBroadcaster()
	t.Cleanup(broadcaster.Shutdown)
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: kubernetes.NewForConfigOrDie(config).CoreV1().Events("")})
	w.recorder = events.NewRecorder(broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "dovetail"}))
	w.controller = securitygroups.NewController(securitygroups.Params{Client: c, EC2: w.api, Cluster: cluster, Recorder: w.recorder, Clock: w.clock})

	w.vpc = w.createVPC("10.0.0.0/16")
	w.nodeSubnet, w.podSubnet, w.otherSubnet = w.createSubnet("10.0.0.0/24"), w.createSubnet("10.0.32.0/19"), w.createSubnet("10.0.64.0/19")
	w.nodes, w.first, w.second, w.third = w.createGroup(w.vpc, "nodes"), w.createGroup(w.vpc, "first"), w.createGroup(w.vpc, "second"), w.createGroup(w.vpc, "third")
	w.foreign = w.createGroup(w.createVPC("192.168.0.0/16"), "foreign")
	w.create(
		&v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
		&eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: eniconfig.ENIConfigSpec{Subnet: w.podSubnet, SecurityGroups: []string{w.first}}},
	)
	return w
}

// clear leaves the cluster to the next test as it was.
func (w *world) clear() {
	ctx := context.Background() // the test's own has ended
	for _, object := range []client.Object{&v1alpha1.PodNetwork{}, &eniconfig.ENIConfig{}, &corev1.Node{}} {
		require.NoError(w, w.DeleteAllOf(ctx, object))
	}
	require.NoError(w, w.DeleteAllOf(ctx, &corev1.Event{}, client.InNamespace(metav1.NamespaceDefault)))
}

// counting counts the changes of ENIs' groups that are asked for.
func (w *world) counting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		assert.NoError(w, err)
		if strings.Contains(string(body), "Action=ModifyNetworkInterfaceAttribute") && strings.Contains(string(body), "SecurityGroupId.1") {
			w.changes++
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(rw, r)
	})
}

func (w *world) create(objects ...client.Object) {
	w.Helper()
	for _, object := range objects {
		require.NoError(w, w.Create(w.Context(), object))
	}
}

func (w *world) createVPC(cidr string) string {
	out, err := w.api.CreateVpc(w.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String(cidr)})
	require.NoError(w, err)
	return awssdk.ToString(out.Vpc.VpcId)
}

func (w *world) createSubnet(cidr string) string {
	out, err := w.api.CreateSubnet(w.Context(), &ec2.CreateSubnetInput{VpcId: awssdk.String(w.vpc), CidrBlock: awssdk.String(cidr), AvailabilityZone: awssdk.String("us-east-1a")})
	require.NoError(w, err)
	return awssdk.ToString(out.Subnet.SubnetId)
}

// createGroup waits until all of EC2 knows the group.
func (w *world) createGroup(vpc, name string) string {
	out, err := w.api.CreateSecurityGroup(w.Context(), &ec2.CreateSecurityGroupInput{VpcId: awssdk.String(vpc), GroupName: awssdk.String(name), Description: awssdk.String(name)})
	require.NoError(w, err)
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		_, err := w.api.DescribeSecurityGroups(w.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*out.GroupId}})
		assert.NoError(c, err)
	}, time.Minute, 10*time.Millisecond)
	return *out.GroupId
}

// node is launched with group nodes, and registers on PodNetwork default.
func (w *world) node(change ...func(*corev1.Node)) (instance string) {
	w.Helper()
	images, err := w.api.DescribeImages(w.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: awssdk.String("architecture"), Values: []string{"x86_64"}}, {Name: awssdk.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(w, err)
	out, err := w.api.RunInstances(w.Context(), &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, InstanceType: "m5.large", MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1),
		SubnetId: awssdk.String(w.nodeSubnet), SecurityGroupIds: []string{w.nodes},
	})
	require.NoError(w, err)
	id := awssdk.ToString(out.Instances[0].InstanceId)
	require.NoError(w, ec2.NewInstanceRunningWaiter(w.api, func(o *ec2.InstanceRunningWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	}).
		Wait(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, time.Minute))
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: id, Labels: map[string]string{v1alpha1.LabelPodNetwork: "default"}},
		Spec:       corev1.NodeSpec{ProviderID: "aws:///us-east-1a/" + id},
	}
	for _, f := range change {
		f(node)
	}
	w.create(node)
	return id
}

// podENI is made by the code of the instance's agent.
func (w *world) podENI(instance string, groups ...string) (id string) {
	w.Helper()
	agent := &eni.Client{EC2: w.api, InstanceID: instance, Cluster: cluster}
	attached, err := agent.List(w.Context())
	require.NoError(w, err)
	used := make([]int, 0, len(attached))
	for _, e := range attached {
		used = append(used, e.DeviceIndex)
	}
	e, err := agent.Create(w.Context(), eni.CreateParams{Subnet: w.podSubnet, SecurityGroups: groups, Unit: pool.Prefix, Count: 1, UsedIndexes: used, MaxENIs: 3})
	require.NoError(w, err)
	w.await(e.ID)
	return e.ID
}

// attached makes an ENI by hand, with tags.
func (w *world) attached(instance string, index int32, tags map[string]string, groups ...string) (id string) {
	w.Helper()
	spec := ec2types.TagSpecification{ResourceType: ec2types.ResourceTypeNetworkInterface}
	for key, value := range tags {
		spec.Tags = append(spec.Tags, ec2types.Tag{Key: awssdk.String(key), Value: awssdk.String(value)})
	}
	input := &ec2.CreateNetworkInterfaceInput{SubnetId: awssdk.String(w.podSubnet), Groups: groups}
	if len(tags) > 0 {
		input.TagSpecifications = []ec2types.TagSpecification{spec}
	}
	out, err := w.api.CreateNetworkInterface(w.Context(), input)
	require.NoError(w, err)
	id = awssdk.ToString(out.NetworkInterface.NetworkInterfaceId)
	require.EventuallyWithT(w, func(c *assert.CollectT) { // it is unknown for a while
		_, err := w.api.AttachNetworkInterface(w.Context(), &ec2.AttachNetworkInterfaceInput{
			NetworkInterfaceId: awssdk.String(id), InstanceId: awssdk.String(instance), DeviceIndex: awssdk.Int32(index),
		})
		assert.NoError(c, err)
	}, time.Minute, 50*time.Millisecond)
	w.await(id)
	return id
}

// await that EC2 tells of the attachment: its answers are late.
func (w *world) await(id string) {
	w.Helper()
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		n := w.describe(id)
		if assert.Len(c, n, 1) {
			assert.Equal(c, ec2types.NetworkInterfaceStatusInUse, n[0].Status)
		}
	}, time.Minute, 10*time.Millisecond)
}

func (w *world) describe(id string) []ec2types.NetworkInterface {
	out, err := w.api.DescribeNetworkInterfaces(w.Context(), &ec2.DescribeNetworkInterfacesInput{
		Filters: []ec2types.Filter{{Name: awssdk.String("network-interface-id"), Values: []string{id}}},
	})
	require.NoError(w, err)
	return out.NetworkInterfaces
}

// groupsOf an ENI, as EC2 has them.
func (w *world) groupsOf(id string) []string {
	w.Helper()
	for _, n := range w.cloud.Snapshot().Interfaces {
		if n.ID == id {
			return slices.Sorted(slices.Values(n.Groups))
		}
	}
	w.Fatalf("there is no ENI %s", id)
	return nil
}

// round of the controller.
func (w *world) round() (network *v1alpha1.PodNetwork, next time.Duration) {
	w.Helper()
	network = &v1alpha1.PodNetwork{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: "default"}, network))
	result, err := w.controller.Reconcile(w.Context(), network)
	require.NoError(w, err)
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: "default"}, network))
	return network, result.RequeueAfter
}

func (w *world) updateENIConfig(change func(*eniconfig.ENIConfigSpec)) {
	w.Helper()
	config := &eniconfig.ENIConfig{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: "default"}, config))
	change(&config.Spec)
	require.NoError(w, w.Update(w.Context(), config))
}

func (w *world) setGroups(groups ...string) {
	w.Helper()
	w.updateENIConfig(func(s *eniconfig.ENIConfigSpec) { s.SecurityGroups = groups })
}

// requireWarnings waits for events of a reason on both the PodNetwork and the ENIConfig, each one only.
func (w *world) requireWarnings(reason string) {
	w.Helper()
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		list := &corev1.EventList{}
		require.NoError(c, w.List(w.Context(), list, client.InNamespace(metav1.NamespaceDefault)))
		var kinds []string
		for _, event := range list.Items {
			if event.Reason == reason && event.Type == corev1.EventTypeWarning && event.Count == 1 {
				kinds = append(kinds, event.InvolvedObject.Kind)
			}
		}
		slices.Sort(kinds)
		assert.Equal(c, []string{"ENIConfig", "PodNetwork"}, kinds)
	}, time.Minute, 50*time.Millisecond)
}
