// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func (w *world) anotherVPC(cidr string) string {
	w.Helper()
	out, err := w.ec2.CreateVpc(w.ctx(), &ec2.CreateVpcInput{CidrBlock: &cidr})
	require.NoError(w, err)
	return *out.Vpc.VpcId
}

func (w *world) peer(with string) string {
	w.Helper()
	out, err := w.ec2.CreateVpcPeeringConnection(w.ctx(), &ec2.CreateVpcPeeringConnectionInput{VpcId: ptr(testVPC), PeerVpcId: &with})
	require.NoError(w, err)
	require.Equal(w, ec2types.VpcPeeringConnectionStateReasonCodeInitiatingRequest, out.VpcPeeringConnection.Status.Code)
	return *out.VpcPeeringConnection.VpcPeeringConnectionId
}

func (w *world) peeringState(id string) string {
	w.Helper()
	out, err := w.ec2.DescribeVpcPeeringConnections(w.ctx(), &ec2.DescribeVpcPeeringConnectionsInput{VpcPeeringConnectionIds: []string{id}})
	require.NoError(w, err)
	return string(out.VpcPeeringConnections[0].Status.Code)
}

func TestAPeeringIsAskedForAcceptedAndRoutedTo(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	other := w.anotherVPC("192.168.0.0/24")
	id := w.peer(other)
	require.Equal(t, "pending-acceptance", w.peeringState(id))
	_, err := w.ec2.CreateVpcPeeringConnection(ctx, &ec2.CreateVpcPeeringConnectionInput{VpcId: &other, PeerVpcId: ptr(testVPC)})
	requireError(t, err, "VpcPeeringConnectionAlreadyExists", id)

	table := w.cloud.Snapshot().RouteTables[0].ID
	_, err = w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &table, DestinationCidrBlock: ptr("192.168.0.0/24"), VpcPeeringConnectionId: &id})
	require.NoError(t, err)
	require.True(t, w.cloud.Snapshot().RouteTables[0].Routes[2].Blackhole, "nobody accepted it")
	require.Empty(t, w.cloud.Snapshot().Peerings)

	_, err = w.ec2.AcceptVpcPeeringConnection(ctx, &ec2.AcceptVpcPeeringConnectionInput{VpcPeeringConnectionId: &id})
	require.NoError(t, err)
	s := w.await("active", func(s Snapshot) bool { return len(s.Peerings) == 1 })
	require.Equal(t, Peering{ID: id, Requester: testVPC, Accepter: other}, s.Peerings[0])
	require.Equal(t, Route{Destination: prefix("192.168.0.0/24"), Target: id}, s.RouteTables[0].Routes[2])
	_, err = w.ec2.AcceptVpcPeeringConnection(ctx, &ec2.AcceptVpcPeeringConnectionInput{VpcPeeringConnectionId: &id})
	requireError(t, err, "InvalidStateTransition", "")
	_, err = w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &other})
	requireError(t, err, "DependencyViolation", "")

	_, err = w.ec2.DeleteVpcPeeringConnection(ctx, &ec2.DeleteVpcPeeringConnectionInput{VpcPeeringConnectionId: &id})
	require.NoError(t, err)
	require.Equal(t, "deleted", w.peeringState(id))
	require.True(t, w.cloud.Snapshot().RouteTables[0].Routes[2].Blackhole)
	_, err = w.ec2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &other})
	require.NoError(t, err)
}

func TestVPCsWhoseBlocksOverlapAreNotPeered(t *testing.T) {
	w := newWorld(t)
	id := w.peer(w.anotherVPC("10.0.4.0/22"))
	require.Equal(t, "failed", w.peeringState(id))
	_, err := w.ec2.AcceptVpcPeeringConnection(t.Context(), &ec2.AcceptVpcPeeringConnectionInput{VpcPeeringConnectionId: &id})
	requireError(t, err, "InvalidStateTransition", "")
}

func TestARouteLeadsToAPeeringOfItsOwnVPC(t *testing.T) {
	w := newWorld(t)
	one, two := w.anotherVPC("192.168.0.0/24"), w.anotherVPC("192.168.1.0/24")
	out, err := w.ec2.CreateVpcPeeringConnection(t.Context(), &ec2.CreateVpcPeeringConnectionInput{VpcId: &one, PeerVpcId: &two})
	require.NoError(t, err)
	_, err = w.ec2.CreateRoute(t.Context(), &ec2.CreateRouteInput{
		RouteTableId: &w.cloud.Snapshot().RouteTables[0].ID, DestinationCidrBlock: ptr("192.168.0.0/23"),
		VpcPeeringConnectionId: out.VpcPeeringConnection.VpcPeeringConnectionId,
	})
	requireError(t, err, "InvalidParameterValue", "belong to different networks")
}

func TestABlockIsAssociatedAsPeersAllowIt(t *testing.T) {
	w := newWorld(t)
	other := w.anotherVPC("100.65.0.0/16")
	associate := func(vpc, block string) error {
		_, err := w.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: &vpc, CidrBlock: &block})
		return err
	}
	id := w.peer(other)
	requireError(t, associate(testVPC, "100.66.0.0/16"), "IncorrectState", id)
	_, err := w.ec2.AcceptVpcPeeringConnection(t.Context(), &ec2.AcceptVpcPeeringConnectionInput{VpcPeeringConnectionId: &id})
	require.NoError(t, err)
	w.await("active", func(s Snapshot) bool { return len(s.Peerings) == 1 })
	require.NoError(t, associate(testVPC, "100.66.0.0/16"))
	requireError(t, associate(testVPC, "100.65.128.0/20"), "InvalidVpc.Range", "of the peered VPC "+other)

	third := w.anotherVPC("100.70.0.0/16")
	id = w.peer(third)
	require.Equal(t, "pending-acceptance", w.peeringState(id))
	require.NoError(t, associate(third, "100.66.0.0/17"), "the accepter may")
	require.Equal(t, "failed", w.peeringState(id))
}
