// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/base64"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// describeInstanceAttribute shows user data, which no other call does.
func (r *request) describeInstanceAttribute(in *ec2.DescribeInstanceAttributeInput) (*ec2.DescribeInstanceAttributeOutput, error) {
	switch {
	case in.InstanceId == nil:
		return nil, missingParameter("instanceId")
	case in.Attribute == "":
		return nil, missingParameter("attribute")
	case in.Attribute != ec2types.InstanceAttributeNameUserData:
		return nil, notSimulated("the instance attribute %s", in.Attribute)
	}
	found, err := r.known([]string{*in.InstanceId})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstanceAttributeOutput{InstanceId: &found[0].id, UserData: &ec2types.AttributeValue{}}
	if len(found[0].userData) > 0 {
		out.UserData.Value = awssdk.String(base64.StdEncoding.EncodeToString(found[0].userData))
	}
	return out, nil
}
