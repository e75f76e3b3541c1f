// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// What stands in the sandbox's account before anybody does anything. Ids are fixed, so that manifests can name them.
const (
	Region      = "us-east-1"
	ClusterName = "dovetail-sandbox"
	NodeRole    = "DovetailNodeRole-" + ClusterName
	// ControllerRole is what the controller may do.
	ControllerRole = "DovetailControllerRole-" + ClusterName
	VPCID          = "vpc-0d0ec0de000000001"
	GroupID        = "sg-0d0ec0de000000001"
	serviceCIDR    = "172.20.0.0/16"

	publicSubnetID = "subnet-0d0ec0de000000f00"
)

// subnet of the layout.
type subnet struct {
	id, zone, cidr, name string
	public               bool
	discover             bool // tagged for Karpenter's node classes
}

// layout of a VPC. The first CIDR is the one that it is created with.
type layout struct {
	cidrs   []string
	subnets []subnet
}

// Layouts of a sandbox's VPC, for Options.Layout.
const (
	// Prepared: 100.64.0.0/17 is attached, with a /19 in each zone for pods, and no CNI plugin is installed.
	Prepared = "prepared"
	// Exhausted: where a team that runs out of addresses stands. There are node subnets only; aws-node gives pods addresses of
	// them, other services take some, and a managed node group of three runs whatever comes.
	Exhausted = "exhausted"
)

// nodeSubnets are a /24 in each zone of a VPC of 2,048 addresses, the first for the API server and the system node.
var nodeSubnets = []subnet{
	{id: "subnet-0d0ec0de000000a00", zone: "a", cidr: "10.0.0.0/24", name: "node-a", discover: true},
	{id: "subnet-0d0ec0de000000b00", zone: "b", cidr: "10.0.1.0/24", name: "node-b", discover: true},
	{id: "subnet-0d0ec0de000000c00", zone: "c", cidr: "10.0.2.0/24", name: "node-c", discover: true},
}

var exhausted = layout{
	cidrs:   []string{"10.0.0.0/21"},
	subnets: append(slices.Clone(nodeSubnets), subnet{id: publicSubnetID, zone: "a", cidr: "10.0.3.0/24", name: "public-a", public: true}),
}

var prepared = layout{
	cidrs: append(slices.Clone(exhausted.cidrs), "100.64.0.0/17"),
	subnets: append(slices.Clone(exhausted.subnets),
		subnet{id: "subnet-0d0ec0de0000000a1", zone: "a", cidr: "100.64.0.0/19", name: "pod-a"},
		subnet{id: "subnet-0d0ec0de0000000b1", zone: "b", cidr: "100.64.32.0/19", name: "pod-b"},
		subnet{id: "subnet-0d0ec0de0000000c1", zone: "c", cidr: "100.64.64.0/19", name: "pod-c"}),
}

// wide is prepared with room for thousands of nodes.
var wide = layout{
	cidrs: append(slices.Clone(prepared.cidrs), "10.64.0.0/16"),
	subnets: append(slices.Clone(prepared.subnets),
		subnet{id: "subnet-0d0ec0de000000a02", zone: "a", cidr: "10.64.0.0/18", name: "node-a-wide", discover: true},
		subnet{id: "subnet-0d0ec0de000000b02", zone: "b", cidr: "10.64.64.0/18", name: "node-b-wide", discover: true},
		subnet{id: "subnet-0d0ec0de000000c02", zone: "c", cidr: "10.64.128.0/18", name: "node-c-wide", discover: true}),
}

func (o Options) layout() layout {
	switch {
	case o.Kubelet == Hollow:
		return wide
	case o.Layout == Exhausted:
		return exhausted
	default:
		return prepared
	}
}

// checkLayout says what a layout does not go with.
func (o *Options) checkLayout() error {
	switch o.Layout {
	case "":
		o.Layout = Prepared
	case Prepared:
	case Exhausted:
		if o.Kubelet != StandIn {
			return fmt.Errorf("layout %s needs kubelets of kind %s: what stands in for aws-node is no image, and hollow nodes have no addresses", Exhausted, StandIn)
		}
	default:
		return fmt.Errorf("layout %q is not known: use %s or %s", o.Layout, Prepared, Exhausted)
	}
	return nil
}

// ids in the order in which build creates what has them.
func (l layout) ids() []string {
	ids := []string{VPCID, GroupID}
	for _, s := range l.subnets {
		ids = append(ids, s.id)
	}
	return ids
}

// build creates the layout with the calls that a person or Terraform makes.
func (l layout) build(ctx context.Context, api *ec2.Client) error {
	steps := []func() error{
		func() error {
			_, err := api.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String(l.cidrs[0])})
			return err
		},
		func() error { return l.attachCIDRs(ctx, api) },
		func() error { return waitForCIDR(ctx, api) },
		func() error { return buildSecurityGroup(ctx, api) },
		func() error { return l.buildSubnets(ctx, api) },
		func() error { return l.buildRouting(ctx, api) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l layout) attachCIDRs(ctx context.Context, api *ec2.Client) error {
	for _, cidr := range l.cidrs[1:] {
		if _, err := api.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: aws.String(VPCID), CidrBlock: aws.String(cidr)}); err != nil {
			return fmt.Errorf("CIDR %s: %w", cidr, err)
		}
	}
	return nil
}

func waitForCIDR(ctx context.Context, api *ec2.Client) error {
	return poll(ctx, func(ctx context.Context) (bool, error) {
		out, err := api.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{VPCID}})
		if err != nil {
			return false, err
		}
		for _, association := range out.Vpcs[0].CidrBlockAssociationSet {
			if association.CidrBlockState.State != ec2types.VpcCidrBlockStateCodeAssociated {
				return false, nil
			}
		}
		return true, nil
	})
}

func buildSecurityGroup(ctx context.Context, api *ec2.Client) error {
	_, err := api.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		VpcId: aws.String(VPCID), GroupName: aws.String("eks-cluster-sg-" + ClusterName), Description: aws.String("EKS cluster security group"),
		TagSpecifications: tagged(ec2types.ResourceTypeSecurityGroup, "eks-cluster-sg-"+ClusterName, true),
	})
	if err != nil {
		return err
	}
	if err := waitForGroup(ctx, api, GroupID); err != nil {
		return err
	}
	_, err = api.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: aws.String(GroupID),
		IpPermissions: []ec2types.IpPermission{{
			IpProtocol: aws.String("-1"), UserIdGroupPairs: []ec2types.UserIdGroupPair{{GroupId: aws.String(GroupID)}},
		}},
	})
	return err
}

// waitForGroup waits until a new group is known everywhere.
func waitForGroup(ctx context.Context, api *ec2.Client, id string) error {
	exists := ec2.NewSecurityGroupExistsWaiter(api, func(o *ec2.SecurityGroupExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 20*time.Millisecond, time.Second
	})
	return exists.Wait(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{id}}, time.Minute)
}

func (l layout) buildSubnets(ctx context.Context, api *ec2.Client) error {
	for _, s := range l.subnets {
		_, err := api.CreateSubnet(ctx, &ec2.CreateSubnetInput{
			VpcId: aws.String(VPCID), CidrBlock: aws.String(s.cidr), AvailabilityZone: aws.String(Region + s.zone),
			TagSpecifications: tagged(ec2types.ResourceTypeSubnet, s.name, s.discover),
		})
		if err != nil {
			return fmt.Errorf("subnet %s: %w", s.name, err)
		}
	}
	return waitForSubnets(ctx, api, VPCID, len(l.subnets))
}

// waitForSubnets waits until the new subnets of a VPC are known everywhere.
func waitForSubnets(ctx context.Context, api *ec2.Client, vpc string, count int) error {
	return poll(ctx, func(ctx context.Context) (bool, error) {
		out, err := api.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpc}}}})
		return err == nil && len(out.Subnets) == count, err
	})
}

// buildRouting gives the public subnet an internet gateway and the others a NAT gateway.
func (l layout) buildRouting(ctx context.Context, api *ec2.Client) error {
	internet, err := api.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	if err != nil {
		return err
	}
	gatewayID := internet.InternetGateway.InternetGatewayId
	if _, err := api.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: gatewayID, VpcId: aws.String(VPCID)}); err != nil {
		return err
	}
	if err := l.route(ctx, api, &ec2.CreateRouteInput{GatewayId: gatewayID}, func(s subnet) bool { return s.public }); err != nil {
		return err
	}
	address, err := api.AllocateAddress(ctx, &ec2.AllocateAddressInput{Domain: ec2types.DomainTypeVpc})
	if err != nil {
		return err
	}
	nat, err := api.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{SubnetId: aws.String(publicSubnetID), AllocationId: address.AllocationId})
	if err != nil {
		return err
	}
	natID := nat.NatGateway.NatGatewayId
	err = poll(ctx, func(ctx context.Context) (bool, error) {
		out, err := api.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{NatGatewayIds: []string{*natID}})
		return err == nil && out.NatGateways[0].State == ec2types.NatGatewayStateAvailable, err
	})
	if err != nil {
		return err
	}
	return l.route(ctx, api, &ec2.CreateRouteInput{NatGatewayId: natID}, func(s subnet) bool { return !s.public })
}

// route makes a route table with a default route for some subnets.
func (l layout) route(ctx context.Context, api *ec2.Client, input *ec2.CreateRouteInput, which func(subnet) bool) error {
	table, err := api.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: aws.String(VPCID)})
	if err != nil {
		return err
	}
	input.RouteTableId, input.DestinationCidrBlock = table.RouteTable.RouteTableId, aws.String("0.0.0.0/0")
	if _, err := api.CreateRoute(ctx, input); err != nil {
		return err
	}
	for _, s := range l.subnets {
		if !which(s) {
			continue
		}
		if _, err := api.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: input.RouteTableId, SubnetId: aws.String(s.id)}); err != nil {
			return err
		}
	}
	return nil
}

// createEndpointENI makes the ENI by which the API server is in the VPC, and returns its id and address.
func createEndpointENI(ctx context.Context, api *ec2.Client) (string, netip.Addr, error) {
	out, err := api.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{
		SubnetId: aws.String(nodeSubnets[0].id), Groups: []string{GroupID}, Description: aws.String("Amazon EKS " + ClusterName),
	})
	if err != nil {
		return "", netip.Addr{}, err
	}
	address, err := netip.ParseAddr(aws.ToString(out.NetworkInterface.PrivateIpAddress))
	return aws.ToString(out.NetworkInterface.NetworkInterfaceId), address, err
}

func tagged(kind ec2types.ResourceType, name string, discover bool) []ec2types.TagSpecification {
	tags := []ec2types.Tag{{Key: aws.String("Name"), Value: aws.String(name)}}
	if discover {
		tags = append(tags, ec2types.Tag{Key: aws.String("karpenter.sh/discovery"), Value: aws.String(ClusterName)})
	}
	return []ec2types.TagSpecification{{ResourceType: kind, Tags: tags}}
}

// poll asks until the answer is yes, as one does with EC2.
func poll(ctx context.Context, done func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := done(ctx)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

var endpointURL = "http://" + vpc.AWSEndpoint.String()
