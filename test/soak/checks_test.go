// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

var (
	address = netip.MustParseAddr
	prefix  = netip.MustParsePrefix
	now     = time.Date(2026, 11, 21, 21, 0, 0, 0, time.UTC)
)

// sound is a cluster of two nodes with a pod each, in which all is as it should be.
func sound() Observation {
	instance := func(n, subnet string) aws.Instance {
		return aws.Instance{
			ID: "i-" + n, State: "running", Zone: "us-east-1a", SubnetID: subnet, VPCID: "vpc", PrivateDNS: "node-" + n, LaunchTime: now.Add(-time.Hour),
			UserData: []byte("kubelet:\n  maxPods: 110\n"), Tags: map[string]string{karpenter.NodePoolLabelKey: "spot"},
		}
	}
	eni := func(id, instance string, index int32, primary string, prefixes ...netip.Prefix) aws.Interface {
		subnet := "pods"
		if index == 0 {
			subnet = "nodes"
		}
		return aws.Interface{
			ID: id, SubnetID: subnet, VPCID: "vpc", Zone: "us-east-1a", Primary: address(primary), Prefixes: prefixes,
			Attachment: &aws.Attachment{InstanceID: instance, DeviceIndex: index, Status: "attached"},
		}
	}
	pod := func(n, ip string) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "pod-" + n, UID: types.UID("uid-" + n), CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))},
			Spec:       corev1.PodSpec{NodeName: "node-" + n},
			Status: corev1.PodStatus{
				Phase: corev1.PodRunning, PodIP: ip, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			},
		}
	}
	claim := func(n string) karpenter.NodeClaim {
		return karpenter.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim-" + n}, Status: karpenter.NodeClaimStatus{ProviderID: "aws:///us-east-1a/i-" + n}}
	}
	return Observation{
		At: now, Fresh: true, Quiet: time.Minute,
		Account: aws.Snapshot{
			Subnets: []aws.Subnet{
				{ID: "nodes", VPCID: "vpc", Zone: "us-east-1a", CIDR: prefix("10.0.0.0/24")}, {ID: "pods", VPCID: "vpc", Zone: "us-east-1a", CIDR: prefix("100.64.0.0/24")},
			},
			Instances: []aws.Instance{instance("1", "nodes"), instance("2", "nodes")},
			Interfaces: []aws.Interface{
				eni("eni-1", "i-1", 0, "10.0.0.10"), eni("eni-2", "i-2", 0, "10.0.0.11"),
				eni("eni-3", "i-1", 1, "100.64.0.5", prefix("100.64.0.16/28")), eni("eni-4", "i-2", 1, "100.64.0.6", prefix("100.64.0.32/28")),
			},
		},
		Pods:   []corev1.Pod{pod("1", "100.64.0.17"), pod("2", "100.64.0.33")},
		Claims: []karpenter.NodeClaim{claim("1"), claim("2")},
		Zones:  []v1alpha1.ZoneStatus{{Zone: "us-east-1a", Subnet: "pods", FreePrefixes: 12}},
		Machines: map[string]Machine{
			"i-1": {Pods: map[string][]netip.Addr{"uid-1": {address("100.64.0.17")}}, Leases: map[netip.Addr]string{address("100.64.0.17"): "default/pod-1"}},
			"i-2": {Pods: map[string][]netip.Addr{"uid-2": {address("100.64.0.33")}}, Leases: map[netip.Addr]string{address("100.64.0.33"): "default/pod-2"}},
		},
		Replies: map[string]Reply{"100.64.0.17": {OK: now}, "100.64.0.33": {OK: now}},
		WaysOut: map[string]string{"uid-1": ""},
	}
}

func TestASoundClusterIsNotObjectedTo(t *testing.T) {
	require.Empty(t, judge(sound()))
}

func TestEachInvariantObjectsToWhatBreaksIt(t *testing.T) {
	for invariant, spoil := range map[string]func(*Observation){
		"an address is twice in the VPC": func(o *Observation) {
			o.Account.Interfaces[3].Prefixes = append(o.Account.Interfaces[3].Prefixes, prefix("100.64.0.16/28"))
		},
		"an interface holds what its subnet does not have": func(o *Observation) { o.Account.Interfaces[2].Secondaries = []netip.Addr{address("10.0.0.77")} },
		"two pods have one address": func(o *Observation) {
			o.Machines["i-2"].Pods["uid-3"] = []netip.Addr{address("100.64.0.17")}
		},
		"a pod has an address that its node does not hold in EC2": func(o *Observation) { o.Account.Interfaces[2].Prefixes = nil },
		"a pod that is Ready has another address in the kernel":   func(o *Observation) { o.Pods[0].Status.PodIP = "100.64.0.18" },
		"a pod has an address that is not leased":                 func(o *Observation) { delete(o.Machines["i-1"].Leases, address("100.64.0.17")) },
		"an address is leased and no pod has it":                  func(o *Observation) { o.Machines["i-1"].Leases[address("100.64.0.20")] = "default/gone" },
		"a pod that is Ready does not answer":                     func(o *Observation) { o.Replies["100.64.0.17"] = Reply{OK: now.Add(-time.Minute), Failed: now} },
		"a pod that is Ready does not reach the internet":         func(o *Observation) { o.WaysOut["uid-1"] = "timeout" },
		"a node was not told its max-pods":                        func(o *Observation) { o.Account.Instances[0].UserData = []byte("#!/bin/sh") },
		"a pod subnet is over-committed": func(o *Observation) {
			third := o.Account.Instances[0]
			third.ID, third.PrivateDNS = "i-3", "node-3"
			o.Account.Instances = append(o.Account.Instances, third)
			o.Claims = append(o.Claims, karpenter.NodeClaim{Status: karpenter.NodeClaimStatus{ProviderID: "aws:///us-east-1a/i-3"}})
		},
		"a pod network says more than there is": func(o *Observation) { o.Zones[0].FreePrefixes = 13 },
		"an instance has no NodeClaim":          func(o *Observation) { o.Claims = o.Claims[:1] },
		"a NodeClaim's instance has ended":      func(o *Observation) { o.Account.Instances[0].State = "terminated" },
		"an ENI is not attached":                func(o *Observation) { o.Account.Interfaces[3].Attachment = nil },
		"nobody says why a pod waits":           func(o *Observation) { o.Why = map[string]diagnosis.Answer{"pod-3": {}} },
	} {
		t.Run(invariant, func(t *testing.T) {
			o := sound()
			spoil(&o)
			var found []string
			for _, objection := range judge(o) {
				found = append(found, objection.Invariant)
			}
			require.Contains(t, found, invariant)
		})
	}
}

// TestWhatOthersTakeIsNoOverCommitmentUntilItCanBeKnown: two nodes fit; then somebody takes the rest.
func TestWhatOthersTakeIsNoOverCommitmentUntilItCanBeKnown(t *testing.T) {
	const invariant = "a pod subnet is over-committed"
	o := sound()
	o.Account.Interfaces = append(o.Account.Interfaces, aws.Interface{
		ID: "eni-5", SubnetID: "pods", VPCID: "vpc", Primary: address("100.64.0.48"), Attachment: &aws.Attachment{Status: "attached"},
		Prefixes: []netip.Prefix{prefix("100.64.0.64/28"), prefix("100.64.0.80/28"), prefix("100.64.0.96/28")},
	})
	o.Zones[0].FreePrefixes = 0
	invariants := func() (found []string) {
		for _, objection := range judge(o) {
			found = append(found, objection.Invariant)
		}
		return found
	}
	o.Filled = map[string]time.Time{"pods": now.Add(-10 * time.Minute)}
	require.NotContains(t, invariants(), invariant, "the nodes were there before")
	o.Account.Instances[1].LaunchTime = now.Add(-5 * time.Minute)
	require.Contains(t, invariants(), invariant, "a node was launched though its addresses were taken")
	o.Account.Instances[1].UserData = append(o.Account.Instances[1].UserData, "--node-labels=dovetail.dev/prefix-delegation=Disabled"...)
	require.NotContains(t, invariants(), invariant, "one of single addresses needs no /28")
}

func TestBrokenMachinesAreNotAskedForMore(t *testing.T) {
	for name, spoil := range map[string]func(*aws.Instance){
		"it hangs":    func(i *aws.Instance) { i.Hangs = true },
		"it is going": func(i *aws.Instance) { i.State = "shutting-down" },
	} {
		t.Run(name, func(t *testing.T) {
			o := sound()
			spoil(&o.Account.Instances[0])
			o.Replies["100.64.0.17"], o.WaysOut["uid-1"] = Reply{Failed: now}, "timeout"
			delete(o.Machines["i-1"].Leases, address("100.64.0.17"))
			for _, objection := range judge(o) {
				require.Equal(t, "a NodeClaim's instance has ended", objection.Invariant)
			}
		})
	}
}

func TestAnObjectionIsAViolationWhenItLastsTooLong(t *testing.T) {
	objection := func(key string, bound time.Duration) Objection {
		return Objection{Invariant: "it is so", Key: key, Bound: bound}
	}
	type look struct {
		after      time.Duration // since the look before
		objections []Objection
		violations int
	}
	slow, atOnce := objection("a", 10*time.Second), objection("a", 0)
	for name, looks := range map[string][]look{
		"it lasts":                      {{0, []Objection{slow}, 0}, {6 * time.Second, []Objection{slow}, 0}, {6 * time.Second, []Objection{slow}, 1}},
		"one look is not enough":        {{0, []Objection{atOnce}, 0}, {3 * time.Second, []Objection{atOnce}, 1}},
		"it is over":                    {{0, []Objection{slow}, 0}, {6 * time.Second, nil, 0}, {6 * time.Second, []Objection{slow}, 0}},
		"about another":                 {{0, []Objection{slow}, 0}, {time.Minute, []Objection{objection("b", 10*time.Second)}, 0}},
		"nobody looked for a long time": {{0, []Objection{slow}, 0}, {time.Hour, []Objection{slow}, 0}, {3 * time.Second, []Objection{slow}, 1}},
		"said twice in a look":          {{0, []Objection{atOnce, atOnce}, 0}, {3 * time.Second, []Objection{atOnce, atOnce}, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			tracker, at := newTracker(), now
			for i, l := range looks {
				at = at.Add(l.after)
				violations := tracker.see(at, l.objections)
				require.Len(t, violations, l.violations, "look %d", i)
				if len(violations) > 0 {
					require.Equal(t, violations[0], tracker.longest["it is so"])
				}
			}
		})
	}
}
