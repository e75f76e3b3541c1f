// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/samber/lo"
	"k8s.io/utils/clock"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// vpc of the nodes: its shape, and what lies in the subnets of nodes and pods.
func (s *surveyor) vpc(ctx context.Context, api *ec2.Client) error {
	nodeSubnets, err := s.nodeSubnets(ctx, api)
	if err != nil {
		return err
	}
	described, err := ec2read.Subnets(ctx, api, "subnet-id", nodeSubnets...)
	if err != nil {
		return err
	}
	ids := lo.Uniq(lo.Map(described, func(d ec2types.Subnet, _ int) string { return aws.ToString(d.VpcId) }))
	switch {
	case len(ids) == 0:
		return fmt.Errorf("EC2 shows none of the node subnets %v: are these credentials of the cluster's account?", nodeSubnets)
	case len(ids) > 1:
		slices.Sort(ids)
		return fmt.Errorf("the node subnets are in several VPCs (%v): a plan is for one", ids)
	}
	vpc := &plan.VPC{ID: ids[0]}
	if vpc.Provision.Blocks, err = blocks(ctx, api, vpc.ID); err != nil {
		return err
	}
	vpc.Provision.ID = vpc.ID
	for _, block := range vpc.Provision.Blocks {
		if block.State == provision.Associated {
			vpc.Blocks = append(vpc.Blocks, block.CIDR)
		}
	}
	podSubnets := lo.Uniq(lo.Map(s.facts.ENIConfigs, func(c eniconfig.ENIConfig, _ int) string { return c.Spec.Subnet }))
	all, err := ec2read.Subnets(ctx, api, "vpc-id", ids...)
	if err != nil {
		return err
	}
	elsewhere, err := ec2read.Subnets(ctx, api, "subnet-id", lo.Without(podSubnets, "")...)
	if err != nil {
		return err
	}
	s.facts.Subnets = map[string]podnetwork.Subnet{}
	for _, d := range append(all, elsewhere...) {
		if cidr, err := netip.ParsePrefix(aws.ToString(d.CidrBlock)); err == nil { // not one for IPv6 only
			s.facts.Subnets[aws.ToString(d.SubnetId)] = podnetwork.Subnet{
				ID: aws.ToString(d.SubnetId), VPC: aws.ToString(d.VpcId), Zone: aws.ToString(d.AvailabilityZone), CIDR: cidr, PublicAddresses: aws.ToBool(d.MapPublicIpOnLaunch),
			}
		}
	}
	s.facts.VPC, s.facts.NodeSubnets = vpc, nodeSubnets
	podSubnets = append(podSubnets, s.describeForProvision(vpc, all)...)
	s.facts.Quotas.BlocksPerVPC.Used = len(vpc.Blocks)
	// What follows can be missing without the rest being worthless.
	for what, read := range map[string]func() error{
		"route tables":             func() (err error) { vpc.RouteTables, err = routeTables(ctx, api, vpc.ID); return err },
		"peering connections":      func() (err error) { vpc.Peerings, err = peerings(ctx, api, vpc.ID); return err },
		"transit gateways":         func() error { return s.transitGateways(ctx, api, vpc) },
		"CIDR reservations":        func() error { return s.reservations(ctx, api, vpc) },
		"security groups":          func() error { return s.securityGroups(ctx, api) },
		"what lies in the subnets": func() error { return s.snapshots(ctx, api, append(podSubnets, nodeSubnets...)) },
	} {
		if err := read(); err != nil {
			s.unread(what, "", err)
		}
	}
	vpc.Provision.RouteTables = lo.Map(vpc.RouteTables, func(t plan.RouteTable, _ int) provision.RouteTable {
		destinations := lo.FilterMap(t.Routes, func(r plan.Route, _ int) (netip.Prefix, bool) { return r.Destination, r.Destination.IsValid() })
		return provision.RouteTable{ID: t.ID, Main: t.Main, Subnets: t.Subnets, Destinations: destinations}
	})
	for _, table := range vpc.RouteTables {
		for _, route := range table.Routes {
			if route.PrefixList != "" {
				s.unread("route of "+table.ID+" to prefix list "+route.PrefixList, "", errors.New("its CIDRs are not compared with the pods' ranges"))
			}
		}
	}
	return nil
}

// blocks of the VPC, the one that it was created with first.
func blocks(ctx context.Context, api *ec2.Client, id string) ([]provision.Block, error) {
	out, err := api.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{id}})
	if err != nil {
		return nil, err
	}
	var found []provision.Block
	for _, v := range out.Vpcs {
		for _, a := range v.CidrBlockAssociationSet {
			cidr, err := netip.ParsePrefix(aws.ToString(a.CidrBlock))
			if err != nil || a.CidrBlockState == nil {
				continue
			}
			block := provision.Block{ID: aws.ToString(a.AssociationId), CIDR: cidr, State: string(a.CidrBlockState.State), Message: aws.ToString(a.CidrBlockState.StatusMessage)}
			found = slices.Insert(found, lo.Ternary(aws.ToString(a.CidrBlock) == aws.ToString(v.CidrBlock), 0, len(found)), block)
		}
	}
	return found, nil
}

// describeForProvision takes over the VPC's subnets, and returns those that lie in the declared CIDRs: they may come to serve pods.
func (s *surveyor) describeForProvision(vpc *plan.VPC, subnets []ec2types.Subnet) []string {
	var declared []netip.Prefix
	if s.facts.Network.Spec.Provision != nil {
		for _, text := range s.facts.Network.Spec.Provision.CIDRs {
			if cidr, err := netip.ParsePrefix(text); err == nil {
				declared = append(declared, cidr)
			}
		}
	}
	var inside []string
	for _, d := range subnets {
		subnet, ok := s.facts.Subnets[aws.ToString(d.SubnetId)]
		if !ok {
			continue
		}
		p := provision.Subnet{ID: subnet.ID, Zone: subnet.Zone, CIDR: subnet.CIDR, Cluster: ec2read.Tag(d.Tags, v1alpha1.TagCluster), PodNetwork: ec2read.Tag(d.Tags, v1alpha1.TagPodNetwork)}
		if p.PodNetwork == s.facts.Network.Name && s.facts.ClusterName == "" {
			s.facts.ClusterName = p.Cluster
		}
		vpc.Provision.Subnets = append(vpc.Provision.Subnets, p)
		if slices.ContainsFunc(declared, func(cidr netip.Prefix) bool { return cidr.Overlaps(subnet.CIDR) }) {
			inside = append(inside, subnet.ID)
		}
	}
	return inside
}

// reservations of the subnets that are the network's own.
func (s *surveyor) reservations(ctx context.Context, api *ec2.Client, vpc *plan.VPC) error {
	for i := range vpc.Provision.Subnets {
		subnet := &vpc.Provision.Subnets[i]
		if subnet.PodNetwork != s.facts.Network.Name {
			continue
		}
		found, err := ec2read.Reservations(ctx, api, subnet.ID)
		if err != nil {
			return err
		}
		for _, r := range found {
			if cidr, err := netip.ParsePrefix(aws.ToString(r.Cidr)); err == nil {
				subnet.Reservations = append(subnet.Reservations, provision.Reservation{
					ID: aws.ToString(r.SubnetCidrReservationId), CIDR: cidr, Explicit: r.ReservationType == ec2types.SubnetCidrReservationTypeExplicit,
					Own: ec2read.Tag(r.Tags, v1alpha1.TagPodNetwork) == s.facts.Network.Name,
				})
			}
		}
	}
	return nil
}

func routeTables(ctx context.Context, api *ec2.Client, vpc string) ([]plan.RouteTable, error) {
	var tables []plan.RouteTable
	pages := ec2.NewDescribeRouteTablesPaginator(api, &ec2.DescribeRouteTablesInput{Filters: []ec2types.Filter{ec2read.Filter("vpc-id", vpc)}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, d := range page.RouteTables {
			tables = append(tables, routeTableOf(d))
		}
	}
	return tables, nil
}

func routeTableOf(d ec2types.RouteTable) plan.RouteTable {
	table := plan.RouteTable{ID: aws.ToString(d.RouteTableId)}
	for _, a := range d.Associations {
		table.Main = table.Main || aws.ToBool(a.Main)
		if a.SubnetId != nil && (a.AssociationState == nil || a.AssociationState.State != ec2types.RouteTableAssociationStateCodeDisassociated) {
			table.Subnets = append(table.Subnets, *a.SubnetId)
		}
	}
	for _, r := range d.Routes {
		route := plan.Route{PrefixList: aws.ToString(r.DestinationPrefixListId), Blackhole: r.State == ec2types.RouteStateBlackhole}
		for _, target := range []*string{
			r.NatGatewayId, r.TransitGatewayId, r.VpcPeeringConnectionId, r.GatewayId, r.NetworkInterfaceId, r.InstanceId, r.LocalGatewayId, r.CarrierGatewayId,
			r.EgressOnlyInternetGatewayId, r.CoreNetworkArn,
		} {
			if route.Target == "" {
				route.Target = aws.ToString(target)
			}
		}
		destination, err := netip.ParsePrefix(aws.ToString(r.DestinationCidrBlock))
		route.Destination = destination
		// Gateway endpoints (S3, DynamoDB) have prefix lists of AWS's public addresses.
		if route.Target == "local" || err != nil && (route.PrefixList == "" || lo.Substring(route.Target, 0, 5) == "vpce-") {
			continue
		}
		table.Routes = append(table.Routes, route)
	}
	return table
}

// peerings of the VPC that pass packets, or are about to.
func peerings(ctx context.Context, api *ec2.Client, vpc string) ([]plan.Peering, error) {
	var found []plan.Peering
	for _, side := range []string{"requester-vpc-info.vpc-id", "accepter-vpc-info.vpc-id"} {
		pages := ec2.NewDescribeVpcPeeringConnectionsPaginator(api, &ec2.DescribeVpcPeeringConnectionsInput{Filters: []ec2types.Filter{ec2read.Filter(side, vpc)}})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return nil, err
			}
			for _, d := range page.VpcPeeringConnections {
				if d.Status == nil || !slices.Contains([]ec2types.VpcPeeringConnectionStateReasonCode{
					ec2types.VpcPeeringConnectionStateReasonCodeActive, ec2types.VpcPeeringConnectionStateReasonCodeProvisioning, ec2types.VpcPeeringConnectionStateReasonCodePendingAcceptance,
				}, d.Status.Code) {
					continue
				}
				other := d.AccepterVpcInfo
				if other == nil || aws.ToString(other.VpcId) == vpc {
					other = d.RequesterVpcInfo
				}
				peering := plan.Peering{ID: aws.ToString(d.VpcPeeringConnectionId)}
				if other != nil {
					peering.VPC = aws.ToString(other.VpcId)
					for _, block := range other.CidrBlockSet {
						if cidr, err := netip.ParsePrefix(aws.ToString(block.CidrBlock)); err == nil {
							peering.CIDRs = append(peering.CIDRs, cidr)
						}
					}
				}
				found = append(found, peering)
			}
		}
	}
	return found, nil
}

func (s *surveyor) securityGroups(ctx context.Context, api *ec2.Client) (err error) {
	ids := lo.Uniq(lo.FlatMap(s.facts.ENIConfigs, func(c eniconfig.ENIConfig, _ int) []string { return c.Spec.SecurityGroups }))
	s.facts.SecurityGroups, err = ec2read.GroupVPCs(ctx, api, ids)
	return err
}

// snapshots of subnets, by the controller's reader.
func (s *surveyor) snapshots(ctx context.Context, api *ec2.Client, ids []string) error {
	reader := &podsubnet.Reader{EC2: api, Ledger: podnetwork.NewLedger(clock.RealClock{}), Clock: clock.RealClock{}}
	ids = lo.Uniq(lo.Without(ids, ""))
	if err := reader.Ensure(ctx, ids...); err != nil {
		return err
	}
	s.facts.Snapshots = map[string]*podnetwork.Snapshot{}
	for _, id := range ids {
		if snapshot := reader.Ledger.Snapshot(id); snapshot != nil {
			s.facts.Snapshots[id] = snapshot
		}
	}
	return nil
}
