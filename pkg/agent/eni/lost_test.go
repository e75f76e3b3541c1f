// SPDX-License-Identifier: Apache-2.0

package eni_test

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

func (w *world) fault(t *testing.T, f simulator.Fault) {
	t.Helper()
	_, err := w.cloud.AddFault(f)
	require.NoError(t, err)
}

func (w *world) lose(t *testing.T, action string, times int) {
	t.Helper()
	w.fault(t, simulator.Fault{Times: times, LostReply: &simulator.LostReplyFault{Action: action}})
}

// interfaces are all that the account has.
func (w *world) interfaces(t *testing.T) []ec2types.NetworkInterface {
	t.Helper()
	out, err := w.api.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{})
	require.NoError(t, err)
	return out.NetworkInterfaces
}

func (w *world) podENI(t *testing.T) eni.ENI {
	t.Helper()
	enis, err := w.client.List(t.Context())
	require.NoError(t, err)
	require.Len(t, enis, 2)
	require.True(t, enis[1].Ours)
	return enis[1]
}

// allTries is how often the SDK tries a call.
const allTries = 3

func TestALostReplyToAssignIsNotAskedAgainAndTheENITellsWhatItGot(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	created, err := w.create(t.Context(), pool.Prefix, 1)
	require.NoError(t, err)
	w.lose(t, "AssignPrivateIpAddresses", 1)
	_, err = w.client.Assign(t.Context(), created.ID, pool.Prefix, 3)
	require.Error(t, err)
	require.False(t, eni.Classify(err).Refused(), "the truth must be read before the next request")
	require.Len(t, w.podENI(t).Prefixes, 1+3, "asked for once")
}

func TestAnAssignThatIsThrottledIsAskedAgain(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	created, err := w.create(t.Context(), pool.Prefix, 1)
	require.NoError(t, err)
	w.fault(t, simulator.Fault{Times: 1, Error: &simulator.ErrorFault{Action: "AssignPrivateIpAddresses", Code: "RequestLimitExceeded"}})
	assigned, err := w.client.Assign(t.Context(), created.ID, pool.Prefix, 3)
	require.NoError(t, err)
	require.Len(t, assigned, 3)
	require.Len(t, w.podENI(t).Prefixes, 1+3)
}

func TestALostReplyToCreateMakesNoSecondENI(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	w.lose(t, "CreateNetworkInterface", 1)
	_, err := w.create(t.Context(), pool.Prefix, 1)
	require.NoError(t, err)
	require.Len(t, w.interfaces(t), 2, "the primary and the one")
}

func TestAnENIWhoseCreationWasNeverAnsweredIsSwept(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	w.lose(t, "CreateNetworkInterface", allTries)
	_, err := w.create(t.Context(), pool.Prefix, 1)
	require.Error(t, err)
	require.False(t, eni.Classify(err).Refused())
	require.Len(t, w.interfaces(t), 2)
	deleted, err := w.client.Sweep(t.Context())
	require.NoError(t, err)
	require.Len(t, deleted, 1)
	require.Len(t, w.interfaces(t), 1)
}

func TestALostReplyToAttachFindsTheENIAttached(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	w.lose(t, "AttachNetworkInterface", 1)
	created, err := w.create(t.Context(), pool.Prefix, 2)
	require.NoError(t, err)
	require.Equal(t, 1, created.DeviceIndex)
	require.Equal(t, created, w.podENI(t))
	require.True(t, created.DeleteOnTermination)
}

func TestAnAttachThatIsNeverAnsweredFindsTheENIAttached(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	w.lose(t, "AttachNetworkInterface", allTries)
	created, err := w.create(t.Context(), pool.Prefix, 2)
	require.NoError(t, err)
	require.Equal(t, created, w.podENI(t))
}

func TestAnENIThatCannotBeMadeToEndWithTheInstanceIsStillServed(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	w.fault(t, simulator.Fault{Times: 1, Error: &simulator.ErrorFault{Action: "ModifyNetworkInterfaceAttribute", Code: "UnauthorizedOperation"}})
	created, err := w.create(t.Context(), pool.Prefix, 2)
	require.Equal(t, eni.Unauthorized, eni.Classify(err))
	require.NotEmpty(t, created.AttachmentID)
	require.False(t, created.DeleteOnTermination)
	require.NoError(t, w.client.DeleteOnTermination(t.Context(), created))
	require.True(t, w.podENI(t).DeleteOnTermination)
}

// An agent that is killed between CreateNetworkInterface and AttachNetworkInterface leaves what this context leaves.
func TestACrashBetweenCreateAndAttachLeaksNoENI(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	w.fault(t, simulator.Fault{Times: 1, Error: &simulator.ErrorFault{Action: "AttachNetworkInterface", Code: "UnauthorizedOperation"}})
	w.fault(t, simulator.Fault{Times: 1, Error: &simulator.ErrorFault{Action: "DeleteNetworkInterface", Code: "UnauthorizedOperation"}})
	_, err := w.create(t.Context(), pool.Prefix, 1)
	require.Error(t, err)
	require.Len(t, w.interfaces(t), 2)

	next := &eni.Client{EC2: w.api, InstanceID: w.client.InstanceID, Cluster: "test"}
	deleted, err := next.Sweep(t.Context())
	require.NoError(t, err)
	require.Len(t, deleted, 1)
	require.Len(t, w.interfaces(t), 1)
}

func TestSweepLeavesENIsOfOthersAlone(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	attached, err := w.create(t.Context(), pool.Prefix, 1)
	require.NoError(t, err)
	make := func(tags ...string) {
		input := &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(w.podSubnet)}
		spec := ec2types.TagSpecification{ResourceType: ec2types.ResourceTypeNetworkInterface}
		for _, tag := range tags {
			key, value, _ := strings.Cut(tag, "=")
			spec.Tags = append(spec.Tags, ec2types.Tag{Key: aws.String(key), Value: aws.String(value)})
		}
		if len(tags) > 0 {
			input.TagSpecifications = []ec2types.TagSpecification{spec}
		}
		_, err := w.api.CreateNetworkInterface(t.Context(), input)
		require.NoError(t, err)
	}
	mine, cluster := eni.TagInstance+"="+w.client.InstanceID, eni.TagCluster+"=test"
	make()
	make(eni.TagInstance+"=i-0123456789abcdef0", cluster)
	make(mine, eni.TagCluster+"=other")
	make(mine, cluster, eni.TagNoManage+"=true")
	deleted, err := w.client.Sweep(t.Context())
	require.NoError(t, err)
	require.Empty(t, deleted)
	require.Equal(t, attached.ID, w.podENI(t).ID)
	make(mine, cluster)
	deleted, err = w.client.Sweep(t.Context())
	require.NoError(t, err)
	require.Len(t, deleted, 1)
}

func TestADetachedENIIsDeletedByTheNextSweep(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	created, err := w.create(t.Context(), pool.Prefix, 1)
	require.NoError(t, err)
	require.NoError(t, w.client.Detach(t.Context(), created))
	require.Equal(t, eni.Gone, eni.Classify(w.client.Detach(t.Context(), created)))
	deleted, err := w.client.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{created.ID}, deleted)
}

func TestWhatIsUnassignedIsGoneOnceAndKnownToBe(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	created, err := w.create(t.Context(), pool.Prefix, 2)
	require.NoError(t, err)
	singles, err := w.client.Assign(t.Context(), created.ID, pool.SingleAddress, 2)
	require.NoError(t, err)
	back := append(singles[:1:1], created.Prefixes[0])
	require.NoError(t, w.client.Unassign(t.Context(), created.ID, back))
	require.ElementsMatch(t, append(singles[1:2:2], created.Prefixes[1]), w.podENI(t).Prefixes)
	require.Equal(t, eni.NotAssigned, eni.Classify(w.client.Unassign(t.Context(), created.ID, back)))
}

func TestAForeignENIIsNotOurs(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	foreign, err := w.api.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(w.podSubnet)})
	require.NoError(t, err)
	_, err = w.api.AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{
		NetworkInterfaceId: foreign.NetworkInterface.NetworkInterfaceId, InstanceId: aws.String(w.client.InstanceID), DeviceIndex: aws.Int32(1),
	})
	require.NoError(t, err)
	created, err := w.client.Create(context.Background(), eni.CreateParams{Subnet: w.podSubnet, Unit: pool.Prefix, Count: 1, UsedIndexes: []int{0, 1}, MaxENIs: 3})
	require.NoError(t, err)
	_, err = w.api.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{created.ID}, Tags: []ec2types.Tag{{Key: aws.String(eni.TagNoManage), Value: aws.String("true")}}})
	require.NoError(t, err)
	enis, err := w.client.List(t.Context())
	require.NoError(t, err)
	require.Len(t, enis, 3)
	for _, e := range enis {
		require.False(t, e.Ours, "%+v", e)
	}
}

// aws-node logs another error than the one of the call (v1.23.1, freeENI).
func TestAFailedDetachNeverHidesWhatEC2Said(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	created, err := w.create(t.Context(), pool.Prefix, 1)
	require.NoError(t, err)
	w.fault(t, simulator.Fault{Times: 1, Error: &simulator.ErrorFault{Action: "DetachNetworkInterface", Code: "UnauthorizedOperation"}})
	err = w.client.Detach(t.Context(), created)
	require.ErrorContains(t, err, created.ID)
	require.Equal(t, eni.Unauthorized, eni.Classify(err))
	require.Contains(t, eni.Brief(err), "UnauthorizedOperation")
	require.NoError(t, w.client.Detach(t.Context(), created), "and it is tried again")
}
