// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	sdk "github.com/aws/karpenter-provider-aws/pkg/aws"
	awserrors "github.com/aws/karpenter-provider-aws/pkg/errors"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
)

// EC2 is the API as upstream's launch template and instance providers call it, with what they have no seam for: a template says nothing of
// the end of pod ENIs and of whose they are, a fleet's error is read as if it could only be about the node subnet, and a fleet request
// that is repeated later makes another instance.
type EC2 struct {
	sdk.EC2API
	Launches *Launches
	// Cluster's name, for the tag by which the pod ENIs are found.
	Cluster string
	// Tokens of fleet requests; nil leaves them to the SDK.
	Tokens *Tokens
	// PodSubnetFull is told of each pod subnet that had no room for a launch, with EC2's code. It may be nil.
	PodSubnetFull func(subnet, code string)
}

// CreateLaunchTemplate lets the pod ENIs end with their instance, and tags them as the agent tags those that it makes. EC2 does
// not document what becomes of a secondary ENI without DeleteOnTermination.
func (e EC2) CreateLaunchTemplate(ctx context.Context, in *ec2.CreateLaunchTemplateInput, optFns ...func(*ec2.Options)) (*ec2.CreateLaunchTemplateOutput, error) {
	if data := in.LaunchTemplateData; data != nil && finishPodENIs(data.NetworkInterfaces) {
		for i := range data.TagSpecifications {
			if spec := &data.TagSpecifications[i]; spec.ResourceType == ec2types.ResourceTypeNetworkInterface {
				spec.Tags = append(spec.Tags,
					ec2types.Tag{Key: aws.String(eni.TagCluster), Value: aws.String(e.Cluster)},
					ec2types.Tag{Key: aws.String(eni.TagOwner), Value: aws.String(eni.OwnerDovetail)})
			}
		}
	}
	return e.EC2API.CreateLaunchTemplate(ctx, in, optFns...)
}

// finishPodENIs tells whether there are any. They are known by their subnet: no other interface in a template names one.
func finishPodENIs(interfaces []ec2types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest) (found bool) {
	for i := range interfaces {
		if n := &interfaces[i]; n.SubnetId != nil && aws.ToInt32(n.DeviceIndex) > 0 {
			n.DeleteOnTermination, n.Description, found = aws.Bool(true), aws.String("Dovetail pods"), true
		}
	}
	return found
}

// CreateFleet completes the answer to a request with pod ENIs: it says which subnet an instance or an error is about.
func (e EC2) CreateFleet(ctx context.Context, in *ec2.CreateFleetInput, optFns ...func(*ec2.Options)) (*ec2.CreateFleetOutput, error) {
	out, err := e.Tokens.createFleet(ctx, e.EC2API, in, optFns...)
	if err != nil {
		return out, err
	}
	templates := e.templatesOf(in)
	for i := range out.Instances {
		if t, ok := templates.of(out.Instances[i].LaunchTemplateAndOverrides); ok {
			out.Instances[i].LaunchTemplateAndOverrides.Overrides.SubnetId = aws.String(t.nodeSubnet)
		}
	}
	for i := range out.Errors {
		if t, ok := templates.of(out.Errors[i].LaunchTemplateAndOverrides); ok {
			e.attribute(ctx, &out.Errors[i], t)
		}
	}
	return out, nil
}

// attribute an error to the pod subnet or to the node subnet. Upstream knows the code of a full node subnet, marks that subnet
// where the error names it, and takes it for missing capacity. A full or fragmented pod subnet is missing capacity too, and
// no fault of the node subnet.
func (e EC2) attribute(ctx context.Context, fleetError *ec2types.CreateFleetError, t staticTemplate) {
	code, message := aws.ToString(fleetError.ErrorCode), aws.ToString(fleetError.ErrorMessage)
	full := fullSubnet(code, message, t)
	if full == eitherSubnet {
		full = podSubnet
		if e.nodeSubnetIsFull(ctx, t.nodeSubnet) {
			full = nodeSubnet
		}
	}
	switch full {
	case nodeSubnet:
		fleetError.LaunchTemplateAndOverrides.Overrides.SubnetId = aws.String(t.nodeSubnet)
	case podSubnet:
		fleetError.ErrorCode = aws.String(awserrors.InsufficientFreeAddressesInSubnetErrorCode)
		fleetError.ErrorMessage = aws.String(fmt.Sprintf("pod subnet %s has no room for the node's pods: %s: %s", t.podSubnet, code, message))
		podSubnetFull.WithLabelValues(t.podSubnet, code).Inc()
		log.FromContext(ctx).Info("pod subnet has no room for a launch", "subnet", t.podSubnet, "code", code)
		if e.PodSubnetFull != nil {
			e.PodSubnetFull(t.podSubnet, code)
		}
	}
}

// nodeSubnetIsFull asks EC2: a launch takes one address there.
func (e EC2) nodeSubnetIsFull(ctx context.Context, id string) bool {
	out, err := e.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{id}})
	if err != nil || len(out.Subnets) == 0 {
		return false
	}
	return aws.ToInt32(out.Subnets[0].AvailableIpAddressCount) == 0
}

// fleetTemplates are the templates with pod ENIs of a request. EC2 answers with a template's id, and the request has names; but a
// type and zone is in a request once.
type fleetTemplates map[fleetPool]staticTemplate

type fleetPool struct {
	instanceType ec2types.InstanceType
	zone         string
}

func (e EC2) templatesOf(in *ec2.CreateFleetInput) fleetTemplates {
	templates := fleetTemplates{}
	for _, config := range in.LaunchTemplateConfigs {
		if config.LaunchTemplateSpecification == nil {
			continue
		}
		t, ok := e.Launches.templates.Get(aws.ToString(config.LaunchTemplateSpecification.LaunchTemplateName))
		if !ok {
			continue
		}
		for _, o := range config.Overrides {
			templates[fleetPool{o.InstanceType, aws.ToString(o.AvailabilityZone)}] = t.(staticTemplate)
		}
	}
	return templates
}

func (f fleetTemplates) of(answer *ec2types.LaunchTemplateAndOverridesResponse) (staticTemplate, bool) {
	if answer == nil || answer.Overrides == nil {
		return staticTemplate{}, false
	}
	t, ok := f[fleetPool{answer.Overrides.InstanceType, aws.ToString(answer.Overrides.AvailabilityZone)}]
	return t, ok
}
