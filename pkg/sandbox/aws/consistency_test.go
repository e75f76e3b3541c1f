// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

func TestAnInstanceIsDescribedOnceItIsKnownEverywhere(t *testing.T) {
	latency := immediate()
	latency.Propagation = Span{Min: 200 * time.Millisecond, Max: 200 * time.Millisecond}
	w := newAccountLike(t, latency)
	run, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: "m5.large", MinCount: ptr[int32](1), MaxCount: ptr[int32](1), SubnetId: ptr(testNodes),
	})
	require.NoError(t, err)
	id := *run.Instances[0].InstanceId
	for { // how often depends on the machine; that it is unknown at first is tested with a longer time
		out, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if err == nil {
			require.Equal(t, id, *out.Reservations[0].Instances[0].InstanceId)
			break
		}
		requireError(t, err, "InvalidInstanceID.NotFound", "The instance ID '"+id+"' does not exist")
	}
	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	_, err = w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err, "a terminated instance is shown for a while")
}
