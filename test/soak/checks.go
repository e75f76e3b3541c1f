// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// Machine is what a node holds for its pods, by its kernel and its files: see netprobe machine.
type Machine struct {
	Pods   map[string][]netip.Addr `json:"pods"`
	Leases map[netip.Addr]string   `json:"leases"`
}

// Reply of a pod to requests: when the last was answered, and when and how the last was not.
type Reply struct {
	OK, Failed time.Time
	Why        string
}

// Observation is one look at everything, from sources that do not know of each other.
type Observation struct {
	At time.Time
	// Account of the simulator: what EC2 would say if it were asked, whatever fault is in the way of others who ask.
	Account aws.Snapshot
	// Fresh: the API server has answered. What follows is from the last time that it did.
	Fresh  bool
	Pods   []corev1.Pod // of the soak
	Nodes  []corev1.Node
	Claims []karpenter.NodeClaim
	Zones  []v1alpha1.ZoneStatus // of the pod network
	// Machines that were read, by instance.
	Machines map[string]Machine
	// Replies of pods to a client elsewhere in the VPC, by address.
	Replies map[string]Reply
	// WaysOut are what pods that were tried got from the internet, by UID; "" where it answered.
	WaysOut map[string]string
	// Why is what Dovetail says of pods that wait, by name.
	Why map[string]diagnosis.Answer
	// Quiet is how long no fault has been active.
	Quiet time.Duration
	// Filled pod subnets, and since when: somebody else takes their addresses.
	Filled map[string]time.Time
}

// How long what is on its way may take. The long ones are what Karpenter and Dovetail promise of leftovers, and some for the machine.
const (
	atOnce     = 4 * time.Second  // two looks: two sources are not read at the same instant
	soon       = 12 * time.Second // a kubelet or an agent is about to say it, or to do it
	network    = 20 * time.Second // a pod that is Ready answers
	explained  = 30 * time.Second // from a pod's creation to when it counts as waiting, and from then on until somebody says why
	leftBehind = 2 * time.Minute  // a lease without its pod
	orphaned   = 6 * time.Minute  // an instance that Karpenter does not know: it looks every two minutes
	unattached = 12 * time.Minute // an ENI: the controller looks every five minutes, and deletes what it has seen twice
	optimism   = 2 * time.Minute  // a pod network says more /28s than there are
	staleRoom  = time.Minute      // from when addresses are taken by others to when launches count with that
)

// checks are the invariants.
var checks = []func(*world) []Objection{
	addressesInVPC, addressesOfPods, addressesBelong, statusTellsTheAddress, leasesOfPods, networkWorks, wayOut,
	podSubnetsKept, statusOfSubnets, interfacesKept, instancesKept, waitingPodsExplained,
}

// judge an observation.
func judge(o Observation) (objections []Objection) {
	w := newWorld(o)
	for _, check := range checks {
		objections = append(objections, check(w)...)
	}
	return objections
}

// world is an observation with what several checks look up.
type world struct {
	Observation
	// running instances, by id and by the name of their node. Those that hang do not count as running.
	running map[string]aws.Instance
	nodes   map[string]aws.Instance
	pods    map[string]*corev1.Pod // by UID
}

func newWorld(o Observation) *world {
	w := &world{Observation: o, running: map[string]aws.Instance{}, nodes: map[string]aws.Instance{}, pods: map[string]*corev1.Pod{}}
	for _, i := range o.Account.Instances {
		if i.State == "running" && !i.Hangs {
			w.running[i.ID], w.nodes[i.PrivateDNS] = i, i
		}
	}
	for i := range o.Pods {
		w.pods[string(o.Pods[i].UID)] = &o.Pods[i]
	}
	return w
}

func (w *world) podName(uid string) string {
	if pod := w.pods[uid]; pod != nil {
		return "pod " + pod.Name
	}
	return "pod with UID " + uid
}

// machines that run and were read, in order.
func (w *world) machines() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.Machines)), func(id string) bool {
		_, running := w.running[id]
		return !running
	})
}

// held is all that an interface holds.
func held(i aws.Interface) (all []netip.Prefix) {
	for _, address := range append(slices.Clone(i.Secondaries), i.Primary) {
		all = append(all, netip.PrefixFrom(address, address.BitLen()))
	}
	return append(all, i.Prefixes...)
}

// addressesInVPC: no two interfaces of a VPC hold the same address, and each holds addresses of its subnet.
func addressesInVPC(w *world) (found []Objection) {
	type holding struct {
		prefix netip.Prefix
		of     aws.Interface
	}
	holdings := map[string][]holding{}
	subnets := map[string]aws.Subnet{}
	for _, s := range w.Account.Subnets {
		subnets[s.ID] = s
	}
	for _, i := range w.Account.Interfaces {
		for _, prefix := range held(i) {
			holdings[i.VPCID] = append(holdings[i.VPCID], holding{prefix, i})
			if cidr := subnets[i.SubnetID].CIDR; !cidr.Contains(prefix.Addr()) || prefix.Bits() < cidr.Bits() || prefix != prefix.Masked() {
				found = append(found, Objection{"an interface holds what its subnet does not have", i.ID + prefix.String(), fmt.Sprintf("%s holds %s, its subnet %s is %s", i.ID, prefix, i.SubnetID, cidr), 0})
			}
		}
	}
	for _, all := range holdings {
		slices.SortFunc(all, func(a, b holding) int { return a.prefix.Addr().Compare(b.prefix.Addr()) })
		for i := 1; i < len(all); i++ {
			if a, b := all[i-1], all[i]; a.prefix.Overlaps(b.prefix) {
				found = append(found, Objection{"an address is twice in the VPC", a.prefix.String() + b.prefix.String(), fmt.Sprintf("%s of %s and %s of %s", a.prefix, a.of.ID, b.prefix, b.of.ID), 0})
			}
		}
	}
	return found
}

// addressesOfPods: no address is given to two pods, by the kernels of all nodes, by their leases, or by what pods' status says.
func addressesOfPods(w *world) (found []Objection) {
	kernel, leases, stated := map[string][]string{}, map[string][]string{}, map[string][]string{}
	for _, id := range w.machines() {
		machine := w.Machines[id]
		for uid, addresses := range machine.Pods {
			for _, address := range addresses {
				kernel[address.String()] = append(kernel[address.String()], w.podName(uid)+" on "+id)
			}
		}
		for address, pod := range machine.Leases {
			leases[address.String()] = append(leases[address.String()], pod+" on "+id)
		}
	}
	for i := range w.Pods {
		pod := &w.Pods[i]
		if _, running := w.nodes[pod.Spec.NodeName]; running && pod.Status.PodIP != "" && pod.DeletionTimestamp == nil && !podutils.IsTerminal(pod) {
			stated[pod.Status.PodIP] = append(stated[pod.Status.PodIP], "pod "+pod.Name+" on "+pod.Spec.NodeName)
		}
	}
	for source, holders := range map[string]map[string][]string{"kernel": kernel, "leases": leases, "status": stated} {
		for address, pods := range holders {
			if len(pods) > 1 {
				slices.Sort(pods)
				found = append(found, Objection{"two pods have one address", source + address, fmt.Sprintf("%s, by %s: %s", address, source, strings.Join(pods, ", ")), atOnce})
			}
		}
	}
	return found
}

// addressesBelong: what a pod has in the kernel is held in EC2 by an interface of its own node, and not as that interface's own address.
func addressesBelong(w *world) (found []Objection) {
	holders := map[string][]netip.Prefix{}
	for _, i := range w.Account.Interfaces {
		if i.Attachment != nil && i.Attachment.InstanceID != "" && i.Attachment.DeviceIndex > 0 {
			for _, prefix := range held(i) {
				if prefix.Addr() != i.Primary || prefix.Bits() < 32 {
					holders[i.Attachment.InstanceID] = append(holders[i.Attachment.InstanceID], prefix)
				}
			}
		}
	}
	for _, id := range w.machines() {
		for uid, addresses := range w.Machines[id].Pods {
			for _, address := range addresses {
				if !slices.ContainsFunc(holders[id], func(p netip.Prefix) bool { return p.Contains(address) }) {
					found = append(found, Objection{"a pod has an address that its node does not hold in EC2", uid + address.String(), fmt.Sprintf("%s on %s has %s; the node's pod ENIs hold %v", w.podName(uid), id, address, holders[id]), soon})
				}
			}
		}
	}
	return found
}

// statusTellsTheAddress that the kernel has.
func statusTellsTheAddress(w *world) (found []Objection) {
	if !w.Fresh {
		return nil
	}
	for i := range w.Pods {
		pod := &w.Pods[i]
		machine, read := w.Machines[w.nodes[pod.Spec.NodeName].ID]
		if !read || !isReady(pod) {
			continue
		}
		address, _ := netip.ParseAddr(pod.Status.PodIP)
		if in := machine.Pods[string(pod.UID)]; !slices.Contains(in, address) || len(in) != 1 {
			found = append(found, Objection{"a pod that is Ready has another address in the kernel", string(pod.UID), fmt.Sprintf("pod %s on %s says %q, its namespace has %v", pod.Name, pod.Spec.NodeName, pod.Status.PodIP, in), soon})
		}
	}
	return found
}

// isReady, and nobody is about to end it.
func isReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && pod.Status.PodIP != "" && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// leasesOfPods: each address that a pod has is leased, so that nobody else gets it; and what is leased is a pod's.
func leasesOfPods(w *world) (found []Objection) {
	for _, id := range w.machines() {
		machine := w.Machines[id]
		used := map[netip.Addr]bool{}
		for uid, addresses := range machine.Pods {
			for _, address := range addresses {
				used[address] = true
				if _, leased := machine.Leases[address]; !leased {
					found = append(found, Objection{"a pod has an address that is not leased", uid + address.String(), fmt.Sprintf("%s on %s has %s", w.podName(uid), id, address), soon})
				}
			}
		}
		for address, pod := range machine.Leases {
			if !used[address] {
				found = append(found, Objection{"an address is leased and no pod has it", id + address.String() + pod, fmt.Sprintf("%s on %s, leased by %s", address, id, pod), leftBehind})
			}
		}
	}
	return found
}

// networkWorks: a pod that is Ready answers, also while the API server is away, and whatever else is broken.
func networkWorks(w *world) (found []Objection) {
	for i := range w.Pods {
		pod := &w.Pods[i]
		if _, running := w.nodes[pod.Spec.NodeName]; !running || !isReady(pod) {
			continue
		}
		if reply := w.Replies[pod.Status.PodIP]; reply.Failed.After(reply.OK) {
			found = append(found, Objection{"a pod that is Ready does not answer", string(pod.UID), fmt.Sprintf("pod %s, %s on %s: %s; it answered last at %s", pod.Name, pod.Status.PodIP, pod.Spec.NodeName, reply.Why, reply.OK.Format(time.TimeOnly)), network})
		}
	}
	return found
}

// wayOut: a pod that is Ready reaches the internet.
func wayOut(w *world) (found []Objection) {
	for uid, failure := range w.WaysOut {
		pod := w.pods[uid]
		if pod == nil || failure == "" {
			continue
		}
		if _, running := w.nodes[pod.Spec.NodeName]; running && isReady(pod) {
			found = append(found, Objection{"a pod that is Ready does not reach the internet", uid, fmt.Sprintf("pod %s, %s on %s: %s", pod.Name, pod.Status.PodIP, pod.Spec.NodeName, failure), network})
		}
	}
	return found
}

// instancesKept: each instance of Karpenter's has a NodeClaim, or will soon have ended; and each NodeClaim's instance lives, or the claim
// will soon have gone.
func instancesKept(w *world) (found []Objection) {
	if !w.Fresh {
		return nil
	}
	claimed := map[string]string{}
	for i := range w.Claims {
		if id := w.Claims[i].Status.ProviderID; id != "" {
			claimed[path.Base(id)] = w.Claims[i].Name
		}
	}
	living := map[string]bool{}
	for _, i := range w.Account.Instances {
		living[i.ID] = i.State == "pending" || i.State == "running"
		if _, ours := i.Tags[karpenter.NodePoolLabelKey]; ours && living[i.ID] && claimed[i.ID] == "" {
			found = append(found, Objection{"an instance has no NodeClaim", i.ID, fmt.Sprintf("%s %s (%s), launched %s", i.ID, i.Type, i.State, i.LaunchTime.Format(time.TimeOnly)), orphaned})
		}
	}
	for id, claim := range claimed {
		if !living[id] {
			found = append(found, Objection{"a NodeClaim's instance has ended", claim, fmt.Sprintf("NodeClaim %s, instance %s", claim, id), orphaned})
		}
	}
	return found
}

// interfacesKept: no pod ENI stays without an instance.
func interfacesKept(w *world) (found []Objection) {
	for _, i := range w.Account.Interfaces {
		if i.Attachment == nil {
			found = append(found, Objection{"an ENI is not attached", i.ID, fmt.Sprintf("%s in %s, %q, tags %v", i.ID, i.SubnetID, i.Description, i.Tags), unattached})
		}
	}
	return found
}

// waitingPodsExplained: of a pod that has no address for long, `dovetail why` names a cause, with a sentence.
func waitingPodsExplained(w *world) (found []Objection) {
	for name, answer := range w.Why {
		cause := answer.Cause()
		switch {
		case len(answer.Findings) == 0 || answer.Findings[0].Message == "":
			found = append(found, Objection{"nobody says why a pod waits", name, fmt.Sprintf("pod %s: %+v", name, answer), explained})
		case cause == diagnosis.CauseOther, cause == diagnosis.CauseNone, cause == diagnosis.CauseNoNodePool:
			// None of these is true here: each pod has a NodePool, and waits for a node or an address.
			found = append(found, Objection{"nobody says why a pod waits", name, fmt.Sprintf("pod %s: %s: %+v", name, cause, answer.Findings), explained})
		}
	}
	return found
}
