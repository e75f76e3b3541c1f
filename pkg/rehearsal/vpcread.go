// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/plan"
)

// vpcReader reads the rest of a VPC's shape, besides what a plan knows.
type vpcReader struct {
	api *ec2.Client
	vpc VPC
	// nodes by instance.
	nodes map[string]string
	taken map[string][]netip.Prefix // by subnet
}

// readVPC that the plan's facts are of.
func readVPC(ctx context.Context, api *ec2.Client, known *plan.VPC, nodes map[string]string) (VPC, error) {
	r := &vpcReader{api: api, nodes: nodes, taken: map[string][]netip.Prefix{}, vpc: VPC{ID: known.ID, CIDRs: known.Blocks, Nodes: map[string]NodeAddresses{}}}
	for _, t := range known.RouteTables {
		table := RouteTable{ID: t.ID, Main: t.Main, Subnets: t.Subnets}
		for _, route := range t.Routes {
			if route.Destination.IsValid() && route.PrefixList == "" {
				table.Routes = append(table.Routes, Route{Destination: route.Destination, Target: route.Target})
			}
		}
		r.vpc.RouteTables = append(r.vpc.RouteTables, table)
	}
	for _, p := range known.Peerings {
		r.vpc.Peerings = append(r.vpc.Peerings, Peering{ID: p.ID, CIDRs: p.CIDRs})
	}
	for _, read := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"security groups (ec2:DescribeSecurityGroups)", r.groups}, {"what lies in the subnets (ec2:DescribeNetworkInterfaces)", r.interfaces},
		{"subnets (ec2:DescribeSubnets and ec2:GetSubnetCidrReservations)", r.subnets},
	} {
		if err := read.do(ctx); err != nil {
			return r.vpc, fmt.Errorf("reading the VPC's %s: %w", read.what, err)
		}
	}
	return r.vpc, nil
}

func tagMap(tags []ec2types.Tag) map[string]string {
	found := map[string]string{}
	for _, tag := range tags {
		// AWS's own tags cannot be set.
		if key := aws.ToString(tag.Key); !strings.HasPrefix(key, "aws:") {
			found[key] = aws.ToString(tag.Value)
		}
	}
	return found
}

func (r *vpcReader) groups(ctx context.Context) error {
	pages := ec2.NewDescribeSecurityGroupsPaginator(r.api, &ec2.DescribeSecurityGroupsInput{Filters: filter("vpc-id", r.vpc.ID)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, g := range page.SecurityGroups {
			r.vpc.SecurityGroups = append(r.vpc.SecurityGroups, SecurityGroup{ID: aws.ToString(g.GroupId), Name: aws.ToString(g.GroupName), Tags: tagMap(g.Tags)})
		}
	}
	return nil
}

// interfaces of nodes are what goes with them; all others stay.
func (r *vpcReader) interfaces(ctx context.Context) error {
	pages := ec2.NewDescribeNetworkInterfacesPaginator(r.api, &ec2.DescribeNetworkInterfacesInput{Filters: filter("vpc-id", r.vpc.ID), MaxResults: aws.Int32(1000)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, eni := range page.NetworkInterfaces {
			r.eni(eni)
		}
	}
	return nil
}

func (r *vpcReader) eni(eni ec2types.NetworkInterface) {
	subnet := aws.ToString(eni.SubnetId)
	if eni.Attachment != nil {
		if node, ok := r.nodes[aws.ToString(eni.Attachment.InstanceId)]; ok {
			held := Holding{Subnet: subnet, Addresses: len(eni.PrivateIpAddresses), Prefixes: len(eni.Ipv4Prefixes)}
			if aws.ToInt32(eni.Attachment.DeviceIndex) == 0 && aws.ToInt32(eni.Attachment.NetworkCardIndex) == 0 {
				held.Addresses-- // the instance's first
				has := r.vpc.Nodes[node]
				has.Subnet = subnet
				r.vpc.Nodes[node] = has
			}
			r.hold(node, held)
			return
		}
	}
	for _, a := range eni.PrivateIpAddresses {
		if addr, err := netip.ParseAddr(aws.ToString(a.PrivateIpAddress)); err == nil {
			r.taken[subnet] = append(r.taken[subnet], netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	for _, p := range eni.Ipv4Prefixes {
		if prefix, err := netip.ParsePrefix(aws.ToString(p.Ipv4Prefix)); err == nil {
			r.taken[subnet] = append(r.taken[subnet], prefix)
		}
	}
}

func (r *vpcReader) hold(node string, held Holding) {
	if held.Addresses == 0 && held.Prefixes == 0 {
		return
	}
	has := r.vpc.Nodes[node]
	at := slices.IndexFunc(has.Holds, func(h Holding) bool { return h.Subnet == held.Subnet })
	if at < 0 {
		has.Holds = append(has.Holds, held)
	} else {
		has.Holds[at].Addresses += held.Addresses
		has.Holds[at].Prefixes += held.Prefixes
	}
	r.vpc.Nodes[node] = has
}

func (r *vpcReader) subnets(ctx context.Context) error {
	pages := ec2.NewDescribeSubnetsPaginator(r.api, &ec2.DescribeSubnetsInput{Filters: filter("vpc-id", r.vpc.ID)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, d := range page.Subnets {
			cidr, err := netip.ParsePrefix(aws.ToString(d.CidrBlock))
			if err != nil {
				continue // one for IPv6 only
			}
			subnet := Subnet{
				ID: aws.ToString(d.SubnetId), Zone: aws.ToString(d.AvailabilityZone), CIDR: cidr, Tags: tagMap(d.Tags),
				PublicAddresses: aws.ToBool(d.MapPublicIpOnLaunch), Taken: fewest(r.taken[aws.ToString(d.SubnetId)]),
			}
			if subnet.Reservations, err = r.reservations(ctx, subnet.ID); err != nil {
				return err
			}
			r.vpc.Subnets = append(r.vpc.Subnets, subnet)
		}
	}
	return nil
}

func (r *vpcReader) reservations(ctx context.Context, subnet string) ([]Reservation, error) {
	out, err := r.api.GetSubnetCidrReservations(ctx, &ec2.GetSubnetCidrReservationsInput{SubnetId: &subnet})
	if err != nil {
		return nil, err
	}
	var all []Reservation
	for _, found := range out.SubnetIpv4CidrReservations {
		if cidr, err := netip.ParsePrefix(aws.ToString(found.Cidr)); err == nil {
			all = append(all, Reservation{CIDR: cidr, Type: string(found.ReservationType)})
		}
	}
	return all, nil
}
