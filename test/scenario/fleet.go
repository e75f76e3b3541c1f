// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"path"

	"github.com/aws/aws-sdk-go-v2/aws"
	corev1 "k8s.io/api/core/v1"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"
)

// Member of the fleet: any node but the system's.
type Member struct {
	Type string
	// MaxPods is the capacity of the Node object.
	MaxPods int
	// Karpenter launched it.
	Karpenter bool
	// Addresses that its ENIs take of the node's own subnet.
	Addresses int
}

// Fleet reads what nodes there are, whoever launched them, and what each takes of its subnet by EC2's account.
func (s *Sandbox) Fleet(ctx context.Context) ([]Member, error) {
	inventory, err := s.inventory(ctx)
	if err != nil {
		return nil, err
	}
	var nodes corev1.NodeList
	if err := s.Kube.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	var fleet []Member
	for i := range nodes.Items {
		node := &nodes.Items[i]
		id := path.Base(node.Spec.ProviderID)
		instance, ok := inventory.Instances[id]
		if node.Labels[nodeGroupLabel] == "system" || !ok {
			continue
		}
		member := Member{Type: string(instance.InstanceType), MaxPods: int(node.Status.Capacity.Pods().Value()), Karpenter: node.Labels[karpenter.NodePoolLabelKey] != ""}
		for _, i := range inventory.Interfaces {
			if i.Attachment != nil && aws.ToString(i.Attachment.InstanceId) == id && aws.ToString(i.SubnetId) == aws.ToString(instance.SubnetId) {
				member.Addresses += len(i.PrivateIpAddresses)
			}
		}
		fleet = append(fleet, member)
	}
	return fleet, nil
}
