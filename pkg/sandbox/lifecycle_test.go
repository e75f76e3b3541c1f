// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/http/httptest"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

func TestNodesAreForgottenWhenTheyAreNotReadyAndTheirInstancesHaveEnded(t *testing.T) {
	cloud := aws.New(aws.Options{Region: Region, Latency: aws.Fast(), Seed: 1})
	cloud.ReserveIDs(exhausted.ids())
	server := httptest.NewServer(cloud.Handler())
	defer server.Close()
	api := ec2.New(ec2.Options{
		Region: Region, BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	})
	require.NoError(t, exhausted.build(t.Context(), api))
	image, err := api.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	require.NoError(t, err)
	launched, err := api.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: image.Images[0].ImageId, InstanceType: "m5.large", MinCount: awssdk.Int32(2), MaxCount: awssdk.Int32(2), SubnetId: awssdk.String(nodeSubnets[0].id),
	})
	require.NoError(t, err)
	living, ended := *launched.Instances[0].InstanceId, *launched.Instances[1].InstanceId
	require.Eventually(t, func() bool {
		_, err := api.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{ended}})
		return err == nil // EC2 may not know it yet
	}, time.Minute, 10*time.Millisecond)

	node := func(name, instance string, ready corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{ProviderID: instance},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}
	}
	nodes := []*corev1.Node{
		node("runs", "aws:///us-east-1a/"+living, corev1.ConditionTrue),
		node("hangs", "aws:///us-east-1a/"+living, corev1.ConditionUnknown),
		node("still-says-ready", "aws:///us-east-1a/"+ended, corev1.ConditionTrue),
		node("somebody-elses", "", corev1.ConditionUnknown),
		node("has-ended", "aws:///us-east-1a/"+ended, corev1.ConditionUnknown),
		node("has-ended-long-ago", "aws:///us-east-1a/i-0123456789abcdef0", corev1.ConditionFalse),
	}
	d := &daemon{cloud: cloud}
	require.Eventually(t, func() bool {
		var names []string
		for _, node := range d.ended(nodes) {
			names = append(names, node.Name)
		}
		return len(names) == 2 && names[0] == "has-ended" && names[1] == "has-ended-long-ago"
	}, time.Minute, 10*time.Millisecond)
}
