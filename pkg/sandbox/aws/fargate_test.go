// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/stretchr/testify/require"
)

func TestFargateProfilesOfACluster(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.cloud.SetCluster(Cluster{Name: "test", VPCID: testVPC})
	api := eks.NewFromConfig(w.config)
	input := func(name string) *eks.CreateFargateProfileInput {
		return &eks.CreateFargateProfileInput{
			ClusterName: ptr("test"), FargateProfileName: &name, PodExecutionRoleArn: ptr("arn:aws:iam::123456789012:role/fargate"), Subnets: []string{testNodes},
			Selectors: []ekstypes.FargateProfileSelector{{Namespace: ptr("batch-*"), Labels: map[string]string{"fargate": "yes"}}},
		}
	}
	names := func() []string {
		var found []string
		for pages := eks.NewListFargateProfilesPaginator(api, &eks.ListFargateProfilesInput{ClusterName: ptr("test"), MaxResults: ptr(int32(1))}); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			require.NoError(t, err)
			found = append(found, page.FargateProfileNames...)
		}
		return found
	}
	require.Empty(t, names())
	for _, name := range []string{"one", "two"} {
		out, err := api.CreateFargateProfile(ctx, input(name))
		require.NoError(t, err)
		require.Equal(t, ekstypes.FargateProfileStatusCreating, out.FargateProfile.Status)
		w.await("the profile is there", func(Snapshot) bool {
			described, err := api.DescribeFargateProfile(ctx, &eks.DescribeFargateProfileInput{ClusterName: ptr("test"), FargateProfileName: &name})
			require.NoError(t, err)
			require.Equal(t, "batch-*", *described.FargateProfile.Selectors[0].Namespace)
			require.Equal(t, map[string]string{"fargate": "yes"}, described.FargateProfile.Selectors[0].Labels)
			require.Equal(t, []string{testNodes}, described.FargateProfile.Subnets)
			return described.FargateProfile.Status == ekstypes.FargateProfileStatusActive
		})
	}
	require.Equal(t, []string{"one", "two"}, names())
	_, err := api.DeleteFargateProfile(ctx, &eks.DeleteFargateProfileInput{ClusterName: ptr("test"), FargateProfileName: ptr("one")})
	require.NoError(t, err)
	w.await("it is gone", func(Snapshot) bool { return len(names()) == 1 })

	create := func(change func(*eks.CreateFargateProfileInput)) error {
		in := input("three")
		change(in)
		_, err := api.CreateFargateProfile(ctx, in)
		return err
	}
	requireError(t, create(func(in *eks.CreateFargateProfileInput) { in.FargateProfileName = ptr("two") }), "ResourceInUseException", "")
	requireError(t, create(func(in *eks.CreateFargateProfileInput) { in.ClusterName = ptr("other") }), "ResourceNotFoundException", "other")
	requireError(t, create(func(in *eks.CreateFargateProfileInput) { in.Subnets = []string{"subnet-0123456789abcdef0"} }), "InvalidParameterException", "subnet-0123456789abcdef0")
	requireError(t, create(func(in *eks.CreateFargateProfileInput) { in.Selectors = nil }), "InvalidParameterException", "selectors")
	requireError(t, create(func(in *eks.CreateFargateProfileInput) { in.Selectors[0].Namespace = nil }), "InvalidParameterException", "namespace")
	_, err = api.DescribeFargateProfile(ctx, &eks.DescribeFargateProfileInput{ClusterName: ptr("test"), FargateProfileName: ptr("one")})
	requireError(t, err, "ResourceNotFoundException", "one")

	gateway, err := w.ec2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{})
	require.NoError(t, err)
	_, err = w.ec2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: gateway.InternetGateway.InternetGatewayId, VpcId: ptr(testVPC)})
	require.NoError(t, err)
	_, err = w.ec2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: &w.cloud.Snapshot().RouteTables[0].ID, DestinationCidrBlock: ptr("0.0.0.0/0"), GatewayId: gateway.InternetGateway.InternetGatewayId})
	require.NoError(t, err)
	requireError(t, create(func(*eks.CreateFargateProfileInput) {}), "InvalidParameterException", "not a private subnet")
}
