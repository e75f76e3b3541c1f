// SPDX-License-Identifier: Apache-2.0

// Package podnetwork knows what a PodNetwork means in a VPC: which node classes it serves, which ENIConfig and subnet
// serve a zone, and how many addresses and /28 blocks those subnets have left.
package podnetwork

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// ForNodeClass returns the PodNetwork that serves a node class, nil when none does. Of several the oldest wins, so that
// a second one by mistake changes nothing; the controller reports the conflict on both.
func ForNodeClass(ctx context.Context, reader client.Reader, nodeClass *ec2nodeclass.EC2NodeClass) (*v1alpha1.PodNetwork, error) {
	networks := &v1alpha1.PodNetworkList{}
	if err := reader.List(ctx, networks); err != nil {
		return nil, fmt.Errorf("listing PodNetworks, %w", err)
	}
	if serving := Serving(networks.Items, nodeClass); len(serving) > 0 {
		return serving[0], nil
	}
	return nil, nil
}

// Serving returns the PodNetworks whose selector matches the node class, the one that counts first. One whose selector cannot
// be read selects nothing: the controller says so on it, and the others go on.
func Serving(networks []v1alpha1.PodNetwork, nodeClass *ec2nodeclass.EC2NodeClass) []*v1alpha1.PodNetwork {
	var serving []*v1alpha1.PodNetwork
	for i := range networks {
		if matches, err := Selects(&networks[i], nodeClass); err == nil && matches && networks[i].DeletionTimestamp.IsZero() {
			serving = append(serving, &networks[i])
		}
	}
	slices.SortFunc(serving, func(a, b *v1alpha1.PodNetwork) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return serving
}

// Selects tells whether the network's nodeClassSelector matches. An empty selector matches all. Windows node classes are on no
// pod network: Amazon EKS has no custom networking for Windows.
func Selects(network *v1alpha1.PodNetwork, nodeClass *ec2nodeclass.EC2NodeClass) (bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(&network.Spec.NodeClassSelector)
	if err != nil {
		return false, fmt.Errorf("spec.nodeClassSelector of PodNetwork %s, %w", network.Name, err)
	}
	return selector.Matches(labels.Set(nodeClass.Labels)) && !isWindows(nodeClass.AMIFamily()), nil
}

func isWindows(amiFamily string) bool {
	switch amiFamily {
	case ec2nodeclass.AMIFamilyWindows2019, ec2nodeclass.AMIFamilyWindows2022, ec2nodeclass.AMIFamilyWindows2025:
		return true
	default:
		return false
	}
}
