// SPDX-License-Identifier: Apache-2.0

package provisioning

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/samber/lo"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// viewTTL is how long what was read, and what EC2 answered since, stands for the VPC.
const viewTTL = time.Minute

// view of a VPC for one PodNetwork.
type view struct {
	vpc        provision.VPC
	read       time.Time
	generation int64
	// made is when the controller made a thing, by its id.
	made map[string]time.Time
}

// reader keeps views, so that a round after another asks EC2 only for what can have changed by itself.
type reader struct {
	ec2     EC2
	cluster string
	clock   clock.Clock
	views   map[types.UID]*view
	// vpcOf subnets: they never move.
	vpcOf map[string]string
}

func newReader(p Params) *reader {
	return &reader{ec2: p.EC2, cluster: p.Cluster, clock: p.Clock, views: map[types.UID]*view{}, vpcOf: map[string]string{}}
}

func (r *reader) forget(network *v1alpha1.PodNetwork) { delete(r.views, network.UID) }

// keep what has become of the VPC.
func (r *reader) keep(network *v1alpha1.PodNetwork, vpc provision.VPC, made string) {
	if v := r.views[network.UID]; v != nil {
		v.vpc, v.made[made] = vpc, r.clock.Now()
	}
}

// settling is how long a subnet that was just made is left alone.
func (r *reader) settling(network *v1alpha1.PodNetwork, subnet *provision.Subnet) time.Duration {
	if subnet == nil || r.views[network.UID] == nil {
		return 0
	}
	made, ok := r.views[network.UID].made[subnet.ID]
	if !ok {
		return 0
	}
	return max(made.Add(settle).Sub(r.clock.Now()), 0)
}

// vpcs returns the VPCs of the subnets that exist.
func (r *reader) vpcs(ctx context.Context, subnets []string) ([]string, error) {
	unknown := lo.Filter(subnets, func(id string, _ int) bool { return r.vpcOf[id] == "" })
	found, err := r.describeSubnets(ctx, "subnet-id", unknown...)
	if err != nil {
		return nil, err
	}
	for _, s := range found {
		r.vpcOf[aws.ToString(s.SubnetId)] = aws.ToString(s.VpcId)
	}
	ids := lo.Uniq(lo.Compact(lo.Map(subnets, func(id string, _ int) string { return r.vpcOf[id] })))
	slices.Sort(ids)
	return ids, nil
}

// vpc as it is for the network. Reservations are read of the subnets that are the network's own.
func (r *reader) vpc(ctx context.Context, network *v1alpha1.PodNetwork, id string) (provision.VPC, error) {
	kept := r.views[network.UID]
	if kept != nil && kept.vpc.ID == id && kept.generation == network.Generation && r.clock.Since(kept.read) < viewTTL {
		if slices.ContainsFunc(kept.vpc.Blocks, func(b provision.Block) bool { return b.State != provision.Associated }) {
			blocks, err := r.blocks(ctx, id)
			if err != nil {
				return kept.vpc, err
			}
			kept.vpc.Blocks = blocks
		}
		return kept.vpc, nil
	}
	read := r.clock.Now()
	vpc := provision.VPC{ID: id}
	var err error
	if vpc.Blocks, err = r.blocks(ctx, id); err != nil {
		return vpc, err
	}
	if vpc.Subnets, err = r.subnets(ctx, network.Name, id); err != nil {
		return vpc, err
	}
	if vpc.RouteTables, err = r.routeTables(ctx, id); err != nil {
		return vpc, err
	}
	r.views[network.UID] = &view{vpc: vpc, read: read, generation: network.Generation, made: map[string]time.Time{}}
	return vpc, nil
}

func (r *reader) blocks(ctx context.Context, id string) ([]provision.Block, error) {
	out, err := r.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{id}})
	if err != nil {
		return nil, called("ec2:DescribeVpcs", err)
	}
	var blocks []provision.Block
	for _, v := range out.Vpcs {
		for _, a := range v.CidrBlockAssociationSet {
			cidr, err := netip.ParsePrefix(aws.ToString(a.CidrBlock))
			if err != nil {
				return nil, fmt.Errorf("CIDR block %s of %s, %w", aws.ToString(a.AssociationId), id, err)
			}
			block := provision.Block{ID: aws.ToString(a.AssociationId), CIDR: cidr}
			if a.CidrBlockState != nil {
				block.State, block.Message = string(a.CidrBlockState.State), aws.ToString(a.CidrBlockState.StatusMessage)
			}
			blocks = append(blocks, block)
		}
		// The primary block first, wherever EC2 lists it.
		slices.SortStableFunc(blocks, func(a, b provision.Block) int {
			return cmp.Compare(lo.Ternary(a.CIDR.String() == aws.ToString(v.CidrBlock), 0, 1), lo.Ternary(b.CIDR.String() == aws.ToString(v.CidrBlock), 0, 1))
		})
	}
	return blocks, nil
}

func (r *reader) describeSubnets(ctx context.Context, filter string, values ...string) ([]ec2types.Subnet, error) {
	found, err := ec2read.Subnets(ctx, r.ec2, filter, values...)
	return found, called("ec2:DescribeSubnets", err)
}

func (r *reader) subnets(ctx context.Context, network, vpc string) ([]provision.Subnet, error) {
	described, err := r.describeSubnets(ctx, "vpc-id", vpc)
	if err != nil {
		return nil, err
	}
	var subnets []provision.Subnet
	for _, d := range described {
		cidr, err := netip.ParsePrefix(aws.ToString(d.CidrBlock))
		if err != nil {
			continue // IPv6 only
		}
		s := provision.Subnet{
			ID: aws.ToString(d.SubnetId), Zone: aws.ToString(d.AvailabilityZone), CIDR: cidr,
			Cluster: ec2read.Tag(d.Tags, v1alpha1.TagCluster), PodNetwork: ec2read.Tag(d.Tags, v1alpha1.TagPodNetwork),
		}
		if s.Cluster == r.cluster && s.PodNetwork == network {
			reservations, err := r.reservations(ctx, s.ID)
			if err != nil {
				return nil, err
			}
			for _, scr := range reservations {
				cidr, err := netip.ParsePrefix(aws.ToString(scr.Cidr))
				if err != nil {
					return nil, fmt.Errorf("CIDR reservation %s, %w", aws.ToString(scr.SubnetCidrReservationId), err)
				}
				s.Reservations = append(s.Reservations, provision.Reservation{
					ID: aws.ToString(scr.SubnetCidrReservationId), CIDR: cidr, Explicit: scr.ReservationType == ec2types.SubnetCidrReservationTypeExplicit,
					Own: ec2read.Tag(scr.Tags, v1alpha1.TagCluster) == r.cluster && ec2read.Tag(scr.Tags, v1alpha1.TagPodNetwork) == network,
				})
			}
		}
		subnets = append(subnets, s)
	}
	return subnets, nil
}

func (r *reader) reservations(ctx context.Context, subnet string) ([]ec2types.SubnetCidrReservation, error) {
	found, err := ec2read.Reservations(ctx, r.ec2, subnet)
	return found, called("ec2:GetSubnetCidrReservations", err)
}

func (r *reader) routeTables(ctx context.Context, vpc string) ([]provision.RouteTable, error) {
	var tables []provision.RouteTable
	pages := ec2.NewDescribeRouteTablesPaginator(r.ec2, &ec2.DescribeRouteTablesInput{Filters: []ec2types.Filter{ec2read.Filter("vpc-id", vpc)}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, called("ec2:DescribeRouteTables", err)
		}
		for _, d := range page.RouteTables {
			table := provision.RouteTable{ID: aws.ToString(d.RouteTableId)}
			for _, a := range d.Associations {
				table.Main = table.Main || aws.ToBool(a.Main)
				if a.SubnetId != nil && (a.AssociationState == nil || a.AssociationState.State != ec2types.RouteTableAssociationStateCodeDisassociated) {
					table.Subnets = append(table.Subnets, *a.SubnetId)
				}
			}
			for _, route := range d.Routes {
				destination, err := netip.ParsePrefix(aws.ToString(route.DestinationCidrBlock))
				if err == nil && aws.ToString(route.GatewayId) != "local" { // others are IPv6 or prefix lists
					table.Destinations = append(table.Destinations, destination)
				}
			}
			tables = append(tables, table)
		}
	}
	return tables, nil
}
