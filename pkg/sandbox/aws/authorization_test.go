// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/http"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	policies "github.com/dovetail-dev/dovetail/iam"
)

func tagsOf(pairs ...string) (tags []ec2types.Tag) {
	for i := 0; i < len(pairs); i += 2 {
		tags = append(tags, ec2types.Tag{Key: awssdk.String(pairs[i]), Value: awssdk.String(pairs[i+1])})
	}
	return tags
}

// launchTagged launches an instance with the profile of newWorld's role, and returns clients with its credentials.
func (w *world) launchTagged(tags ...ec2types.Tag) (id string, as awssdk.Config) {
	w.Helper()
	input := &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: "m5.large", MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), SubnetId: awssdk.String(testNodes),
		IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: awssdk.String(testProfile)},
	}
	if len(tags) > 0 {
		input.TagSpecifications = []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: tags}}
	}
	out, err := w.ec2.RunInstances(w.Context(), input)
	require.NoError(w, err)
	id = *out.Instances[0].InstanceId
	as = w.config
	as.Credentials = credentials.NewStaticCredentialsProvider("ASIA", "secret", roleTokenPrefix+id)
	return id, as
}

func (w *world) allow(name, document string) {
	w.Helper()
	_, err := iam.NewFromConfig(w.config).PutRolePolicy(w.Context(), &iam.PutRolePolicyInput{
		RoleName: awssdk.String("node-role"), PolicyName: &name, PolicyDocument: &document,
	})
	require.NoError(w, err)
}

func (w *world) document(policy string) string {
	w.Helper()
	text, err := policies.Document(policy, policies.Names{
		Partition: "aws", Region: "us-east-1", AccountID: w.cloud.account, ClusterName: "c", InterruptionQueue: "interruptions",
		NodeRoleARN: "arn:aws:iam::" + w.cloud.account + ":role/node-role",
	})
	require.NoError(w, err)
	return text
}

func requireUnauthorized(t *testing.T, err error, action string) {
	t.Helper()
	requireError(t, err, "UnauthorizedOperation", "")
	requireStatus(t, err, http.StatusForbidden)
	require.ErrorContains(t, err, "is not authorized to perform: "+action)
}

func TestARoleWithoutPoliciesMayDoNothing(t *testing.T) {
	w := newWorld(t)
	_, as := w.launchTagged()
	_, err := ec2.NewFromConfig(as).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	requireUnauthorized(t, err, "ec2:DescribeSubnets because")
	_, err = ec2.NewFromConfig(as).DeleteSubnet(t.Context(), &ec2.DeleteSubnetInput{SubnetId: awssdk.String(testPods), DryRun: awssdk.Bool(true)})
	requireUnauthorized(t, err, "ec2:DeleteSubnet on resource: arn:aws:ec2:us-east-1:")

	_, err = ssm.NewFromConfig(as).GetParameter(t.Context(), &ssm.GetParameterInput{Name: awssdk.String("/aws/service/x")})
	requireError(t, err, "AccessDeniedException", "")
	_, err = pricing.NewFromConfig(as).GetProducts(t.Context(), &pricing.GetProductsInput{ServiceCode: awssdk.String("AmazonEC2")})
	requireError(t, err, "AccessDeniedException", "")
	_, err = eks.NewFromConfig(as).DescribeCluster(t.Context(), &eks.DescribeClusterInput{Name: awssdk.String("c")})
	requireError(t, err, "AccessDeniedException", "")
	_, err = sqs.NewFromConfig(as).GetQueueUrl(t.Context(), &sqs.GetQueueUrlInput{QueueName: awssdk.String("interruptions")})
	requireError(t, err, "AccessDeniedException", "")
	_, err = iam.NewFromConfig(as).GetInstanceProfile(t.Context(), &iam.GetInstanceProfileInput{InstanceProfileName: awssdk.String(testProfile)})
	requireError(t, err, "AccessDenied", "")

	_, err = sts.NewFromConfig(as).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	require.NoError(t, err, "everybody may ask who he is")
	_, err = w.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	require.NoError(t, err, "the account's user may do everything")
}

func TestANodeMayUseTheENIsOfItsClusterOnly(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.allow("node-dynamic", w.document(policies.NodeDynamic))
	own, as := w.launchTagged(tagsOf("kubernetes.io/cluster/c", "owned")...)
	foreign, _ := w.launchTagged(tagsOf("kubernetes.io/cluster/other", "owned")...)
	api := ec2.NewFromConfig(as)

	make := func(api *ec2.Client, tags ...ec2types.Tag) (string, error) {
		input := &ec2.CreateNetworkInterfaceInput{SubnetId: awssdk.String(testPods), Groups: []string{testGroup}}
		if len(tags) > 0 {
			input.TagSpecifications = []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: tags}}
		}
		out, err := api.CreateNetworkInterface(ctx, input)
		if err != nil {
			return "", err
		}
		return *out.NetworkInterface.NetworkInterfaceId, nil
	}
	_, err := make(api)
	requireUnauthorized(t, err, "ec2:CreateNetworkInterface on resource: arn:aws:ec2:us-east-1:"+w.cloud.account+":network-interface/*")
	_, err = make(api, tagsOf("cluster.k8s.amazonaws.com/name", "other", "eks:eni:owner", "dovetail")...)
	requireUnauthorized(t, err, "ec2:CreateNetworkInterface")
	mine, err := make(api, tagsOf("cluster.k8s.amazonaws.com/name", "c", "eks:eni:owner", "dovetail")...)
	require.NoError(t, err)
	theirs, err := make(w.ec2, tagsOf("cluster.k8s.amazonaws.com/name", "other", "eks:eni:owner", "dovetail")...)
	require.NoError(t, err)

	attach := func(eni, instance string) error {
		_, err := api.AttachNetworkInterface(ctx, &ec2.AttachNetworkInterfaceInput{NetworkInterfaceId: &eni, InstanceId: &instance, DeviceIndex: awssdk.Int32(1)})
		return err
	}
	requireUnauthorized(t, attach(mine, foreign), "ec2:AttachNetworkInterface on resource: "+w.cloud.arn("ec2", "instance/"+foreign))
	requireUnauthorized(t, attach(theirs, own), "ec2:AttachNetworkInterface on resource: "+w.cloud.arn("ec2", "network-interface/"+theirs))
	require.NoError(t, attach(mine, own))
	_, err = api.AssignPrivateIpAddresses(ctx, &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &mine, Ipv4PrefixCount: awssdk.Int32(1)})
	require.NoError(t, err)
	_, err = api.AssignPrivateIpAddresses(ctx, &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &theirs, Ipv4PrefixCount: awssdk.Int32(1)})
	requireUnauthorized(t, err, "ec2:AssignPrivateIpAddresses")
	_, err = api.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: &theirs})
	requireUnauthorized(t, err, "ec2:DeleteNetworkInterface")
	_, err = api.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: awssdk.String("eni-00000000000000bad")})
	requireError(t, err, "InvalidNetworkInterfaceID.NotFound", "")
	_, err = api.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{theirs}, Tags: tagsOf("cluster.k8s.amazonaws.com/name", "c")})
	requireUnauthorized(t, err, "ec2:CreateTags")
	_, err = api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{own}})
	requireUnauthorized(t, err, "ec2:TerminateInstances")
}

// What Karpenter does for a node, with the tags that it gives and without.
func TestTheControllerMayLaunchTaggedNodesOnly(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.allow("controller", w.document(policies.Controller))
	own := tagsOf("kubernetes.io/cluster/c", "owned", "eks:eks-cluster-name", "c", "karpenter.sh/nodepool", "default")
	foreign, as := w.launchTagged(tagsOf("kubernetes.io/cluster/c", "owned")...)
	api := ec2.NewFromConfig(as)

	template := func(name string, tags ...ec2types.Tag) error {
		_, err := api.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
			LaunchTemplateName: &name,
			LaunchTemplateData: &ec2types.RequestLaunchTemplateData{
				ImageId: &w.image, InstanceType: "m5.large", SecurityGroupIds: []string{testGroup},
				IamInstanceProfile: &ec2types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: awssdk.String(testProfile)},
				TagSpecifications:  []ec2types.LaunchTemplateTagSpecificationRequest{{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: own}},
			},
			TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeLaunchTemplate, Tags: tags}},
		})
		return err
	}
	requireUnauthorized(t, template("untagged", tagsOf("Name", "x")...), "ec2:CreateLaunchTemplate")
	require.NoError(t, template("own", own...))

	fleet := func(tags ...ec2types.Tag) (*ec2.CreateFleetOutput, error) {
		input := &ec2.CreateFleetInput{
			Type: ec2types.FleetTypeInstant,
			LaunchTemplateConfigs: []ec2types.FleetLaunchTemplateConfigRequest{{
				LaunchTemplateSpecification: &ec2types.FleetLaunchTemplateSpecificationRequest{LaunchTemplateName: awssdk.String("own"), Version: awssdk.String("$Latest")},
				Overrides:                   []ec2types.FleetLaunchTemplateOverridesRequest{{InstanceType: "m5.large", SubnetId: awssdk.String(testNodes)}},
			}},
			TargetCapacitySpecification: &ec2types.TargetCapacitySpecificationRequest{TotalTargetCapacity: awssdk.Int32(1), DefaultTargetCapacityType: ec2types.DefaultTargetCapacityTypeOnDemand},
		}
		for _, kind := range []ec2types.ResourceType{ec2types.ResourceTypeInstance, ec2types.ResourceTypeVolume, ec2types.ResourceTypeFleet} {
			input.TagSpecifications = append(input.TagSpecifications, ec2types.TagSpecification{ResourceType: kind, Tags: tags})
		}
		return api.CreateFleet(ctx, input)
	}
	_, err := fleet(tagsOf("kubernetes.io/cluster/other", "owned", "karpenter.sh/nodepool", "default")...)
	requireUnauthorized(t, err, "ec2:CreateFleet on resource: "+w.cloud.arn("ec2", "fleet/*"))
	launched, err := fleet(own...)
	require.NoError(t, err)
	require.Len(t, launched.Instances, 1)
	node := launched.Instances[0].InstanceIds[0]
	_, err = api.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{node}, Tags: tagsOf("Name", "n", "karpenter.sh/nodeclaim", "n", "eks:eks-cluster-name", "c")})
	require.NoError(t, err)
	_, err = api.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{node}, Tags: tagsOf("kubernetes.io/cluster/other", "owned")})
	requireUnauthorized(t, err, "ec2:CreateTags")
	_, err = api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{foreign}})
	requireUnauthorized(t, err, "ec2:TerminateInstances")
	_, err = api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{node}})
	require.NoError(t, err)
	_, err = api.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: awssdk.String(testVPC), CidrBlock: awssdk.String("100.65.0.0/16")})
	requireUnauthorized(t, err, "ec2:AssociateVpcCidrBlock")
}

func TestPolicies(t *testing.T) {
	const account = "arn:aws:ec2:us-east-1:1:"
	keys := map[string][]string{
		"aws:RequestedRegion": {"us-east-1"}, "aws:ResourceTag/Team": {"a"}, "aws:TagKeys": {"x", "y"},
	}
	for name, c := range map[string]struct {
		statements string
		want       bool
	}{
		"nothing":                     {`[]`, false},
		"the action and any resource": {`{"Effect":"Allow","Action":"ec2:DeleteSubnet","Resource":"*"}`, true},
		"actions know no case":        {`{"Effect":"Allow","Action":"EC2:deletesubnet","Resource":"*"}`, true},
		"a wildcard":                  {`[{"Effect":"Allow","Action":["ec2:Delete*"],"Resource":["` + account + `subnet/*"]}]`, true},
		"one character":               {`{"Effect":"Allow","Action":"ec2:DeleteSubne?","Resource":"` + account + `subnet/subnet-?"}`, true},
		"another resource":            {`{"Effect":"Allow","Action":"*","Resource":"` + account + `vpc/*"}`, false},
		"a dot is a dot":              {`{"Effect":"Allow","Action":"*","Resource":"` + account + `subnet.*"}`, false},
		"a denial":                    {`[{"Effect":"Deny","Action":"ec2:*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]`, false},
		"a denial of something else":  {`[{"Effect":"Deny","Action":"ec2:Create*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]`, true},
		"a tag":                       {conditional(`"StringEquals":{"aws:ResourceTag/Team":["b","a"]}`), true},
		"names of keys know no case":  {conditional(`"StringEquals":{"AWS:resourcetag/Team":"a"}`), true},
		"names of tags do":            {conditional(`"StringEquals":{"aws:ResourceTag/team":"a"}`), false},
		"a tag with another value":    {conditional(`"StringEquals":{"aws:ResourceTag/Team":"A"}`), false},
		"a tag that is not there":     {conditional(`"StringEquals":{"aws:ResourceTag/No":"a"}`), false},
		"if it exists":                {conditional(`"StringEqualsIfExists":{"aws:ResourceTag/No":"a"}`), true},
		"it exists":                   {conditional(`"StringEqualsIfExists":{"aws:ResourceTag/Team":"b"}`), false},
		"not equal":                   {conditional(`"StringNotEquals":{"aws:ResourceTag/Team":"b"}`), true},
		"not equal and not there":     {conditional(`"StringNotEquals":{"aws:ResourceTag/No":"b"}`), true},
		"neither of two":              {conditional(`"StringNotLike":{"aws:ResourceTag/Team":["b","a*"]}`), false},
		"all keys of all operators":   {conditional(`"StringLike":{"aws:ResourceTag/Team":"*"},"StringEquals":{"aws:RequestedRegion":"eu-west-1"}`), false},
		"each value is one of them":   {conditional(`"ForAllValues:StringEquals":{"aws:TagKeys":["x","y","z"]}`), true},
		"one value is none of them":   {conditional(`"ForAllValues:StringEquals":{"aws:TagKeys":["x"]}`), false},
		"there are no values":         {conditional(`"ForAllValues:StringEquals":{"aws:No":["x"]}`), true},
		"any value is one of them":    {conditional(`"ForAnyValue:StringEquals":{"aws:TagKeys":["y"]}`), true},
		"no value is one of them":     {conditional(`"ForAnyValue:StringEquals":{"aws:TagKeys":["z"]}`), false},
		"there is no such key":        {conditional(`"Null":{"aws:ResourceTag/No":"true"}`), true},
		"there is one":                {conditional(`"Null":{"aws:ResourceTag/Team":true}`), false},
		"several values want a set":   {conditional(`"StringEquals":{"aws:TagKeys":["x","y"]}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parsePolicy(`{"Version":"2012-10-17","Statement":` + c.statements + `}`)
			require.NoError(t, err)
			require.Equal(t, c.want, allowed([]*policy{p}, ask{action: "ec2:DeleteSubnet", resource: account + "subnet/subnet-1", keys: keys}))
		})
	}
}

func conditional(condition string) string {
	return `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{` + condition + `}}`
}

func TestAPolicyThatIsNotSimulatedIsRefused(t *testing.T) {
	for document, want := range map[string]string{
		`{`: "Syntax errors",
		`{"Version":"2008-10-17","Statement":[]}`:                                                                                            "version 2012-10-17",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"*","Resource":"*"}}`:                                             "Syntax errors",
		`{"Version":"2012-10-17","Statement":{"Effect":"Maybe","Action":"*","Resource":"*"}}`:                                                "Allow or Deny",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*"}}`:                                                               "needs Action and Resource",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"x"}}}}`: "IpAddress",
	} {
		_, err := parsePolicy(document)
		require.ErrorContains(t, err, "MalformedPolicyDocument")
		require.ErrorContains(t, err, want)
	}
}
