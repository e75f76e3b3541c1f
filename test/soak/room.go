// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"
	podutils "sigs.k8s.io/karpenter/pkg/utils/pod"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// blockSize is the addresses of a /28; AWS keeps the first four of a subnet and the last.
const (
	blockSize     = 16
	reservedFirst = 4
)

// freeBlocks of a subnet are its /28s that nothing touches, counted here from what interfaces hold, and by no code of Dovetail's.
func freeBlocks(account aws.Snapshot, subnet aws.Subnet, counts func(aws.Interface) bool) int {
	size := 1 << (32 - subnet.CIDR.Bits())
	free := make([]bool, size/blockSize)
	for i := range free {
		free[i] = true
	}
	first := number(subnet.CIDR.Masked().Addr())
	take := func(offset int) {
		if offset >= 0 && offset < size { // what lies outside is objected to elsewhere
			free[offset/blockSize] = false
		}
	}
	for i := range reservedFirst {
		take(i)
	}
	take(size - 1)
	for _, i := range account.Interfaces {
		if i.SubnetID == subnet.ID && counts(i) {
			for _, prefix := range held(i) {
				take(number(prefix.Addr()) - first)
			}
		}
	}
	return lo.Count(free, true)
}

func number(a netip.Addr) int {
	b := a.As4()
	return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
}

// launchedMaxPods and launchedSingle read from user data what a machine was told, whatever format it is in.
var (
	launchedMaxPods = regexp.MustCompile(`(?i)max-?pods["']?\s*[:=]\s*["']?(\d+)`)
	launchedSingle  = v1alpha1.LabelPrefixDelegation + "=" + string(v1alpha1.Disabled)
)

// blocksOf is how many /28s a machine may come to hold for its pods: 0 for one of single addresses.
func blocksOf(instance aws.Instance) (int, error) {
	data := string(instance.UserData)
	if strings.Contains(data, launchedSingle) {
		return 0, nil
	}
	match := launchedMaxPods.FindStringSubmatch(data)
	if match == nil {
		return 0, fmt.Errorf("instance %s: its user data have no max-pods", instance.ID)
	}
	pods, err := strconv.Atoi(match[1])
	return (pods + blockSize - 1) / blockSize, err
}

// podSubnetsKept: the nodes of a pod subnet never need more /28s than it has, were they all full of pods. Where others take addresses, no
// node is launched that then has no room.
func podSubnetsKept(w *world) (found []Objection) {
	for _, subnet := range w.Account.Subnets {
		promised, nodes, last := 0, []string{}, aws.Instance{}
		if !w.isPodSubnet(subnet.ID) {
			continue
		}
		for _, instance := range w.Account.Instances {
			_, ours := instance.Tags[karpenter.NodePoolLabelKey]
			if !ours || instance.Zone != subnet.Zone || instance.State == "shutting-down" || instance.State == "terminated" {
				continue
			}
			need, err := blocksOf(instance)
			if err != nil {
				found = append(found, Objection{"a node was not told its max-pods", instance.ID, err.Error(), 0})
			}
			holds := 0
			for _, i := range w.Account.Interfaces {
				if i.SubnetID == subnet.ID && i.Attachment != nil && i.Attachment.InstanceID == instance.ID {
					holds += len(i.Prefixes)
				}
			}
			promised += max(need, holds)
			nodes = append(nodes, fmt.Sprintf("%s %d (holds %d)", instance.ID, need, holds))
			if need > 0 && instance.LaunchTime.After(last.LaunchTime) {
				last = instance
			}
		}
		foreign := func(i aws.Interface) bool { return i.Attachment != nil && i.Attachment.InstanceID == "" }
		has := freeBlocks(w.Account, subnet, func(aws.Interface) bool { return false })
		without := freeBlocks(w.Account, subnet, foreign)
		since, filled := w.Filled[subnet.ID]
		if promised > has || filled && promised > without && last.LaunchTime.Sub(since) > staleRoom {
			found = append(found, Objection{"a pod subnet is over-committed", subnet.ID, fmt.Sprintf("%s has %d /28s, %d of them not taken by others; its nodes may need %d: %s", subnet.ID, has, without, promised, strings.Join(nodes, ", ")), atOnce})
		}
	}
	return found
}

func (w *world) isPodSubnet(id string) bool {
	return slices.ContainsFunc(w.Zones, func(zone v1alpha1.ZoneStatus) bool { return zone.Subnet == id })
}

// statusOfSubnets: while nothing changes from outside, the pod network says no more /28s than there are.
func statusOfSubnets(w *world) (found []Objection) {
	if !w.Fresh {
		return nil
	}
	for _, zone := range w.Zones {
		for _, subnet := range w.Account.Subnets {
			if subnet.ID != zone.Subnet {
				continue
			}
			free := freeBlocks(w.Account, subnet, func(aws.Interface) bool { return true })
			if int(zone.FreePrefixes) > free {
				found = append(found, Objection{"a pod network says more than there is", subnet.ID, fmt.Sprintf("%s has %d free /28s, the pod network says %d", subnet.ID, free, zone.FreePrefixes), optimism})
			}
		}
	}
	return found
}

// waiting pods have no address, long after they were made.
func waiting(o Observation) (pods []corev1.Pod) {
	for i := range o.Pods {
		if pod := &o.Pods[i]; pod.Status.PodIP == "" && pod.DeletionTimestamp == nil && !podutils.IsTerminal(pod) && o.At.Sub(pod.CreationTimestamp.Time) > explained {
			pods = append(pods, *pod)
		}
	}
	return pods
}
