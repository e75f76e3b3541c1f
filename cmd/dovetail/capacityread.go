// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// readCapacity of the pod subnets, and says on notes when it is not from EC2 though nobody asked for that.
func readCapacity(ctx context.Context, cluster client.Client, opts capacityOptions, notes io.Writer) (capacities, error) {
	networks, err := cli.PodNetworks(ctx, cluster, opts.network)
	if err != nil {
		return capacities{}, err
	}
	found := capacities{Source: cmp.Or(opts.source, fromEC2), PodNetworks: lo.Map(networks, func(n v1alpha1.PodNetwork, _ int) networkCapacity { return written(&n) })}
	if found.Source == fromStatus {
		return found, nil
	}
	region := regionOf(networks)
	if region == "" {
		return found, nil // without a zone there is nothing to read
	}
	reader, err := connectEC2(ctx, region)
	switch {
	case err != nil && opts.source == "" && !opts.showMap:
		fmt.Fprintf(notes, "What the controller last wrote, %v.\n", err)
		found.Source = fromStatus
		return found, nil
	case err != nil:
		return capacities{}, fmt.Errorf("the pod subnets cannot be read from EC2, %w", err)
	}
	return found, found.read(ctx, cluster, reader, opts.showMap)
}

// written by the controller.
func written(network *v1alpha1.PodNetwork) networkCapacity {
	ready := network.StatusConditions().Get(status.ConditionReady)
	found := networkCapacity{Name: network.Name, Ready: string(ready.Status), Subnets: []subnetCapacity{}}
	if !ready.IsTrue() {
		found.Reason, found.Message = ready.Reason, ready.Message
	}
	for _, z := range network.Status.Zones {
		found.Subnets = append(found.Subnets, subnetCapacity{
			Zone: z.Zone, ENIConfig: z.ENIConfig, Subnet: z.Subnet, CIDR: z.CIDR, FreePrefixes: int(z.FreePrefixes), FreeAddresses: int(z.FreeAddresses),
			Reserved: int(z.Reserved), CommittedPrefixes: int(z.CommittedPrefixes), CommittedAddresses: int(z.CommittedAddresses), Fragmentation: int(z.Fragmentation),
		})
	}
	return found
}

// regionOf the pod subnets. It is not the one that the environment names: that may be another cluster's.
func regionOf(networks []v1alpha1.PodNetwork) string {
	for _, network := range networks {
		for _, zone := range network.Status.Zones {
			if region := cli.Region(zone.Zone); region != "" {
				return region
			}
		}
	}
	return ""
}

func connectEC2(ctx context.Context, region string) (*podsubnet.Reader, error) {
	cfg, err := cli.AWS(ctx, region)
	if err != nil {
		return nil, fmt.Errorf("since %w", err)
	}
	return &podsubnet.Reader{EC2: ec2.NewFromConfig(cfg), Ledger: podnetwork.NewLedger(clock.RealClock{}), Clock: clock.RealClock{}}, nil
}

// read the subnets from EC2, as the controller does.
func (c *capacities) read(ctx context.Context, cluster client.Client, reader *podsubnet.Reader, blocks bool) error {
	var ids []string
	for _, network := range c.PodNetworks {
		for _, s := range network.Subnets {
			ids = append(ids, s.Subnet)
		}
	}
	slices.Sort(ids)
	if err := reader.Ensure(ctx, slices.Compact(ids)...); err != nil {
		return fmt.Errorf("%w; --source status prints what the controller last wrote", err)
	}
	claims := &karpv1.NodeClaimList{}
	if _, err := cli.List(ctx, cluster, claims); err != nil {
		return fmt.Errorf("listing NodeClaims, for which room is set aside, %w", err)
	}
	for i := range claims.Items {
		podnetwork.Recall(reader.Ledger, &claims.Items[i])
	}
	for _, network := range c.PodNetworks {
		for i := range network.Subnets {
			network.Subnets[i].observe(reader.Ledger, blocks)
		}
	}
	return nil
}

func (s *subnetCapacity) observe(ledger *podnetwork.Ledger, blocks bool) {
	s.snapshot = ledger.Snapshot(s.Subnet)
	if s.snapshot == nil {
		*s = subnetCapacity{Zone: s.Zone, ENIConfig: s.ENIConfig, Subnet: s.Subnet, CIDR: s.CIDR, Missing: true}
		return
	}
	capacity, room := s.snapshot.Capacity, ledger.Room(s.Subnet)
	s.CIDR = s.snapshot.CIDR.String()
	s.FreePrefixes, s.FreeAddresses = capacity.FreePrefixes, capacity.FreeAddresses
	s.Reserved, s.Fragmentation = capacity.Reserved, capacity.Fragmentation
	s.CommittedPrefixes, s.CommittedAddresses = room.Aside.Blocks, room.Aside.Addresses
	if blocks {
		s.Blocks = s.snapshot.Blocks.String()
	}
}
