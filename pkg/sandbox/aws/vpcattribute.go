// SPDX-License-Identifier: Apache-2.0

package aws

import (
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (r *request) describeVPCAttribute(in *ec2.DescribeVpcAttributeInput) (*ec2.DescribeVpcAttributeOutput, error) {
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeVpcAttributeOutput{VpcId: &v.id}
	value := func(b bool) *ec2types.AttributeBooleanValue { return &ec2types.AttributeBooleanValue{Value: &b} }
	switch in.Attribute {
	case ec2types.VpcAttributeNameEnableDnsSupport:
		out.EnableDnsSupport = value(v.dnsSupport)
	case ec2types.VpcAttributeNameEnableDnsHostnames:
		out.EnableDnsHostnames = value(v.dnsHostnames)
	case ec2types.VpcAttributeNameEnableNetworkAddressUsageMetrics:
		out.EnableNetworkAddressUsageMetrics = value(v.usageMetrics)
	case "":
		return nil, missingParameter("attribute")
	default:
		return nil, invalidValue(string(in.Attribute), "attribute")
	}
	return out, nil
}

// modifyVPCAttribute changes one attribute, as EC2 does. The attributes are kept and told; instances have their names anyway.
func (r *request) modifyVPCAttribute(in *ec2.ModifyVpcAttributeInput) (*ec2.ModifyVpcAttributeOutput, error) {
	v, err := r.vpcs.one(kindVPC, "vpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	var set *bool
	var to *ec2types.AttributeBooleanValue
	count := 0
	for _, a := range []struct {
		asked *ec2types.AttributeBooleanValue
		kept  *bool
	}{
		{in.EnableDnsSupport, &v.dnsSupport}, {in.EnableDnsHostnames, &v.dnsHostnames}, {in.EnableNetworkAddressUsageMetrics, &v.usageMetrics},
	} {
		if a.asked != nil {
			count++
			set, to = a.kept, a.asked
		}
	}
	if count != 1 {
		return nil, clientError("InvalidParameterCombination", "One attribute must be specified, and only one; there are %d", count)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	*set = awssdk.ToBool(to.Value)
	return &ec2.ModifyVpcAttributeOutput{}, nil
}
