// SPDX-License-Identifier: Apache-2.0

package enigarbage_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/controllers/enigarbage"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// world is a simulated account with a pod subnet, and the controller with a clock that the test turns.
type world struct {
	*testing.T
	api                   *ec2.Client
	nodeSubnet, podSubnet string
	clock                 *clocktesting.FakeClock
	controller            *enigarbage.Controller
}

func newWorld(t *testing.T) *world {
	server := httptest.NewServer(simulator.New(simulator.Options{Seed: 1}).Handler())
	t.Cleanup(server.Close)
	w := &world{T: t, clock: clocktesting.NewFakeClock(time.Now())}
	w.api = ec2.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	vpc, err := w.api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")})
	require.NoError(t, err)
	subnet := func(cidr string) string {
		out, err := w.api.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String(cidr), AvailabilityZone: aws.String("us-east-1a")})
		require.NoError(t, err)
		return aws.ToString(out.Subnet.SubnetId)
	}
	w.nodeSubnet, w.podSubnet = subnet("10.0.0.0/24"), subnet("10.0.32.0/19")
	w.restart()
	return w
}

// restart the controller: it forgets what it has seen.
func (w *world) restart() {
	w.controller = enigarbage.NewController(enigarbage.Params{EC2: w.api, Cluster: "test", Clock: w.clock})
}

// round of the controller, some time after the one before.
func (w *world) round(later time.Duration) (next time.Duration) {
	w.Helper()
	w.clock.Step(later)
	result, err := w.controller.Reconcile(w.Context())
	require.NoError(w, err)
	return result.RequeueAfter
}

// leave an ENI attached to nothing, with tags.
func (w *world) leave(tags map[string]string) string {
	w.Helper()
	spec := ec2types.TagSpecification{ResourceType: ec2types.ResourceTypeNetworkInterface}
	for key, value := range tags {
		spec.Tags = append(spec.Tags, ec2types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	out, err := w.api.CreateNetworkInterface(w.Context(), &ec2.CreateNetworkInterfaceInput{
		SubnetId: aws.String(w.podSubnet), TagSpecifications: []ec2types.TagSpecification{spec},
	})
	require.NoError(w, err)
	id := aws.ToString(out.NetworkInterface.NetworkInterfaceId)
	w.await(id, ec2types.NetworkInterfaceStatusAvailable)
	return id
}

// await the state of an ENI: EC2's answers are late.
func (w *world) await(id string, status ec2types.NetworkInterfaceStatus) {
	w.Helper()
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		out, err := w.api.DescribeNetworkInterfaces(w.Context(), &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{id}})
		if assert.NoError(c, err) {
			assert.Equal(c, status, out.NetworkInterfaces[0].Status)
		}
	}, time.Minute, 10*time.Millisecond)
}

func (w *world) exists(id string) bool {
	w.Helper()
	out, err := w.api.DescribeNetworkInterfaces(w.Context(), &ec2.DescribeNetworkInterfacesInput{
		Filters: []ec2types.Filter{{Name: aws.String("network-interface-id"), Values: []string{id}}},
	})
	require.NoError(w, err)
	return len(out.NetworkInterfaces) == 1
}

func (w *world) launch() (instance string) {
	w.Helper()
	images, err := w.api.DescribeImages(w.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: aws.String("architecture"), Values: []string{"x86_64"}}, {Name: aws.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(w, err)
	out, err := w.api.RunInstances(w.Context(), &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, InstanceType: "m5.large", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: aws.String(w.nodeSubnet),
	})
	require.NoError(w, err)
	id := aws.ToString(out.Instances[0].InstanceId)
	require.NoError(w, ec2.NewInstanceRunningWaiter(w.api, func(o *ec2.InstanceRunningWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	}).
		Wait(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, time.Minute))
	return id
}

func tags(cluster, owner string) map[string]string {
	return map[string]string{eni.TagCluster: cluster, eni.TagOwner: owner, eni.TagInstance: "i-0123456789abcdef0"}
}

func TestAnENIThatTwoRoundsFindUnattachedIsDeleted(t *testing.T) {
	w := newWorld(t)
	id := w.leave(tags("test", eni.OwnerDovetail))
	require.Positive(t, w.round(0))
	require.True(t, w.exists(id), "an agent may be about to attach it")
	w.round(time.Minute) // a change of leaders, or an error, may bring the next round early
	require.True(t, w.exists(id))
	w.round(4 * time.Minute)
	require.False(t, w.exists(id))
}

func TestAControllerThatBeginsAgainLooksTwiceToo(t *testing.T) {
	w := newWorld(t)
	id := w.leave(tags("test", eni.OwnerDovetail))
	w.round(0)
	w.restart()
	w.round(time.Hour)
	require.True(t, w.exists(id))
	w.round(5 * time.Minute)
	require.False(t, w.exists(id))
}

func TestNothingOfOthersIsDeleted(t *testing.T) {
	w := newWorld(t)
	unmanaged := tags("test", eni.OwnerDovetail)
	unmanaged[eni.TagNoManage] = "true"
	kept := map[string]string{
		"another cluster's":           w.leave(tags("other", eni.OwnerDovetail)),
		"aws-node's":                  w.leave(tags("test", "amazon-vpc-cni")),
		"one that is to be left":      w.leave(unmanaged),
		"one without tags":            w.leave(nil),
		"one that names no cluster":   w.leave(map[string]string{eni.TagOwner: eni.OwnerDovetail}),
		"one of a cluster, untouched": w.leave(map[string]string{eni.TagCluster: "test"}),
	}
	for range 3 {
		w.round(time.Hour)
	}
	for what, id := range kept {
		require.True(t, w.exists(id), what)
	}
}

// An agent that ended between attaching an ENI and setting DeleteOnTermination leaves it to EC2, which keeps it.
func TestTheENIOfAnEndedInstanceIsDeletedAndThatOfALivingOneIsNot(t *testing.T) {
	w := newWorld(t)
	attached := func() (id, instance string) {
		instance = w.launch()
		id = w.leave(tags("test", eni.OwnerDovetail))
		_, err := w.api.AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{
			NetworkInterfaceId: aws.String(id), InstanceId: aws.String(instance), DeviceIndex: aws.Int32(1),
		})
		require.NoError(t, err)
		w.await(id, ec2types.NetworkInterfaceStatusInUse)
		return id, instance
	}
	orphan, ending := attached()
	living, _ := attached()
	_, err := w.api.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{ending}})
	require.NoError(t, err)
	w.await(orphan, ec2types.NetworkInterfaceStatusAvailable)
	w.round(0)
	w.round(time.Hour)
	require.False(t, w.exists(orphan))
	require.True(t, w.exists(living))
}

func TestAnENIThatWasAttachedBetweenTwoLooksStays(t *testing.T) {
	w := newWorld(t)
	client := &eni.Client{EC2: w.api, InstanceID: w.launch(), Cluster: "test"}
	id := w.leave(tags("test", eni.OwnerDovetail))
	w.round(0)
	_, err := w.api.AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{
		NetworkInterfaceId: aws.String(id), InstanceId: aws.String(client.InstanceID), DeviceIndex: aws.Int32(1),
	})
	require.NoError(t, err)
	w.round(5 * time.Minute)
	require.True(t, w.exists(id))
	_, err = client.Create(t.Context(), eni.CreateParams{Subnet: w.podSubnet, Unit: pool.Prefix, Count: 1, UsedIndexes: []int{0, 1}, MaxENIs: 3})
	require.NoError(t, err, "what an agent makes bears the tags that the controller looks for, and is attached")
}
