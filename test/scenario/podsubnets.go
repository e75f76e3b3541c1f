// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	vpccni "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// setLabel is what a pod network's selector chooses ENIConfigs by.
const setLabel = "dovetail-scenario-set"

// PodSubnets are pod subnets besides the examples', one a zone. Their ENIConfigs bear the name of the set.
type PodSubnets struct {
	Set string
	// ByZone are the ids.
	ByZone map[string]string
}

// CreatePodSubnets makes the subnets of a set. Dovetail knows nothing of them until UsePodSubnets makes their ENIConfigs.
func (s *Sandbox) CreatePodSubnets(ctx context.Context, set string, cidrs map[string]string) (made PodSubnets, err error) {
	made = PodSubnets{Set: set, ByZone: map[string]string{}}
	examples, err := s.eniConfigSubnets(ctx)
	if err != nil {
		return made, err
	}
	for _, zone := range slices.Sorted(maps.Keys(cidrs)) {
		pods, err := s.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{examples[zone]}})
		if err != nil {
			return made, fmt.Errorf("reading pod subnet of zone %s: %w", zone, err)
		}
		subnet, err := s.EC2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: pods.Subnets[0].VpcId, AvailabilityZone: &zone, CidrBlock: new(cidrs[zone])})
		if err != nil {
			return made, fmt.Errorf("creating a pod subnet in zone %s: %w", zone, err)
		}
		made.ByZone[zone] = *subnet.Subnet.SubnetId
	}
	return made, until(ctx, "the new pod subnets are known everywhere", func(ctx context.Context) error {
		_, err := s.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: slices.Collect(maps.Values(made.ByZone))})
		return err
	})
}

// DeletePodSubnets deletes what CreatePodSubnets made. A subnet goes when the last pod ENI in it has gone.
func (s *Sandbox) DeletePodSubnets(ctx context.Context, made PodSubnets) error {
	var problems []error
	for zone, id := range made.ByZone {
		config := &vpccni.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: made.Set + "-" + zone}}
		problems = append(problems, client.IgnoreNotFound(s.Kube.Delete(ctx, config)),
			until(ctx, "pod subnet "+id+" is deleted", func(ctx context.Context) error {
				_, err := s.EC2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &id})
				return err
			}))
	}
	return errors.Join(problems...)
}

// UsePodSubnets makes a set the pod network's. It does not wait.
func (s *Sandbox) UsePodSubnets(ctx context.Context, network string, use PodSubnets) error {
	for _, zone := range slices.Sorted(maps.Keys(use.ByZone)) {
		example := &vpccni.ENIConfig{}
		if err := s.Kube.Get(ctx, client.ObjectKey{Name: zone}, example); err != nil {
			return fmt.Errorf("reading ENIConfig %s: %w", zone, err)
		}
		config := &vpccni.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: use.Set + "-" + zone, Labels: map[string]string{setLabel: use.Set}}, Spec: example.Spec}
		config.Spec.Subnet = use.ByZone[zone]
		if err := s.Kube.Create(ctx, config); err != nil {
			return fmt.Errorf("creating ENIConfig %s: %w", config.Name, err)
		}
	}
	return s.SelectENIConfigs(ctx, network, use.Set)
}

// UseExamplePodSubnets makes the ENIConfigs that are named after the zones the pod network's again.
func (s *Sandbox) UseExamplePodSubnets(ctx context.Context, network string) error {
	return s.setENIConfigs(ctx, network, v1alpha1.ENIConfigs{NodeLabel: corev1.LabelTopologyZone})
}

// SelectENIConfigs makes the ENIConfigs of a set the pod network's, whether there are any or not.
func (s *Sandbox) SelectENIConfigs(ctx context.Context, network, set string) error {
	return s.setENIConfigs(ctx, network, v1alpha1.ENIConfigs{
		NodeLabel: v1alpha1.LabelENIConfig, Selector: metav1.LabelSelector{MatchLabels: map[string]string{setLabel: set}},
	})
}

func (s *Sandbox) setENIConfigs(ctx context.Context, network string, wanted v1alpha1.ENIConfigs) error {
	object := &v1alpha1.PodNetwork{}
	if err := s.Kube.Get(ctx, client.ObjectKey{Name: network}, object); err != nil {
		return fmt.Errorf("reading PodNetwork %s: %w", network, err)
	}
	before := object.DeepCopy()
	object.Spec.ENIConfigs = wanted
	if err := s.Kube.Patch(ctx, object, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("setting the ENIConfigs of PodNetwork %s: %w", network, err)
	}
	return nil
}

// WaitPodSubnets waits until the network is ready with the pod subnets of a set, and what it says of them is as expected.
func (s *Sandbox) WaitPodSubnets(ctx context.Context, network string, wanted PodSubnets, expected func(v1alpha1.ZoneStatus) bool) error {
	return until(ctx, "PodNetwork "+network+" has the pod subnets of "+wanted.Set, func(ctx context.Context) error {
		object := &v1alpha1.PodNetwork{}
		if err := s.Kube.Get(ctx, client.ObjectKey{Name: network}, object); err != nil {
			return err
		}
		found, asExpected := map[string]string{}, true
		for _, zone := range object.Status.Zones {
			found[zone.Zone] = zone.Subnet
			asExpected = asExpected && expected(zone)
		}
		ready := object.StatusConditions().Get(status.ConditionReady)
		if !ready.IsTrue() || ready.ObservedGeneration != object.Generation || !maps.Equal(found, wanted.ByZone) || !asExpected {
			return fmt.Errorf("it has %+v and is %s: %s", object.Status.Zones, ready.Reason, ready.Message)
		}
		return nil
	})
}

// FillSubnet fills or fragments (mode) a subnet, and returns what clears it again, once.
func (s *Sandbox) FillSubnet(ctx context.Context, id, mode, leave string) (clear func(context.Context) error, err error) {
	out, err := s.Dovetail(ctx, "fault", "add", "subnet", id, "--mode", mode, "--leave", leave, "-o", "json")
	if err != nil {
		return nil, err
	}
	fault, err := faultID(out)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if fault == "" {
			return nil
		}
		_, err := s.Dovetail(ctx, "fault", "clear", fault)
		if err == nil {
			fault = ""
		}
		return err
	}, nil
}
