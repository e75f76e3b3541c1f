// SPDX-License-Identifier: Apache-2.0

package provisioning_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// complete is what three zones get.
var complete = []string{
	"us-east-1a 100.64.0.0/19 routed 100.64.16.0/20 100.64.8.0/21",
	"us-east-1b 100.64.32.0/19 routed 100.64.48.0/20 100.64.40.0/21",
	"us-east-1c 100.64.64.0/19 routed 100.64.80.0/20 100.64.72.0/21",
}

var completeConfigs = map[string]string{"us-east-1a": "us-east-1a 100.64.0.0/19", "us-east-1b": "us-east-1b 100.64.32.0/19", "us-east-1c": "us-east-1c 100.64.64.0/19"}

// late is EC2 as it is for a provisioner: associations take a while, and new subnets are unknown to it at first.
func late() aws.Profile {
	span := aws.Span{Min: 10 * time.Millisecond, Max: 20 * time.Millisecond}
	return aws.Profile{Associate: span, Propagation: span}
}

func TestProvisioning(t *testing.T) {
	apis.Register(scheme.Scheme)
	config := chartstest.StartAPIServer(t)
	for name, test := range map[string]func(*testing.T, *rest.Config){
		"three zones in twenty calls":                   testThreeZones,
		"a controller that ends at any call":            testEnds,
		"refusals":                                      testRefusals,
		"what exists is adopted":                        testAdoption,
		"growth":                                        testGrowth,
		"what somebody deleted is made again":           testMadeAgain,
		"EC2 throttles":                                 testThrottled,
		"deletion retains":                              testRetain,
		"deletion deletes":                              testDelete,
		"deletion ends at any call":                     testDeleteEnds,
		"two networks in one VPC":                       testTwoNetworks,
		"an API server that refuses nonsense by itself": testCEL,
	} {
		t.Run(name, func(t *testing.T) { test(t, config) })
	}
}

func testThreeZones(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	w.declare()
	w.calls.since()
	condition := w.settle()
	require.Equal(t, metav1.ConditionTrue, condition.Status, "%+v", condition)
	counts, total := w.calls.since()
	t.Logf("three zones: %d EC2 calls %v", total, counts)
	require.LessOrEqual(t, total, 20, "%v", counts)
	require.Equal(t, complete, w.pods())
	require.Equal(t, completeConfigs, w.configs())
	require.Equal(t, []string{"10.0.0.0/21 associated", "100.64.0.0/16 associated"}, w.blocks())

	provisioned := w.network().Status.Provision
	require.Equal(t, []v1alpha1.ProvisionedCIDR{{CIDR: "100.64.0.0/16", State: "associated", Made: true}}, provisioned.CIDRs)
	require.Len(t, provisioned.Subnets, 3)
	require.Equal(t, w.table, provisioned.Subnets[1].RouteTable)
	require.Equal(t, "us-east-1b", provisioned.Subnets[1].ENIConfig)
	require.True(t, provisioned.Subnets[1].Made)
	written := &eniconfig.ENIConfig{}
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Name: "us-east-1b"}, written))
	require.True(t, metav1.IsControlledBy(written, w.network()))
	require.Empty(t, written.Spec.SecurityGroups, "those of the node, which are the node class's")
	w.awaitEvent("Normal", "CreateSubnet")

	_, err := w.round(time.Second)
	require.NoError(t, err)
	_, total = w.calls.since()
	require.Zero(t, total, "what was just made is known")
	w.settleAfter(10 * time.Minute)
	counts, _ = w.calls.since()
	for call := range counts {
		require.Regexp(t, "^(Describe|Get)", call)
	}
	w.change(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.SecurityGroups = []string{"sg-0123456789abcdef0"} })
	w.settle()
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Name: "us-east-1b"}, written))
	require.Equal(t, []string{"sg-0123456789abcdef0"}, written.Spec.SecurityGroups)
}

// settleAfter lets time pass before.
func (w *world) settleAfter(later time.Duration) {
	w.Helper()
	_, err := w.round(later)
	require.NoError(w, err)
	w.settle()
}

// testEnds ends the controller at each of its calls in turn, before the call reached EC2 and after it took effect there.
func testEnds(t *testing.T, config *rest.Config) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			ended := false
			t.Run(fmt.Sprintf("call %d, after its effect %t", n, after), func(t *testing.T) {
				w := newWorld(t, config, late())
				w.declare()
				ended = w.endAt(n, after)
				if !ended {
					return
				}
				w.restart()
				condition := w.settle()
				require.Equal(t, metav1.ConditionTrue, condition.Status, "%+v", condition)
				require.Equal(t, complete, w.pods())
				require.Equal(t, completeConfigs, w.configs())
				require.Equal(t, []string{"10.0.0.0/21 associated", "100.64.0.0/16 associated"}, w.blocks())
				require.True(t, w.network().Status.Provision.CIDRs[0].Made)
				require.Len(t, w.tables(), 3+3, "one for each node subnet and each pod subnet")
			})
			if !ended {
				require.Greater(t, n, 14)
				break
			}
		}
	}
}

// endAt runs the controller until its call n is cut, and tells whether there was one.
func (w *world) endAt(n int, after bool) bool {
	w.Helper()
	w.calls.since()
	var cut atomic.Bool
	ctx, end := context.WithCancel(w.Context())
	defer end()
	w.calls.mu.Lock()
	w.calls.cut = func(call int, now bool) bool {
		if call == n && now == after {
			cut.Store(true)
			end()
		}
		return cut.Load() // from then on nothing gets through, to the API server neither: the process is gone
	}
	w.calls.mu.Unlock()
	defer func() {
		w.calls.mu.Lock()
		w.calls.cut = nil
		w.calls.mu.Unlock()
	}()
	var later time.Duration
	for range 60 {
		w.clock.Step(later)
		network := &v1alpha1.PodNetwork{}
		if err := w.Get(w.Context(), client.ObjectKey{Name: "default"}, network); err != nil {
			return cut.Load()
		}
		result, err := w.controller.Reconcile(ctx, network)
		if cut.Load() {
			require.Error(w, err)
			return true
		}
		require.NoError(w, err)
		if result.RequeueAfter >= time.Minute {
			return false
		}
		later = result.RequeueAfter
		time.Sleep(10 * time.Millisecond)
	}
	require.FailNow(w, "it never came to rest")
	return false
}

func testRefusals(t *testing.T, config *rest.Config) {
	for name, test := range map[string]struct {
		before  func(*world)
		declare func(*v1alpha1.PodNetwork)
		reason  string
		text    string
		zones   int // that are served all the same
		mend    func(*world)
	}{
		"a CIDR that AWS refuses": {
			declare: func(n *v1alpha1.PodNetwork) { n.Spec.Provision.CIDRs = []string{"100.64.0.0/16", "192.168.0.0/16"} },
			reason:  "CIDRRestricted", text: "192.168.0.0/16",
			mend: func(w *world) {
				w.change(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.CIDRs = []string{"100.64.0.0/16"} })
			},
		},
		"a CIDR beyond the quota, of which only EC2 knows": {
			declare: func(n *v1alpha1.PodNetwork) {
				n.Spec.Provision.CIDRs = []string{"100.64.0.0/16", "100.65.0.0/16", "100.66.0.0/16", "100.67.0.0/16", "100.68.0.0/16"}
			},
			reason: "CIDRQuotaExceeded", text: "raise the account's quota",
			mend: func(w *world) {
				w.change(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.CIDRs = []string{"100.64.0.0/16"} })
			},
		},
		"a CIDR of a peer, of which only EC2 knows": {
			before: func(w *world) { w.peer("100.64.0.0/18") },
			reason: "CIDRRefused", text: "peered VPC",
			mend: func(w *world) {
				out, err := w.api.DescribeVpcPeeringConnections(w.Context(), &ec2.DescribeVpcPeeringConnectionsInput{})
				require.NoError(w, err)
				_, err = w.api.DeleteVpcPeeringConnection(w.Context(), &ec2.DeleteVpcPeeringConnectionInput{VpcPeeringConnectionId: out.VpcPeeringConnections[0].VpcPeeringConnectionId})
				require.NoError(w, err)
			},
		},
		"a zone without room for the subnet size": {
			declare: func(n *v1alpha1.PodNetwork) { n.Spec.Provision.CIDRs = []string{"100.64.0.0/18"} },
			reason:  "NoRoomForSubnet", text: "zone us-east-1c: no /19 is left", zones: 2,
			mend: func(w *world) {
				w.change(func(n *v1alpha1.PodNetwork) {
					n.Spec.Provision.CIDRs = append(n.Spec.Provision.CIDRs, "100.64.64.0/18")
				})
			},
		},
		"a route table that does not exist": {
			declare: func(n *v1alpha1.PodNetwork) {
				n.Spec.Provision.RouteTables, n.Spec.Provision.RouteTableIDs = v1alpha1.RouteTablesListed, map[string]v1alpha1.RouteTableID{"*": "rtb-0123456789abcdef0"}
			},
			reason: "RouteTableNotFound", text: "no route table rtb-0123456789abcdef0",
			mend: func(w *world) {
				w.change(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.RouteTableIDs["*"] = v1alpha1.RouteTableID(w.table) })
			},
		},
		"an ENIConfig that someone else owns": {
			before: func(w *world) {
				require.NoError(w, w.Create(w.Context(), &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: "us-east-1b"}, Spec: eniconfig.ENIConfigSpec{Subnet: "subnet-0123456789abcdef0"}}))
			},
			reason: "ENIConfigOfSomeoneElse", text: "ENIConfig us-east-1b is not this PodNetwork's", zones: 2,
			mend: func(w *world) {
				require.NoError(w, w.Delete(w.Context(), &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: "us-east-1b"}}))
			},
		},
		"a subnet of another size": {
			before: func(w *world) { w.associate("100.64.0.0/16"); w.subnet("us-east-1b", "100.64.128.0/20") },
			reason: "SubnetDiffers", text: "is a /20 where spec.provision.subnetPrefixLength is 19", zones: 2,
			mend: func(w *world) {
				out, err := w.api.DescribeSubnets(w.Context(), &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{{Name: awssdk.String("cidr-block"), Values: []string{"100.64.128.0/20"}}}})
				require.NoError(w, err)
				_, err = w.api.CreateTags(w.Context(), &ec2.CreateTagsInput{Resources: []string{*out.Subnets[0].SubnetId}, Tags: []ec2types.Tag{{Key: awssdk.String(v1alpha1.TagPodNetwork), Value: awssdk.String("none")}}})
				require.NoError(w, err)
			},
		},
		"ENIConfigs that could not be selected": {
			declare: func(n *v1alpha1.PodNetwork) {
				n.Spec.ENIConfigs.Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "pods", Operator: metav1.LabelSelectorOpExists}}
			},
			reason: "ENIConfigSelectorNotUsable", text: "matchLabels alone",
			mend: func(w *world) {
				w.change(func(n *v1alpha1.PodNetwork) {
					n.Spec.ENIConfigs.Selector = metav1.LabelSelector{MatchLabels: map[string]string{"pods": "yes"}}
				})
			},
		},
		"no node class": {
			declare: func(n *v1alpha1.PodNetwork) { n.Spec.NodeClassSelector.MatchLabels = map[string]string{"no": "such"} },
			reason:  "NoNodeClass", text: "matches spec.nodeClassSelector",
			mend: func(w *world) { w.change(func(n *v1alpha1.PodNetwork) { n.Spec.NodeClassSelector.MatchLabels = nil }) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, config, late())
			if test.before != nil {
				test.before(w)
			}
			if test.declare == nil {
				test.declare = func(*v1alpha1.PodNetwork) {}
			}
			w.declare(test.declare)
			w.rounds(func() bool {
				return w.condition().Reason == test.reason && len(w.configs()) == lenOf(test.zones, test.reason)
			})
			condition := w.condition()
			require.Equal(t, metav1.ConditionFalse, condition.Status)
			require.Contains(t, condition.Message, test.text)
			w.awaitEvent("Warning", test.reason)
			test.mend(w)
			w.rounds(func() bool { return w.condition().Reason == "Provisioned" })
			require.Len(t, w.configs(), 3)
		})
	}
}

// lenOf counts ENIConfigs: those made, and the one that was there.
func lenOf(zones int, reason string) int {
	if reason == "ENIConfigOfSomeoneElse" {
		return zones + 1
	}
	return zones
}

// rounds as the controller asks for them, until something is true.
func (w *world) rounds(reached func() bool) {
	w.Helper()
	for range 40 {
		result, err := w.round(0)
		require.NoError(w, err)
		if reached() {
			return
		}
		w.clock.Step(result.RequeueAfter)
		time.Sleep(20 * time.Millisecond)
	}
	require.FailNow(w, "never came true", "%+v", w.condition())
}

// peer the VPC with another.
func (w *world) peer(cidr string) {
	w.Helper()
	out, err := w.api.CreateVpc(w.Context(), &ec2.CreateVpcInput{CidrBlock: &cidr})
	require.NoError(w, err)
	peering, err := w.api.CreateVpcPeeringConnection(w.Context(), &ec2.CreateVpcPeeringConnectionInput{VpcId: &w.vpc, PeerVpcId: out.Vpc.VpcId})
	require.NoError(w, err)
	require.Eventually(w, func() bool {
		_, err := w.api.AcceptVpcPeeringConnection(w.Context(), &ec2.AcceptVpcPeeringConnectionInput{VpcPeeringConnectionId: peering.VpcPeeringConnection.VpcPeeringConnectionId})
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.Eventually(w, func() bool { return len(w.cloud.Snapshot().Peerings) == 1 }, time.Minute, 10*time.Millisecond)
}

func testAdoption(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	w.associate("100.64.0.0/17")
	w.subnet("us-east-1a", "100.64.96.0/19")
	theirs := w.subnet("us-east-1b", "100.64.0.0/19")
	require.NoError(t, w.Create(t.Context(), &eniconfig.ENIConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "us-east-1b"}, Spec: eniconfig.ENIConfigSpec{Subnet: theirs, SecurityGroups: []string{"sg-0123456789abcdef0"}},
	}))
	w.declare(func(n *v1alpha1.PodNetwork) {
		n.Spec.Provision.CIDRs, n.Spec.Provision.DeletionPolicy = []string{"100.64.0.0/17"}, v1alpha1.DeletionDelete
	})
	require.Equal(t, "Provisioned", w.settle().Reason)
	require.Equal(t, []string{"us-east-1a 100.64.96.0/19", "us-east-1b 100.64.0.0/19", "us-east-1c 100.64.32.0/19 routed 100.64.48.0/20 100.64.40.0/21"}, w.pods())
	provisioned := w.network().Status.Provision
	require.False(t, provisioned.CIDRs[0].Made)
	require.False(t, provisioned.Subnets[0].Made)
	require.True(t, provisioned.Subnets[2].Made)
	kept := &eniconfig.ENIConfig{}
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Name: "us-east-1b"}, kept))
	require.Empty(t, kept.OwnerReferences)
	require.Equal(t, []string{"sg-0123456789abcdef0"}, kept.Spec.SecurityGroups)

	require.NoError(t, w.Delete(t.Context(), w.network()))
	w.awaitDeleted()
	require.Equal(t, []string{"us-east-1a 100.64.96.0/19", "us-east-1b 100.64.0.0/19"}, w.pods(), "what was adopted stays")
	require.Equal(t, map[string]string{"us-east-1b": "us-east-1b 100.64.0.0/19"}, w.configs())
	require.Contains(t, w.blocks(), "100.64.0.0/17 associated")
}

func testGrowth(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	w.declare(func(n *v1alpha1.PodNetwork) {
		n.Spec.Provision.CIDRs, n.Spec.ENIConfigs.NodeLabel = []string{"100.64.0.0/17"}, v1alpha1.LabelENIConfig
	})
	require.Equal(t, "Provisioned", w.settle().Reason)
	first := w.configs()
	require.Equal(t, map[string]string{"default-us-east-1a": "us-east-1a 100.64.0.0/19", "default-us-east-1b": "us-east-1b 100.64.32.0/19", "default-us-east-1c": "us-east-1c 100.64.64.0/19"}, first)

	w.nodes["us-east-1d"] = w.nodeSubnet("us-east-1d", "10.0.4.0/24")
	w.nodeClass("us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d")
	w.settleAfter(2 * time.Minute)
	require.Equal(t, "Provisioned", w.condition().Reason)
	require.Equal(t, "us-east-1d 100.64.96.0/19", w.configs()["default-us-east-1d"])

	w.change(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.CIDRs = append(n.Spec.Provision.CIDRs, "100.65.0.0/16") })
	require.Equal(t, "Provisioned", w.settle().Reason)
	grown := w.configs()
	require.Len(t, grown, 8)
	require.Equal(t, "us-east-1d 100.65.96.0/19", grown["default-us-east-1d-2"])
	for name, subnet := range first {
		require.Equal(t, subnet, grown[name], "what was there stays")
	}

	w.change(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.CIDRs = n.Spec.Provision.CIDRs[1:] })
	w.nodeClass("us-east-1a")
	w.settleAfter(2 * time.Minute)
	require.Equal(t, "Provisioned", w.condition().Reason)
	require.Len(t, w.configs(), 8, "a smaller declaration removes nothing")
	require.Len(t, w.pods(), 8)
}

func testMadeAgain(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	w.declare(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.ReservePrefixes = new(bool) })
	w.settle()
	gone := w.network().Status.Provision.Subnets[1].Subnet
	_, err := w.api.DeleteSubnet(t.Context(), &ec2.DeleteSubnetInput{SubnetId: &gone})
	require.NoError(t, err)
	require.NoError(t, w.Delete(t.Context(), &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: "us-east-1c"}}))
	w.settleAfter(10 * time.Minute)
	require.Equal(t, "Provisioned", w.condition().Reason)
	require.Equal(t, completeConfigs, w.configs())
	require.NotEqual(t, gone, w.network().Status.Provision.Subnets[1].Subnet)
}

func testThrottled(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	w.declare()
	_, err := w.cloud.AddFault(aws.Fault{Throttle: &aws.ThrottleFault{Action: "CreateSubnetCidrReservation", Capacity: 2, Refill: 0.0001}})
	require.NoError(t, err)
	w.rounds(func() bool { return w.condition().Reason == "Throttled" })
	require.Len(t, w.pods(), 3)
	w.calls.since()
	for range 3 {
		_, err := w.round(100 * time.Millisecond)
		require.NoError(t, err)
	}
	_, total := w.calls.since()
	require.Zero(t, total, "it leaves EC2 alone for a while")
	w.cloud.ClearFaults()
	w.rounds(func() bool { return w.condition().Reason == "Provisioned" })
	require.Equal(t, complete, w.pods())
}

func testRetain(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	w.declare()
	w.settle()
	before := w.network().Status.Provision.Subnets
	w.calls.since()
	require.NoError(t, w.Delete(t.Context(), w.network()))
	w.awaitDeleted()
	_, total := w.calls.since()
	require.Zero(t, total)
	require.Equal(t, complete, w.pods())
	require.Equal(t, completeConfigs, w.configs())
	written := &eniconfig.ENIConfig{}
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Name: "us-east-1b"}, written))
	require.Empty(t, written.OwnerReferences, "it would be deleted with its owner")

	w.declare()
	require.Equal(t, "Provisioned", w.settle().Reason)
	require.Equal(t, before, w.network().Status.Provision.Subnets, "a PodNetwork of the same name takes its own up again")
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Name: "us-east-1b"}, written))
	require.True(t, metav1.IsControlledBy(written, w.network()))

	w.change(func(n *v1alpha1.PodNetwork) { n.Spec.Provision = nil })
	_, err := w.round(0)
	require.NoError(t, err)
	require.Empty(t, w.network().Finalizers)
	require.Empty(t, w.condition().Type)
	require.NoError(t, w.Get(t.Context(), client.ObjectKey{Name: "us-east-1b"}, written))
	require.Empty(t, written.OwnerReferences)
}

// awaitDeleted runs the controller until the PodNetwork is gone.
func (w *world) awaitDeleted() {
	w.Helper()
	for range 60 {
		network := &v1alpha1.PodNetwork{}
		if err := w.Get(w.Context(), client.ObjectKey{Name: "default"}, network); err != nil {
			require.NoError(w, client.IgnoreNotFound(err))
			return
		}
		result, err := w.controller.Reconcile(w.Context(), network)
		require.NoError(w, err)
		w.clock.Step(result.RequeueAfter)
		time.Sleep(20 * time.Millisecond)
	}
	require.FailNow(w, "it is still there", "%+v", w.condition())
}

func testDelete(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	w.declare(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.DeletionPolicy = v1alpha1.DeletionDelete })
	w.settle()
	used := w.network().Status.Provision.Subnets[1].Subnet
	eni, err := w.api.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &used})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return w.interfaces() == 1 }, time.Minute, time.Millisecond)
	foreign := w.subnet("us-east-1f", "100.64.128.0/20")

	require.NoError(t, w.Delete(t.Context(), w.network()))
	w.rounds(func() bool { return w.condition().Reason == "InUse" })
	require.Contains(t, w.condition().Message, used+" (100.64.32.0/19, us-east-1b) has 1 network interfaces, such as "+*eni.NetworkInterface.NetworkInterfaceId)
	require.Equal(t, []string{complete[1], "us-east-1f 100.64.128.0/20"}, w.pods(), "what nothing uses is gone")
	require.Equal(t, map[string]string{"us-east-1b": "us-east-1b 100.64.32.0/19"}, w.configs())
	w.awaitEvent("Warning", "InUse")

	_, err = w.api.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: eni.NetworkInterface.NetworkInterfaceId})
	require.NoError(t, err)
	w.rounds(func() bool { return len(w.configs()) == 0 })
	require.Contains(t, w.condition().Message, "CIDR 100.64.0.0/16 holds subnet "+foreign)
	require.Equal(t, []string{"us-east-1f 100.64.128.0/20"}, w.pods())
	_, err = w.api.DeleteSubnet(t.Context(), &ec2.DeleteSubnetInput{SubnetId: &foreign})
	require.NoError(t, err)
	w.awaitDeleted()
	require.Equal(t, []string{"10.0.0.0/21 associated"}, w.blocks())
}

func (w *world) interfaces() int {
	out, err := w.api.DescribeNetworkInterfaces(w.Context(), &ec2.DescribeNetworkInterfacesInput{Filters: w.ofVPC()})
	require.NoError(w, err)
	return len(out.NetworkInterfaces)
}

func testDeleteEnds(t *testing.T, config *rest.Config) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			ended := false
			t.Run(fmt.Sprintf("call %d, after its effect %t", n, after), func(t *testing.T) {
				w := newWorld(t, config, late())
				w.declare(func(n *v1alpha1.PodNetwork) { n.Spec.Provision.DeletionPolicy = v1alpha1.DeletionDelete })
				w.settle()
				require.NoError(t, w.Delete(t.Context(), w.network()))
				if ended = w.endAt(n, after); !ended {
					return
				}
				w.restart()
				w.awaitDeleted()
				require.Empty(t, w.pods())
				require.Empty(t, w.configs())
				require.Equal(t, []string{"10.0.0.0/21 associated"}, w.blocks())
			})
			if !ended {
				require.Greater(t, n, 14)
				break
			}
		}
	}
}

func testTwoNetworks(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	w.declare()
	w.settle()
	other := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "other"}, Spec: v1alpha1.PodNetworkSpec{
		ENIConfigs: v1alpha1.ENIConfigs{NodeLabel: v1alpha1.LabelENIConfig, Selector: metav1.LabelSelector{MatchLabels: map[string]string{"of": "other"}}},
		Provision:  &v1alpha1.Provision{CIDRs: []string{"100.64.0.0/16"}, SubnetPrefixLength: 22},
	}}
	require.NoError(t, w.Create(t.Context(), other))
	for range 10 {
		require.NoError(t, w.Get(t.Context(), client.ObjectKeyFromObject(other), other))
		result, err := w.controller.Reconcile(t.Context(), other)
		require.NoError(t, err)
		w.clock.Step(result.RequeueAfter)
		time.Sleep(20 * time.Millisecond)
	}
	configs := w.configs()
	require.Len(t, configs, 6)
	require.Equal(t, "us-east-1c 100.64.104.0/22", configs["other-us-east-1c"])
	require.False(t, other.Status.Provision.CIDRs[0].Made, "the other network made it")
	w.settleAfter(10 * time.Minute)
	require.Equal(t, "Provisioned", w.condition().Reason, "each leaves the other's alone")
	require.Equal(t, configs, w.configs())
}

func testCEL(t *testing.T, config *rest.Config) {
	w := newWorld(t, config, late())
	for name, test := range map[string]struct {
		change func(*v1alpha1.Provision)
		text   string // "" where it is taken
	}{
		"no CIDR":                  {func(p *v1alpha1.Provision) { p.CIDRs = nil }, "cidrs"},
		"no such CIDR":             {func(p *v1alpha1.Provision) { p.CIDRs = []string{"100.64.0.0"} }, "must be an IPv4 CIDR"},
		"bits behind the prefix":   {func(p *v1alpha1.Provision) { p.CIDRs = []string{"100.64.0.1/16"} }, "must be an IPv4 CIDR"},
		"an IPv6 CIDR":             {func(p *v1alpha1.Provision) { p.CIDRs = []string{"fd00::/16"} }, "must be an IPv4 CIDR"},
		"too large a CIDR":         {func(p *v1alpha1.Provision) { p.CIDRs = []string{"100.64.0.0/10"} }, "/16 to /28"},
		"no room for a subnet":     {func(p *v1alpha1.Provision) { p.CIDRs = []string{"100.64.0.0/20"} }, "must have room"},
		"a small subnet":           {func(p *v1alpha1.Provision) { p.CIDRs, p.SubnetPrefixLength = []string{"100.64.0.0/20"}, 22 }, ""},
		"too small a subnet":       {func(p *v1alpha1.Provision) { p.SubnetPrefixLength = 29 }, "subnetPrefixLength"},
		"no such policy":           {func(p *v1alpha1.Provision) { p.DeletionPolicy = "Keep" }, "deletionPolicy"},
		"a list that is not there": {func(p *v1alpha1.Provision) { p.RouteTables = v1alpha1.RouteTablesListed }, "routeTableIDs are for routeTables Listed"},
		"a list that is not used":  {func(p *v1alpha1.Provision) { p.RouteTableIDs = map[string]v1alpha1.RouteTableID{"*": "rtb-12345678"} }, "routeTableIDs are for routeTables Listed"},
		"no such route table": {func(p *v1alpha1.Provision) {
			p.RouteTables, p.RouteTableIDs = v1alpha1.RouteTablesListed, map[string]v1alpha1.RouteTableID{"*": "main"}
		}, "route table ids such as"},
		"a route table for all zones": {func(p *v1alpha1.Provision) {
			p.RouteTables, p.RouteTableIDs = v1alpha1.RouteTablesListed, map[string]v1alpha1.RouteTableID{"*": "rtb-12345678"}
		}, ""},
		"no such group": {func(p *v1alpha1.Provision) { p.SecurityGroups = []string{"default"} }, "securityGroups"},
	} {
		t.Run(name, func(t *testing.T) {
			network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "tried"}, Spec: v1alpha1.PodNetworkSpec{Provision: &v1alpha1.Provision{CIDRs: []string{"100.64.0.0/16"}}}}
			test.change(network.Spec.Provision)
			err := w.Create(t.Context(), network)
			if test.text != "" {
				require.ErrorContains(t, err, test.text)
				return
			}
			require.NoError(t, err)
			require.Equal(t, v1alpha1.DeletionRetain, network.Spec.Provision.DeletionPolicy)
			require.True(t, *network.Spec.Provision.ReservePrefixes)
			require.NoError(t, w.Delete(t.Context(), network))
		})
	}
}
