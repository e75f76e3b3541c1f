// SPDX-License-Identifier: Apache-2.0

package provisioning

import (
	"context"
	"fmt"
	"maps"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

// execute an action. It returns the id of what was made.
func (c *Controller) execute(ctx context.Context, network *v1alpha1.PodNetwork, in *provision.Input, a provision.Action) (id string, err error) {
	subnet := ""
	if s := in.Subnet(a); s != nil {
		subnet = s.ID
	}
	switch a.Kind {
	case provision.AssociateCIDR:
		out, err := c.EC2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: aws.String(in.VPC.ID), CidrBlock: aws.String(a.CIDR.String())})
		if err != nil {
			return "", called("ec2:AssociateVpcCidrBlock", err)
		}
		return aws.ToString(out.CidrBlockAssociation.AssociationId), nil
	case provision.CreateSubnet:
		out, err := c.EC2.CreateSubnet(ctx, &ec2.CreateSubnetInput{
			VpcId: aws.String(in.VPC.ID), AvailabilityZone: aws.String(a.Zone), CidrBlock: aws.String(a.CIDR.String()),
			TagSpecifications: c.tagged(ec2types.ResourceTypeSubnet, network, fmt.Sprintf("%s-pods-%s-%s", c.Cluster, network.Name, a.Zone)),
		})
		if err != nil {
			return "", called("ec2:CreateSubnet", err)
		}
		return aws.ToString(out.Subnet.SubnetId), nil
	case provision.CreateReservation:
		out, err := c.EC2.CreateSubnetCidrReservation(ctx, &ec2.CreateSubnetCidrReservationInput{
			SubnetId: aws.String(subnet), Cidr: aws.String(a.CIDR.String()), ReservationType: ec2types.SubnetCidrReservationTypePrefix,
			Description:       aws.String(fmt.Sprintf("prefixes of pods, PodNetwork %s of %s", network.Name, c.Cluster)),
			TagSpecifications: c.tagged(ec2types.ResourceTypeSubnetCidrReservation, network, ""),
		})
		if err != nil {
			return "", called("ec2:CreateSubnetCidrReservation", err)
		}
		return aws.ToString(out.SubnetCidrReservation.SubnetCidrReservationId), nil
	case provision.AssociateRouteTable:
		out, err := c.EC2.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: aws.String(a.RouteTable), SubnetId: aws.String(subnet)})
		if err != nil {
			return "", called("ec2:AssociateRouteTable", err)
		}
		return aws.ToString(out.AssociationId), nil
	case provision.CreateENIConfig:
		return "", c.createENIConfig(ctx, network, a.ENIConfig, subnet)
	case provision.UpdateENIConfig:
		return "", c.updateENIConfig(ctx, network, a.ENIConfig, subnet)
	}
	return "", fmt.Errorf("no action is called %q", a.Kind)
}

// tagged makes a thing ours from its first moment: what is created and tagged later may be neither after a crash.
func (c *Controller) tagged(kind ec2types.ResourceType, network *v1alpha1.PodNetwork, name string) []ec2types.TagSpecification {
	tags := []ec2types.Tag{
		{Key: aws.String(v1alpha1.TagCluster), Value: aws.String(c.Cluster)},
		{Key: aws.String(v1alpha1.TagPodNetwork), Value: aws.String(network.Name)},
	}
	if name != "" {
		tags = append(tags, ec2types.Tag{Key: aws.String("Name"), Value: aws.String(name[:min(len(name), 256)])}) // EC2 takes 256 characters
	}
	return []ec2types.TagSpecification{{ResourceType: kind, Tags: tags}}
}

func (c *Controller) createENIConfig(ctx context.Context, network *v1alpha1.PodNetwork, wanted provision.ENIConfig, subnet string) error {
	config := &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: wanted.Name}}
	if err := c.fill(config, network, wanted, subnet); err != nil {
		return err
	}
	if err := c.Client.Create(ctx, config); err != nil {
		return fmt.Errorf("creating ENIConfig %s, %w", wanted.Name, err)
	}
	return nil
}

func (c *Controller) updateENIConfig(ctx context.Context, network *v1alpha1.PodNetwork, wanted provision.ENIConfig, subnet string) error {
	config := &eniconfig.ENIConfig{}
	if err := c.Client.Get(ctx, client.ObjectKey{Name: wanted.Name}, config); err != nil {
		return fmt.Errorf("getting ENIConfig %s, %w", wanted.Name, err)
	}
	stored := config.DeepCopy()
	if err := c.fill(config, network, wanted, subnet); err != nil {
		return err
	}
	if err := c.Client.Patch(ctx, config, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("writing ENIConfig %s, %w", wanted.Name, err)
	}
	return nil
}

// fill an ENIConfig with what the network wants of it; what else it has stays.
func (c *Controller) fill(config *eniconfig.ENIConfig, network *v1alpha1.PodNetwork, wanted provision.ENIConfig, subnet string) error {
	if config.Labels == nil {
		config.Labels = map[string]string{}
	}
	maps.Copy(config.Labels, network.Spec.ENIConfigs.Selector.MatchLabels)
	metav1.SetMetaDataAnnotation(&config.ObjectMeta, v1alpha1.AnnotationProvision, network.Name)
	config.Spec.Subnet, config.Spec.SecurityGroups = subnet, append([]string{}, wanted.SecurityGroups...)
	if err := controllerutil.SetControllerReference(network, config, c.Client.Scheme()); err != nil {
		return fmt.Errorf("ENIConfig %s, %w", config.Name, err)
	}
	return nil
}
