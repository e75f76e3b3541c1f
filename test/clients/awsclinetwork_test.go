// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// account is what the other checks need.
type account struct{ vpc, subnetA, subnetB, group, image string }

const image = "/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/standard/recommended/image_id"

func cliInstanceTypes(t *testing.T, c cli, _ account) {
	check(t, "all, over pages", func(t *testing.T) {
		whole := c.words(t, "ec2 describe-instance-types --query 'InstanceTypes[].InstanceType'")
		require.Greater(t, len(whole), 1000)
		pages := c.words(t, "ec2 describe-instance-types --page-size 100 --query 'InstanceTypes[].InstanceType'")
		require.ElementsMatch(t, whole, pages)
	})
	check(t, "some, and the next ones", func(t *testing.T) {
		var first struct {
			Types []string
			Next  string
		}
		c.json(t, &first, "ec2 describe-instance-types --max-items 7 --query '{Types:InstanceTypes[].InstanceType,Next:NextToken}'")
		require.Len(t, first.Types, 7)
		second := c.words(t, "ec2 describe-instance-types --max-items 7 --starting-token %s --query 'InstanceTypes[].InstanceType'", first.Next)
		require.Subset(t, append(second, "None"), second)
		for _, name := range first.Types {
			require.NotContains(t, second, name)
		}
	})
	check(t, "by name and filter, with their ENIs", func(t *testing.T) {
		require.Equal(t, "m5.large\t2\t8192\t3\t10\tnitro", c.text(t, `ec2 describe-instance-types --instance-types m5.large
			--query 'InstanceTypes[].[InstanceType,VCpuInfo.DefaultVCpus,MemoryInfo.SizeInMiB,NetworkInfo.MaximumNetworkInterfaces,NetworkInfo.Ipv4AddressesPerInterface,Hypervisor]'`))
		require.Equal(t, []string{"m5.metal"}, c.words(t, "ec2 describe-instance-types --filters Name=instance-type,Values=m5.* Name=bare-metal,Values=true --query InstanceTypes[].InstanceType"))
	})
	check(t, "where they are offered", func(t *testing.T) {
		require.Contains(t, c.words(t, `ec2 describe-instance-type-offerings --location-type availability-zone --filters Name=instance-type,Values=m5.large
			--query InstanceTypeOfferings[].Location`), "us-east-1a")
	})
}

func cliNetwork(t *testing.T, c cli) account {
	a := account{}
	check(t, "create-vpc", func(t *testing.T) {
		a.vpc = c.text(t, "ec2 create-vpc --cidr-block 10.0.0.0/16 --tag-specifications 'ResourceType=vpc,Tags=[{Key=Name,Value=clients}]' --query Vpc.VpcId")
		c.text(t, "ec2 wait vpc-available --vpc-ids %s", a.vpc)
		require.Equal(t, "10.0.0.0/16\tclients", c.text(t, "ec2 describe-vpcs --vpc-ids %s --query 'Vpcs[].[CidrBlock,Tags[0].Value]'", a.vpc))
	})
	check(t, "create-subnet", func(t *testing.T) {
		for zone, id := range map[string]*string{"a": &a.subnetA, "b": &a.subnetB} {
			*id = c.text(t, `ec2 create-subnet --vpc-id %s --cidr-block 10.0.%s.0/20 --availability-zone us-east-1%s --query Subnet.SubnetId
				--tag-specifications 'ResourceType=subnet,Tags=[{Key=zone,Value=%[3]s},{Key=text,Value="<&> ü"}]'`, a.vpc, map[string]string{"a": "16", "b": "32"}[zone], zone)
		}
		c.text(t, "ec2 wait subnet-available --subnet-ids %s %s", a.subnetA, a.subnetB)
	})
	check(t, "describe-subnets with filters", func(t *testing.T) {
		for filter, want := range map[string][]string{
			"Name=vpc-id,Values=" + a.vpc:                          {a.subnetA, a.subnetB},
			"Name=tag:zone,Values=b":                               {a.subnetB},
			"Name=tag-key,Values=zone":                             {a.subnetA, a.subnetB},
			"Name=availability-zone,Values=us-east-1a":             {a.subnetA},
			"Name=cidr-block,Values=10.0.32.0/20":                  {a.subnetB},
			"Name=tag:zone,Values=? Name=cidr-block,Values=*.16.*": {a.subnetA},
			"Name=tag:zone,Values=none":                            {},
		} {
			require.ElementsMatch(t, want, c.words(t, "ec2 describe-subnets --filters %s --query Subnets[].SubnetId", filter), filter)
		}
		require.Equal(t, "4091\t<&> ü", c.text(t, "ec2 describe-subnets --subnet-ids %s --query \"Subnets[].[AvailableIpAddressCount,Tags[?Key=='text']|[0].Value]\"", a.subnetA))
	})
	check(t, "create-security-group and a rule", func(t *testing.T) {
		a.group = c.text(t, "ec2 create-security-group --group-name clients --description clients --vpc-id %s --query GroupId", a.vpc)
		require.Equal(t, "True", c.text(t, "ec2 authorize-security-group-ingress --group-id %s --protocol tcp --port 443 --cidr 10.0.0.0/16 --query Return", a.group))
		var permissions []struct {
			IPProtocol         string `json:"IpProtocol"`
			FromPort           int
			UserIDGroupPairs   []any                     `json:"UserIdGroupPairs"`
			IPRanges           []struct{ CidrIP string } `json:"IpRanges"`
			IPv6Ranges, Prefix []any                     `json:"-"`
		}
		c.json(t, &permissions, "ec2 describe-security-groups --group-ids %s --query SecurityGroups[0].IpPermissions", a.group)
		require.Len(t, permissions, 1)
		require.Equal(t, 443, permissions[0].FromPort)
		require.NotNil(t, permissions[0].UserIDGroupPairs)
		require.Equal(t, "10.0.0.0/16", permissions[0].IPRanges[0].CidrIP)
	})
	check(t, "the image of a public parameter", func(t *testing.T) {
		a.image = c.text(t, "ssm get-parameter --name %s --query Parameter.Value", image)
		require.Equal(t, "x86_64\tamazon", c.text(t, "ec2 describe-images --image-ids %s --query 'Images[].[Architecture,ImageOwnerAlias]'", a.image))
	})
	return a
}

func cliErrors(t *testing.T, c cli, a account) {
	const dryRun = "Request would have succeeded, but DryRun flag is set."
	for name, f := range map[string]func(t *testing.T){
		"dry run": func(t *testing.T) {
			c.refused(t, "DryRunOperation", "CreateVpc", dryRun, "ec2 create-vpc --cidr-block 10.9.0.0/16 --dry-run")
			c.refused(t, "DryRunOperation", "RunInstances", dryRun, "ec2 run-instances --image-id %s --instance-type m5.large --subnet-id %s --dry-run", a.image, a.subnetA)
			c.refused(t, "DryRunOperation", "DescribeVpcs", dryRun, "ec2 describe-vpcs --dry-run")
			require.Equal(t, "1", c.text(t, "ec2 describe-vpcs --query length(Vpcs)"))
		},
		"a dry run finds bad parameters": func(t *testing.T) {
			c.refused(t, "InvalidSubnetID.NotFound", "CreateNetworkInterface", "The subnet ID 'subnet-0123456789abcdef0' does not exist",
				"ec2 create-network-interface --subnet-id subnet-0123456789abcdef0 --dry-run")
		},
		"ranges": func(t *testing.T) {
			c.refused(t, "InvalidVpcRange", "CreateVpc", "The CIDR '10.0.0.0/8' is invalid.", "ec2 create-vpc --cidr-block 10.0.0.0/8")
			c.refused(t, "InvalidSubnet.Conflict", "CreateSubnet", "The CIDR '10.0.17.0/24' conflicts with another subnet",
				"ec2 create-subnet --vpc-id %s --cidr-block 10.0.17.0/24", a.vpc)
			c.refused(t, "InvalidSubnet.Range", "CreateSubnet", "The CIDR '172.20.0.0/24' is invalid.", "ec2 create-subnet --vpc-id %s --cidr-block 172.20.0.0/24", a.vpc)
		},
		"ids that do not exist": func(t *testing.T) {
			c.refused(t, "InvalidInstanceID.NotFound", "DescribeInstances", "The instance ID 'i-0123456789abcdef0' does not exist",
				"ec2 describe-instances --instance-ids i-0123456789abcdef0")
			c.refused(t, "InvalidInstanceID.NotFound", "DescribeInstances", "The instance IDs 'i-0123456789abcdef0, i-0123456789abcdef1' do not exist",
				"ec2 describe-instances --instance-ids i-0123456789abcdef0 i-0123456789abcdef1")
			c.refused(t, "InvalidNetworkInterfaceID.NotFound", "DeleteNetworkInterface", "The networkInterface ID 'eni-0123456789abcdef0' does not exist",
				"ec2 delete-network-interface --network-interface-id eni-0123456789abcdef0")
			c.refused(t, "InvalidGroup.NotFound", "CreateNetworkInterface", "The security group 'sg-0123456789abcdef0' does not exist",
				"ec2 create-network-interface --subnet-id %s --groups sg-0123456789abcdef0", a.subnetA)
		},
		"what is not simulated is refused, not ignored": func(t *testing.T) {
			_, errs, code := c.run(t, "ec2 create-key-pair --key-name x")
			require.Equal(t, 254, code)
			require.Contains(t, errs, "(InvalidAction) when calling the CreateKeyPair operation")
			_, errs, code = c.run(t, "ec2 run-instances --image-id %s --instance-type m5.large --subnet-id %s --key-name x", a.image, a.subnetA)
			require.Equal(t, 254, code)
			require.Contains(t, errs, "(UnsupportedOperation) when calling the RunInstances operation: The sandbox does not simulate the parameter KeyName")
			_, errs, code = c.run(t, "sns list-topics")
			require.Equal(t, 254, code)
			require.Contains(t, errs, "The sandbox does not simulate the service")
		},
		"another Region": func(t *testing.T) {
			_, errs, code := c.run(t, "ec2 describe-vpcs --region eu-west-1")
			require.Equal(t, 254, code)
			require.Contains(t, errs, "(AuthFailure) when calling the DescribeVpcs operation")
		},
	} {
		t.Run(name, f)
	}
}

func cliInterfaces(t *testing.T, c cli, a account) {
	var id string
	subnet := c.text(t, "ec2 create-subnet --vpc-id %s --cidr-block 10.0.1.0/24 --query Subnet.SubnetId", a.vpc)
	prefixes := func(t *testing.T) []string {
		return c.words(t, "ec2 describe-network-interfaces --network-interface-ids %s --query NetworkInterfaces[].Ipv4Prefixes[].Ipv4Prefix", id)
	}
	check(t, "create-network-interface with prefixes", func(t *testing.T) {
		id = c.text(t, `ec2 create-network-interface --subnet-id %s --groups %s --ipv4-prefix-count 2 --description pods
			--tag-specifications 'ResourceType=network-interface,Tags=[{Key=owner,Value=clients}]' --query NetworkInterface.NetworkInterfaceId`, subnet, a.group)
		c.text(t, "ec2 wait network-interface-available --network-interface-ids %s", id)
		require.Equal(t, []string{id}, c.words(t, "ec2 describe-network-interfaces --filters Name=tag:owner,Values=clients Name=status,Values=available --query NetworkInterfaces[].NetworkInterfaceId"))
		given := prefixes(t)
		require.Len(t, given, 2)
		for _, text := range given {
			prefix := netip.MustParsePrefix(text)
			require.Equal(t, 28, prefix.Bits())
			require.Equal(t, prefix.Masked(), prefix)
			require.True(t, netip.MustParsePrefix("10.0.1.0/24").Overlaps(prefix))
		}
		require.Equal(t, "218", c.text(t, "ec2 describe-subnets --subnet-ids %s --query Subnets[].AvailableIpAddressCount", subnet)) // 251 - 1 - 2*16
	})
	check(t, "assign and unassign prefixes and addresses", func(t *testing.T) {
		more := c.text(t, "ec2 assign-private-ip-addresses --network-interface-id %s --ipv4-prefix-count 1 --query AssignedIpv4Prefixes[].Ipv4Prefix", id)
		require.Contains(t, prefixes(t), more)
		c.text(t, "ec2 unassign-private-ip-addresses --network-interface-id %s --ipv4-prefixes %s", id, more)
		require.NotContains(t, prefixes(t), more)
		c.text(t, "ec2 assign-private-ip-addresses --network-interface-id %s --ipv4-prefixes %s", id, more)
		require.Contains(t, prefixes(t), more)
		address := c.text(t, "ec2 assign-private-ip-addresses --network-interface-id %s --secondary-private-ip-address-count 1 --query AssignedPrivateIpAddresses[].PrivateIpAddress", id)
		c.text(t, "ec2 unassign-private-ip-addresses --network-interface-id %s --private-ip-addresses %s", id, address)
		_, errs, _ := c.run(t, "ec2 unassign-private-ip-addresses --network-interface-id %s --private-ip-addresses %s", id, address)
		require.Contains(t, errs, "(InvalidParameterValue) when calling the UnassignPrivateIpAddresses operation: Some of the specified addresses are not assigned to interface "+id)
	})
	check(t, "assign refuses what is not aligned, taken or another's", func(t *testing.T) {
		for prefix, want := range map[string]string{
			"10.0.1.8/28": "InvalidParameterValue", "10.0.16.16/28": "InvalidParameterValue", prefixes(t)[0]: "InvalidIPAddress.InUse",
		} {
			_, errs, code := c.run(t, "ec2 assign-private-ip-addresses --network-interface-id %s --ipv4-prefixes %s", id, prefix)
			require.Equal(t, 254, code, prefix)
			require.Contains(t, errs, "("+want+")")
		}
	})
	check(t, "tags", func(t *testing.T) {
		c.text(t, "ec2 create-tags --resources %s --tags Key=more,Value=", id)
		require.Equal(t, "more", strings.TrimSpace(c.text(t, "ec2 describe-network-interfaces --network-interface-ids %s --query \"NetworkInterfaces[].TagSet[?Value==''][].Key\"", id)))
		c.text(t, "ec2 delete-tags --resources %s --tags Key=more", id)
		require.Equal(t, "owner", c.text(t, "ec2 describe-network-interfaces --network-interface-ids %s --query NetworkInterfaces[].TagSet[].Key", id))
	})
	check(t, "delete-network-interface gives the addresses back", func(t *testing.T) {
		c.text(t, "ec2 delete-network-interface --network-interface-id %s", id)
		c.refused(t, "InvalidNetworkInterfaceID.NotFound", "DescribeNetworkInterfaces", "The networkInterface ID '"+id+"' does not exist",
			"ec2 describe-network-interfaces --network-interface-ids %s", id)
		require.Equal(t, "251", c.text(t, "ec2 describe-subnets --subnet-ids %s --query Subnets[].AvailableIpAddressCount", subnet))
	})
	check(t, "a subnet without an aligned /28, and a full one", func(t *testing.T) {
		small := c.text(t, "ec2 create-subnet --vpc-id %s --cidr-block 10.0.9.0/27 --query Subnet.SubnetId", a.vpc)
		// 10.0.9.16/28 is the only block without an address that AWS keeps, but for its last: no /28 is free in a /27.
		c.refused(t, "InsufficientCidrBlocks", "CreateNetworkInterface", "The specified subnet does not have enough free cidr blocks to satisfy the request.",
			"ec2 create-network-interface --subnet-id %s --ipv4-prefix-count 1", small)
		c.refused(t, "InvalidParameterValue", "CreateNetworkInterface", "There aren't sufficient free Ipv4 addresses or prefixes",
			"ec2 create-network-interface --subnet-id %s --ipv4-prefix-count 2", small)
		c.refused(t, "InsufficientFreeAddressesInSubnet", "CreateNetworkInterface", "The specified subnet does not have enough free addresses to satisfy the request.",
			"ec2 create-network-interface --subnet-id %s --secondary-private-ip-address-count 27", small)
	})
}
