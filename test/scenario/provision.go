// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	vpccni "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Provision declares a PodNetwork that extends the VPC, in place of the examples' and their ENIConfigs, and waits until it is ready.
func (s *Sandbox) Provision(ctx context.Context, network string, declared v1alpha1.Provision) (*v1alpha1.ProvisionStatus, error) {
	if err := s.Kube.DeleteAllOf(ctx, &vpccni.ENIConfig{}); err != nil {
		return nil, fmt.Errorf("deleting the ENIConfigs of the examples: %w", err)
	}
	if err := s.deletePodNetwork(ctx, network); err != nil {
		return nil, err
	}
	object := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: network}, Spec: v1alpha1.PodNetworkSpec{Provision: &declared}}
	if err := s.Kube.Create(ctx, object); err != nil {
		return nil, fmt.Errorf("creating PodNetwork %s: %w", network, err)
	}
	if _, err := s.waitCondition(ctx, network, v1alpha1.ConditionProvisioned, metav1.ConditionTrue, ""); err != nil {
		return nil, err
	}
	if err := s.WaitReady(ctx, network); err != nil {
		return nil, err
	}
	err := s.Kube.Get(ctx, client.ObjectKeyFromObject(object), object)
	return object.Status.Provision, err
}

// EndProvision deletes such a PodNetwork, waits until what it made is gone, and applies the examples again.
func (s *Sandbox) EndProvision(ctx context.Context, network string) error {
	if err := s.deletePodNetwork(ctx, network); err != nil {
		return err
	}
	_, err := s.Apply(ctx, "Deployment")
	return err
}

func (s *Sandbox) deletePodNetwork(ctx context.Context, network string) error {
	object := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: network}}
	if err := client.IgnoreNotFound(s.Kube.Delete(ctx, object)); err != nil {
		return fmt.Errorf("deleting PodNetwork %s: %w", network, err)
	}
	return until(ctx, "PodNetwork "+network+" is gone", func(ctx context.Context) error {
		err := s.Kube.Get(ctx, client.ObjectKeyFromObject(object), object)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, fmt.Errorf("its conditions are %+v", object.Status.Conditions))
	})
}

// SubnetsIn returns the subnets of the account that lie in a CIDR.
func (s *Sandbox) SubnetsIn(ctx context.Context, cidr netip.Prefix) (found []string, err error) {
	out, err := s.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{})
	if err != nil {
		return nil, fmt.Errorf("reading subnets: %w", err)
	}
	for _, subnet := range out.Subnets {
		if p, err := netip.ParsePrefix(*subnet.CidrBlock); err == nil && cidr.Overlaps(p) {
			found = append(found, *subnet.SubnetId)
		}
	}
	return found, nil
}
