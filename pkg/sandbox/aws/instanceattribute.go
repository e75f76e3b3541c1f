// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/base64"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// knownOne returns the instance that a required parameter names.
func (r *request) knownOne(id *string) (*instance, error) {
	if awssdk.ToString(id) == "" {
		return nil, missingParameter("instanceId")
	}
	found, err := r.known([]string{*id})
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// describeInstanceAttribute shows user data, which no other call does.
func (r *request) describeInstanceAttribute(in *ec2.DescribeInstanceAttributeInput) (*ec2.DescribeInstanceAttributeOutput, error) {
	if in.Attribute == "" {
		return nil, missingParameter("attribute")
	}
	i, err := r.knownOne(in.InstanceId)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstanceAttributeOutput{InstanceId: &i.id}
	switch in.Attribute {
	case ec2types.InstanceAttributeNameUserData:
		out.UserData = &ec2types.AttributeValue{}
		if len(i.userData) > 0 {
			out.UserData.Value = awssdk.String(base64.StdEncoding.EncodeToString(i.userData))
		}
	case ec2types.InstanceAttributeNameInstanceType:
		out.InstanceType = &ec2types.AttributeValue{Value: awssdk.String(string(i.info.InstanceType))}
	case ec2types.InstanceAttributeNameSourceDestCheck:
		out.SourceDestCheck = &ec2types.AttributeBooleanValue{Value: awssdk.Bool(i.primary.sourceDestCheck)}
	case ec2types.InstanceAttributeNameGroupSet:
		out.Groups = groupIdentifiers(i.primary.groups)
	default:
		return nil, notSimulated("the instance attribute %s", in.Attribute)
	}
	return out, nil
}

// modifyInstanceAttribute changes one attribute of an instance's only interface: with several of them EC2 wants to be told which.
func (r *request) modifyInstanceAttribute(in *ec2.ModifyInstanceAttributeInput) (*ec2.ModifyInstanceAttributeOutput, error) {
	i, err := r.knownOne(in.InstanceId)
	if err != nil {
		return nil, err
	}
	if (in.SourceDestCheck == nil) == (in.Groups == nil) {
		return nil, clientError("InvalidParameterCombination", "One attribute must be specified, and only one")
	}
	switch {
	case len(i.interfaces) == 0:
		return nil, clientError("IncorrectInstanceState", "The instance '%s' is in the state '%s'", i.id, i.state)
	case len(i.interfaces) > 1:
		return nil, clientError("InvalidInstanceID",
			"There are multiple interfaces attached to instance '%s'. Please specify an interface ID for the operation instead.", i.id)
	}
	groups := i.primary.groups
	if in.Groups != nil {
		if groups, err = r.groupsFor(i.subnet, in.Groups); err != nil {
			return nil, err
		}
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	i.primary.groups = groups
	if in.SourceDestCheck != nil {
		i.primary.sourceDestCheck = awssdk.ToBool(in.SourceDestCheck.Value)
	}
	return &ec2.ModifyInstanceAttributeOutput{}, nil
}

// describeInterfaceAttribute answers one attribute.
func (r *request) describeInterfaceAttribute(in *ec2.DescribeNetworkInterfaceAttributeInput) (*ec2.DescribeNetworkInterfaceAttributeOutput, error) {
	n, err := r.interfaces.one(kindInterface, "networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	if !r.visible(n.visibleAt) {
		return nil, kindInterface.missing(n.id)
	}
	d := r.describeInterface(n)
	out := &ec2.DescribeNetworkInterfaceAttributeOutput{NetworkInterfaceId: &n.id}
	switch in.Attribute {
	case ec2types.NetworkInterfaceAttributeDescription:
		out.Description = &ec2types.AttributeValue{Value: d.Description}
	case ec2types.NetworkInterfaceAttributeGroupSet:
		out.Groups = d.Groups
	case ec2types.NetworkInterfaceAttributeSourceDestCheck:
		out.SourceDestCheck = &ec2types.AttributeBooleanValue{Value: d.SourceDestCheck}
	case ec2types.NetworkInterfaceAttributeAttachment:
		out.Attachment = d.Attachment
	case "":
		return nil, missingParameter("attribute")
	default:
		return nil, notSimulated("the network interface attribute %s", in.Attribute)
	}
	return out, nil
}
