// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"net/netip"
	"testing"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

func config(name, subnet string, groups ...string) eniconfig.ENIConfig {
	return eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: eniconfig.ENIConfigSpec{Subnet: subnet, SecurityGroups: groups}}
}

func twoZones(configs ...eniconfig.ENIConfig) podnetwork.View {
	subnet := func(id, vpc, zone, cidr string) podnetwork.Subnet {
		prefix := netip.MustParsePrefix(cidr)
		return podnetwork.Subnet{ID: id, VPC: vpc, Zone: zone, CIDR: prefix, Capacity: podnetwork.CapacityOf(podnetwork.Usage{CIDR: prefix})}
	}
	nodeClass := ec2nodeclass.EC2NodeClass{}
	nodeClass.Status.Subnets = []ec2nodeclass.Subnet{{ID: "subnet-na", Zone: "a"}, {ID: "subnet-nb", Zone: "b"}}
	return podnetwork.View{
		NodeClasses: []ec2nodeclass.EC2NodeClass{nodeClass},
		ENIConfigs:  configs,
		Subnets: map[string]podnetwork.Subnet{
			"subnet-na": subnet("subnet-na", "vpc-1", "a", "10.0.0.0/24"), "subnet-nb": subnet("subnet-nb", "vpc-1", "b", "10.0.1.0/24"),
			"subnet-pa": subnet("subnet-pa", "vpc-1", "a", "100.64.0.0/19"), "subnet-pb": subnet("subnet-pb", "vpc-1", "b", "100.64.32.0/19"),
			"subnet-x": subnet("subnet-x", "vpc-2", "b", "100.64.64.0/19"),
		},
		SecurityGroups: map[string]string{"sg-1": "vpc-1", "sg-2": "vpc-2"},
	}
}

func TestResolveUsesTheENIConfigNamedAfterEachZone(t *testing.T) {
	r := podnetwork.Resolve(&v1alpha1.PodNetwork{}, twoZones(config("b", "subnet-pb"), config("a", "subnet-pa", "sg-1"), config("unrelated", "subnet-gone")))
	require.Empty(t, r.Problems)
	require.Equal(t, []v1alpha1.ZoneStatus{
		{Zone: "a", ENIConfig: "a", Subnet: "subnet-pa", CIDR: "100.64.0.0/19", FreePrefixes: 510, FreeAddresses: 8187},
		{Zone: "b", ENIConfig: "b", Subnet: "subnet-pb", CIDR: "100.64.32.0/19", FreePrefixes: 510, FreeAddresses: 8187},
	}, r.Zones)
}

func TestResolveFindsSeveralENIConfigsOfAZoneByTheirSubnets(t *testing.T) {
	network := &v1alpha1.PodNetwork{}
	network.Spec.ENIConfigs.NodeLabel = v1alpha1.LabelENIConfig
	r := podnetwork.Resolve(network, twoZones(config("one", "subnet-pa"), config("two", "subnet-pa"), config("three", "subnet-pb")))
	require.Empty(t, r.Problems)
	places := map[string]string{}
	for _, z := range r.Zones {
		places[z.ENIConfig] = z.Zone + " " + z.Subnet
	}
	require.Equal(t, map[string]string{"one": "a subnet-pa", "two": "a subnet-pa", "three": "b subnet-pb"}, places)
}

func TestResolveSaysWhatIsWrongAndKeepsTheRest(t *testing.T) {
	tests := map[string]struct {
		b       []eniconfig.ENIConfig
		reason  string
		message string
	}{
		"missing":              {nil, podnetwork.ReasonENIConfigMissing, "zone b: no ENIConfig is named b (there are a); no node is launched there"},
		"no such subnet":       {[]eniconfig.ENIConfig{config("b", "subnet-gone")}, podnetwork.ReasonSubnetNotFound, `ENIConfig b: no subnet "subnet-gone" with IPv4 addresses exists in this account and Region`},
		"other zone":           {[]eniconfig.ENIConfig{config("b", "subnet-pa")}, podnetwork.ReasonSubnetInOtherZone, "ENIConfig b: subnet subnet-pa is in zone a, and an ENI must be in its node's zone b"},
		"other VPC":            {[]eniconfig.ENIConfig{config("b", "subnet-x")}, podnetwork.ReasonSubnetInOtherVPC, "ENIConfig b: subnet subnet-x is in vpc-2, the nodes are in vpc-1"},
		"no such group":        {[]eniconfig.ENIConfig{config("b", "subnet-pb", "sg-0")}, podnetwork.ReasonSecurityGroupNotFound, "ENIConfig b: security group sg-0 does not exist in this account and Region"},
		"group of another VPC": {[]eniconfig.ENIConfig{config("b", "subnet-pb", "sg-2")}, podnetwork.ReasonSecurityGroupOtherVPC, "ENIConfig b: security group sg-2 is of vpc-2, the nodes are in vpc-1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := podnetwork.Resolve(&v1alpha1.PodNetwork{}, twoZones(append(test.b, config("a", "subnet-pa"))...))
			require.Len(t, r.Problems, 1)
			require.Equal(t, test.reason, r.Problems[0].Reason)
			require.Equal(t, test.message, r.Problems[0].Message)
			require.Len(t, r.Zones, 1, "zone a still serves")
			require.Equal(t, "a", r.Zones[0].Zone)
		})
	}
}

func TestResolveWithoutANodeClassSaysSo(t *testing.T) {
	r := podnetwork.Resolve(&v1alpha1.PodNetwork{}, podnetwork.View{})
	require.Empty(t, r.Zones)
	require.Equal(t, podnetwork.ReasonNoNodeClass, r.Problems[0].Reason)
}

func TestTheOldestPodNetworkServesANodeClassThatSeveralSelect(t *testing.T) {
	at := func(name string, second int64, labels map[string]string) v1alpha1.PodNetwork {
		n := v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(second, 0)}}
		n.Spec.NodeClassSelector.MatchLabels = labels
		return n
	}
	nodeClass := &ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"team": "x"}}}
	unreadable := at("unreadable", 0, nil)
	unreadable.Spec.NodeClassSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "team", Operator: "Near"}}
	serving := podnetwork.Serving([]v1alpha1.PodNetwork{unreadable, at("young", 2, nil), at("other", 0, map[string]string{"team": "y"}), at("old", 1, map[string]string{"team": "x"})}, nodeClass)
	require.Len(t, serving, 2)
	require.Equal(t, "old", serving[0].Name)
}
