// SPDX-License-Identifier: Apache-2.0

package securitygroups

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/ec2read"
)

// target is what the pod ENIs of a node should have.
type target struct {
	config string
	// groups; none: those of the node's primary ENI.
	groups []string
}

// key of what EC2 accepts or refuses as one.
func (t target) key() string { return t.config + " " + strings.Join(sorted(t.groups), " ") }

// podENI that is attached to a node.
type podENI struct {
	id, instance string
	groups       []string
	wanted       target
}

// outdated lists the pod ENIs whose groups are not what their node's target says, by id. It asks for the whole cluster's ENIs at
// once: one call for each thousand, however many nodes there are.
func (c *Controller) outdated(ctx context.Context, wanted map[string]target) ([]podENI, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	attached, err := c.describe(ctx, ec2read.Filter("tag:"+eni.TagCluster, c.Cluster), ec2read.Filter("status", string(ec2types.NetworkInterfaceStatusInUse)))
	if err != nil {
		return nil, fmt.Errorf("listing the pod ENIs of the cluster, %w", err)
	}
	var enis []podENI
	for _, n := range attached {
		if instance := podENIOf(n); instance != "" {
			if t, ok := wanted[instance]; ok {
				enis = append(enis, podENI{id: aws.ToString(n.NetworkInterfaceId), instance: instance, groups: groupsOf(n), wanted: t})
			}
		}
	}
	if err := c.inherit(ctx, enis); err != nil {
		return nil, err
	}
	enis = lo.Filter(enis, func(e podENI, _ int) bool {
		return len(e.wanted.groups) > 0 && !slices.Equal(sorted(e.groups), sorted(e.wanted.groups))
	})
	slices.SortFunc(enis, func(a, b podENI) int { return cmp.Compare(a.id, b.id) })
	return enis, nil
}

// inherit the groups of the primary ENI, where the ENIConfig has none.
func (c *Controller) inherit(ctx context.Context, enis []podENI) error {
	var instances []string
	for _, e := range enis {
		if len(e.wanted.groups) == 0 {
			instances = append(instances, e.instance)
		}
	}
	primary := map[string][]string{}
	for _, chunk := range lo.Chunk(lo.Uniq(instances), ec2read.ValuesPerFilter) {
		found, err := c.describe(ctx, ec2read.Filter("attachment.instance-id", chunk...), ec2read.Filter("attachment.device-index", "0"))
		if err != nil {
			return fmt.Errorf("reading the security groups of primary ENIs, %w", err)
		}
		for _, n := range found {
			if aws.ToInt32(n.Attachment.NetworkCardIndex) == 0 {
				primary[aws.ToString(n.Attachment.InstanceId)] = groupsOf(n)
			}
		}
	}
	for i := range enis {
		if len(enis[i].wanted.groups) == 0 {
			enis[i].wanted.groups = primary[enis[i].instance]
		}
	}
	return nil
}

// podENIOf returns the instance for whose pods the ENI was made, "" when it is anything else: a node's primary ENI, a trunk or
// an EFA, one that somebody attached, or one that is to be left alone. What an agent makes names its instance; what comes with a
// launch cannot know it yet.
func podENIOf(n ec2types.NetworkInterface) (instance string) {
	tags := lo.SliceToMap(n.TagSet, func(t ec2types.Tag) (string, string) { return aws.ToString(t.Key), aws.ToString(t.Value) })
	a := n.Attachment
	switch {
	case a == nil || a.InstanceId == nil || a.Status == ec2types.AttachmentStatusDetaching:
	case aws.ToInt32(a.DeviceIndex) == 0 || aws.ToInt32(a.NetworkCardIndex) != 0:
	case n.InterfaceType != "" && n.InterfaceType != ec2types.NetworkInterfaceTypeInterface:
	case tags[eni.TagNoManage] == "true":
	case tags[eni.TagInstance] == *a.InstanceId, tags[eni.TagInstance] == "" && tags[eni.TagOwner] == eni.OwnerDovetail:
		return *a.InstanceId
	}
	return ""
}

func (c *Controller) describe(ctx context.Context, filters ...ec2types.Filter) ([]ec2types.NetworkInterface, error) {
	var found []ec2types.NetworkInterface
	for n, err := range ec2read.NetworkInterfaces(ctx, c.EC2, filters...) {
		if err != nil {
			return nil, err
		}
		found = append(found, *n)
	}
	return found, nil
}

func groupsOf(n ec2types.NetworkInterface) []string {
	return lo.Map(n.Groups, func(g ec2types.GroupIdentifier, _ int) string { return aws.ToString(g.GroupId) })
}

// sorted, each once: the order of an ENI's groups means nothing.
func sorted(groups []string) []string {
	groups = slices.Clone(groups)
	slices.Sort(groups)
	return slices.Compact(groups)
}
