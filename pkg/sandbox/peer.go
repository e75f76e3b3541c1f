// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// A VPC of another team, which the cluster's is peered with. A host there tells who asks it.
const (
	PeerVPCID = "vpc-0d0ec0de000000002"
	// PeerHostName is where `dovetail sandbox exec --host` goes.
	PeerHostName = "peer"

	peerSubnetID  = "subnet-0d0ec0de0000000f2"
	peerGroupID   = "sg-0d0ec0de000000002"
	peerPeeringID = "pcx-0d0ec0de000000001"
	peerCIDR      = "192.168.0.0/24"
)

// PeerHost answers HTTP requests with the address that it sees.
var PeerHost = netip.MustParseAddr("192.168.0.80")

// buildPeer creates the peered VPC with its host, and routes to it from every subnet.
func (d *daemon) buildPeer(ctx context.Context, api *ec2.Client) error {
	d.cloud.ReserveIDs([]string{PeerVPCID, peerSubnetID, peerGroupID, peerPeeringID})
	if _, err := api.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String(peerCIDR)}); err != nil {
		return err
	}
	_, err := api.CreateSubnet(ctx, &ec2.CreateSubnetInput{
		VpcId: aws.String(PeerVPCID), CidrBlock: aws.String(peerCIDR), AvailabilityZone: aws.String(Region + "a"),
		TagSpecifications: tagged(ec2types.ResourceTypeSubnet, "peer-a", false),
	})
	if err != nil {
		return err
	}
	if err := waitForSubnets(ctx, api, PeerVPCID, 1); err != nil {
		return err
	}
	cluster := d.opts.layout().cidrs
	if err := buildPeerGroup(ctx, api, cluster); err != nil {
		return fmt.Errorf("security group: %w", err)
	}
	if err := peerVPCs(ctx, api, cluster); err != nil {
		return fmt.Errorf("peering: %w", err)
	}
	out, err := api.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{
		SubnetId: aws.String(peerSubnetID), Groups: []string{peerGroupID}, PrivateIpAddress: aws.String(PeerHost.String()), Description: aws.String("peer host"),
	})
	if err != nil {
		return err
	}
	id := aws.ToString(out.NetworkInterface.NetworkInterfaceId)
	if err := d.cloud.AttachToService(id, "sandbox"); err != nil {
		return err
	}
	return d.network.AddHost(PeerHostName, id)
}

// buildPeerGroup lets in what comes from the cluster's VPC, named by its blocks.
func buildPeerGroup(ctx context.Context, api *ec2.Client, cluster []string) error {
	_, err := api.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		VpcId: aws.String(PeerVPCID), GroupName: aws.String("peer"), Description: aws.String("peer host"),
	})
	if err != nil {
		return err
	}
	if err := waitForGroup(ctx, api, peerGroupID); err != nil {
		return err
	}
	everything := ec2types.IpPermission{IpProtocol: aws.String("-1")}
	for _, cidr := range cluster {
		everything.IpRanges = append(everything.IpRanges, ec2types.IpRange{CidrIp: aws.String(cidr)})
	}
	_, err = api.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: aws.String(peerGroupID), IpPermissions: []ec2types.IpPermission{everything},
	})
	return err
}

// peerVPCs joins the two, and gives every route table of each routes to the other's blocks.
func peerVPCs(ctx context.Context, api *ec2.Client, cluster []string) error {
	id := aws.String(peerPeeringID)
	if _, err := api.CreateVpcPeeringConnection(ctx, &ec2.CreateVpcPeeringConnectionInput{VpcId: aws.String(VPCID), PeerVpcId: aws.String(PeerVPCID)}); err != nil {
		return err
	}
	if _, err := api.AcceptVpcPeeringConnection(ctx, &ec2.AcceptVpcPeeringConnectionInput{VpcPeeringConnectionId: id}); err != nil {
		return err
	}
	for vpcID, cidrs := range map[string][]string{VPCID: {peerCIDR}, PeerVPCID: cluster} {
		out, err := api.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{
			Filters: []ec2types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpcID}}},
		})
		if err != nil {
			return err
		}
		for _, table := range out.RouteTables {
			for _, cidr := range cidrs {
				_, err := api.CreateRoute(ctx, &ec2.CreateRouteInput{
					RouteTableId: table.RouteTableId, DestinationCidrBlock: aws.String(cidr), VpcPeeringConnectionId: id,
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}
