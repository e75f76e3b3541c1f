// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

func TestUserDataCanBeReadBackAsTheInstanceHasThem(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	out, err := w.ec2.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{
		InstanceId: &id, Attribute: ec2types.InstanceAttributeNameUserData,
	})
	require.NoError(t, err)
	require.Equal(t, id, *out.InstanceId)
	require.Equal(t, *encoded("hello"), *out.UserData.Value)

	_, err = w.ec2.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{
		InstanceId: &id, Attribute: ec2types.InstanceAttributeNameEbsOptimized,
	})
	requireError(t, err, "UnsupportedOperation", "ebsOptimized")
	_, err = w.ec2.DescribeInstanceAttribute(t.Context(), &ec2.DescribeInstanceAttributeInput{
		InstanceId: ptr("i-0123456789abcdef0"), Attribute: ec2types.InstanceAttributeNameUserData,
	})
	requireError(t, err, "InvalidInstanceID.NotFound", "i-0123456789abcdef0")
}
