// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	pricingtypes "github.com/aws/aws-sdk-go-v2/service/pricing/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"
)

func TestInstanceTypesAndOfferingsAreThoseOfTheTable(t *testing.T) {
	w := newAccount(t, immediate())
	types := map[ec2types.InstanceType]ec2types.InstanceTypeInfo{}
	paginator := ec2.NewDescribeInstanceTypesPaginator(w.ec2, &ec2.DescribeInstanceTypesInput{ // as Karpenter asks
		MaxResults: ptr[int32](100), Filters: []ec2types.Filter{
			{Name: ptr("supported-virtualization-type"), Values: []string{"hvm"}},
			{Name: ptr("processor-info.supported-architecture"), Values: []string{"x86_64", "arm64"}},
		},
	})
	for paginator.HasMorePages() {
		out, err := paginator.NextPage(t.Context())
		require.NoError(t, err)
		for _, info := range out.InstanceTypes {
			types[info.InstanceType] = info
		}
	}
	require.Greater(t, len(types), 900)
	require.EqualValues(t, 10, *types["m5.large"].NetworkInfo.Ipv4AddressesPerInterface)
	require.EqualValues(t, 32, *types["p5.48xlarge"].NetworkInfo.MaximumNetworkCards)
	require.NotNil(t, types["g5.xlarge"].GpuInfo)
	require.NotNil(t, types["inf2.xlarge"].InferenceAcceleratorInfo)

	offered := map[ec2types.InstanceType][]string{}
	offerings := ec2.NewDescribeInstanceTypeOfferingsPaginator(w.ec2, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: ec2types.LocationTypeAvailabilityZone, MaxResults: ptr[int32](1000),
	})
	for offerings.HasMorePages() {
		out, err := offerings.NextPage(t.Context())
		require.NoError(t, err)
		for _, o := range out.InstanceTypeOfferings {
			offered[o.InstanceType] = append(offered[o.InstanceType], *o.Location)
		}
	}
	require.Contains(t, offered["m5.large"], "us-east-1a")
	_, err := w.ec2.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{InstanceTypes: []ec2types.InstanceType{"m5.none"}})
	requireError(t, err, "InvalidInstanceType", "m5.none")
	zones, err := w.ec2.DescribeAvailabilityZones(t.Context(), &ec2.DescribeAvailabilityZonesInput{})
	require.NoError(t, err)
	require.Len(t, zones.AvailabilityZones, 6)
	require.Equal(t, "use1-az1", *zones.AvailabilityZones[0].ZoneId)
}

func TestThereAreNoReservationsAndNoPlacementGroups(t *testing.T) {
	w := newAccount(t, immediate())
	reservations, err := w.ec2.DescribeCapacityReservations(t.Context(), &ec2.DescribeCapacityReservationsInput{})
	require.NoError(t, err)
	require.Empty(t, reservations.CapacityReservations)
	_, err = w.ec2.DescribeCapacityReservations(t.Context(), &ec2.DescribeCapacityReservationsInput{CapacityReservationIds: []string{"cr-0123456789abcdef0"}})
	requireError(t, err, "InvalidCapacityReservationId.NotFound", "")
	groups, err := w.ec2.DescribePlacementGroups(t.Context(), &ec2.DescribePlacementGroupsInput{Filters: []ec2types.Filter{{Name: ptr("state"), Values: []string{"available"}}}})
	require.NoError(t, err)
	require.Empty(t, groups.PlacementGroups)
	_, err = w.ec2.DescribePlacementGroups(t.Context(), &ec2.DescribePlacementGroupsInput{GroupNames: []string{"x"}})
	requireError(t, err, "InvalidPlacementGroup.Unknown", "")
}

func TestSpotAndOnDemandPricesAreReadAsKarpenterReadsThem(t *testing.T) {
	w := newAccount(t, immediate())
	spot := map[string]float64{}
	paginator := ec2.NewDescribeSpotPriceHistoryPaginator(w.ec2, &ec2.DescribeSpotPriceHistoryInput{
		ProductDescriptions: []string{"Linux/UNIX", "Linux/UNIX (Amazon VPC)"}, StartTime: ptr(time.Now()), MaxResults: ptr[int32](2000),
	})
	for paginator.HasMorePages() {
		out, err := paginator.NextPage(t.Context())
		require.NoError(t, err)
		for _, p := range out.SpotPriceHistory {
			price, err := strconv.ParseFloat(*p.SpotPrice, 64)
			require.NoError(t, err)
			require.NotNil(t, p.Timestamp)
			spot[string(p.InstanceType)+" "+*p.AvailabilityZone] = price
		}
	}
	require.Less(t, spot["m5.large us-east-1a"], 0.096)
	require.Greater(t, spot["m5.large us-east-1a"], 0.02)

	onDemand := map[string]string{}
	products := pricing.NewGetProductsPaginator(pricing.NewFromConfig(w.config), &pricing.GetProductsInput{
		ServiceCode: ptr("AmazonEC2"), MaxResults: ptr[int32](100), Filters: []pricingtypes.Filter{
			match("regionCode", "us-east-1"), match("serviceCode", "AmazonEC2"), match("preInstalledSw", "NA"), match("operatingSystem", "Linux"),
			match("capacitystatus", "Used"), match("marketoption", "OnDemand"), match("tenancy", "Shared"), match("productFamily", "Compute Instance"),
		},
	})
	for products.HasMorePages() {
		out, err := products.NextPage(t.Context())
		require.NoError(t, err)
		for _, document := range out.PriceList {
			var item struct {
				Product struct{ Attributes struct{ InstanceType string } }
				Terms   struct {
					OnDemand map[string]struct {
						PriceDimensions map[string]struct{ PricePerUnit map[string]string }
					}
				}
			}
			require.NoError(t, json.Unmarshal([]byte(document), &item))
			for _, term := range item.Terms.OnDemand {
				for _, d := range term.PriceDimensions {
					onDemand[item.Product.Attributes.InstanceType] = d.PricePerUnit["USD"]
				}
			}
		}
	}
	require.Equal(t, "0.0960000000", onDemand["m5.large"])
	require.NotContains(t, onDemand, "m5.metal")
	_, err := pricing.NewFromConfig(w.config).GetProducts(t.Context(), &pricing.GetProductsInput{ServiceCode: ptr("AmazonS3")})
	requireError(t, err, "InvalidParameterException", "AmazonS3")
}

func TestServiceQuotasTellsWhatTheSimulatorHoldsTo(t *testing.T) {
	w := newWorld(t)
	api := servicequotas.NewFromConfig(w.config)
	out, err := api.GetServiceQuota(t.Context(), &servicequotas.GetServiceQuotaInput{ServiceCode: ptr("vpc"), QuotaCode: ptr("L-DF5E4CA3")})
	require.NoError(t, err)
	require.InDelta(t, 5000, *out.Quota.Value, 0)
	require.Equal(t, "Network interfaces per Region", *out.Quota.QuotaName)
	out, err = api.GetServiceQuota(t.Context(), &servicequotas.GetServiceQuotaInput{ServiceCode: ptr("vpc"), QuotaCode: ptr("L-83CA0A9D")})
	require.NoError(t, err)
	require.InDelta(t, 5, *out.Quota.Value, 0)
	_, err = api.GetServiceQuota(t.Context(), &servicequotas.GetServiceQuotaInput{ServiceCode: ptr("ec2"), QuotaCode: ptr("L-1216C47A")})
	requireError(t, err, "NoSuchResourceException", "L-1216C47A")
}

func match(field, value string) pricingtypes.Filter {
	return pricingtypes.Filter{Field: &field, Value: &value, Type: pricingtypes.FilterTypeTermMatch}
}

func TestImageParametersLeadToImagesOfTheirArchitecture(t *testing.T) {
	w := newAccount(t, immediate())
	client := ssm.NewFromConfig(w.config)
	for name, architecture := range map[string]ec2types.ArchitectureValues{
		"/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/standard/recommended/image_id":                                       "x86_64",
		"/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/arm64/nvidia/recommended/image_id":                                          "arm64",
		"/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/neuron/amazon-eks-node-al2023-x86_64-neuron-1.35-v20260805/image_id": "x86_64",
		"/aws/service/eks/optimized-ami/1.32/amazon-linux-2/recommended/image_id":                                                          "x86_64",
		"/aws/service/eks/optimized-ami/1.32/amazon-linux-2-arm64/amazon-eks-arm64-node-1.32-v20260805/image_id":                           "arm64",
		"/aws/service/eks/optimized-ami/1.32/amazon-linux-2-gpu/recommended/image_id":                                                      "x86_64",
		"/aws/service/bottlerocket/aws-k8s-1.35/arm64/latest/image_id":                                                                     "arm64",
		"/aws/service/bottlerocket/aws-k8s-1.35-nvidia/x86_64/1.62.0/image_id":                                                             "x86_64",
	} {
		out, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
		require.NoError(t, err, name)
		images, err := w.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Filters: []ec2types.Filter{
			{Name: ptr("image-id"), Values: []string{*out.Parameter.Value}}, {Name: ptr("state"), Values: []string{"available"}},
		}})
		require.NoError(t, err)
		require.Len(t, images.Images, 1, name)
		require.Equal(t, architecture, images.Images[0].Architecture)
		_, err = time.Parse(time.RFC3339, *images.Images[0].CreationDate)
		require.NoError(t, err)
	}
	_, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: ptr("/aws/service/eks/optimized-ami/1.33/amazon-linux-2/recommended/image_id")})
	requireError(t, err, "ParameterNotFound", "") // EKS publishes no AL2 from 1.33 on
	named, err := w.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Owners: []string{"self", "amazon"}, Filters: []ec2types.Filter{{Name: ptr("name"), Values: []string{"amazon-eks-node-1.32-v*"}}},
	})
	require.NoError(t, err)
	require.Len(t, named.Images, 2)
	_, err = w.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{"ami-0123456789abcdef0"}})
	requireError(t, err, "InvalidAMIID.NotFound", "")
}

func TestInstanceProfilesFollowTheRulesOfIAM(t *testing.T) {
	w := newAccount(t, immediate())
	w.cloud.CreateRole("node-role")
	client, ctx := iam.NewFromConfig(w.config), t.Context()
	_, err := client.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: ptr("p")})
	requireError(t, err, "NoSuchEntity", "Instance Profile p cannot be found.")
	var missing *iamtypes.NoSuchEntityException
	require.ErrorAs(t, err, &missing)
	path := "/karpenter/us-east-1/dovetail-sandbox/uid/"
	created, err := client.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{
		InstanceProfileName: ptr("p"), Path: &path, Tags: []iamtypes.Tag{{Key: ptr("a"), Value: ptr("b")}},
	})
	require.NoError(t, err)
	require.Equal(t, "arn:aws:iam::123456789012:instance-profile"+path+"p", *created.InstanceProfile.Arn)
	_, err = client.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: ptr("p")})
	requireError(t, err, "EntityAlreadyExists", "")
	_, err = client.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: ptr("p"), RoleName: ptr("nobody")})
	requireError(t, err, "NoSuchEntity", "role with name nobody")
	add := &iam.AddRoleToInstanceProfileInput{InstanceProfileName: ptr("p"), RoleName: ptr("node-role")}
	_, err = client.AddRoleToInstanceProfile(ctx, add)
	require.NoError(t, err)
	_, err = client.AddRoleToInstanceProfile(ctx, add)
	requireError(t, err, "LimitExceeded", "")
	_, err = client.TagInstanceProfile(ctx, &iam.TagInstanceProfileInput{InstanceProfileName: ptr("p"), Tags: []iamtypes.Tag{{Key: ptr("c"), Value: ptr("d")}}})
	require.NoError(t, err)
	list, err := client.ListInstanceProfiles(ctx, &iam.ListInstanceProfilesInput{PathPrefix: ptr("/karpenter/us-east-1/")})
	require.NoError(t, err)
	require.Len(t, list.InstanceProfiles, 1)
	require.Len(t, list.InstanceProfiles[0].Tags, 2)
	require.Equal(t, "node-role", *list.InstanceProfiles[0].Roles[0].RoleName)
	_, err = client.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: ptr("p")})
	requireError(t, err, "DeleteConflict", "")
	_, err = client.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: ptr("p"), RoleName: ptr("node-role")})
	require.NoError(t, err)
	_, err = client.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: ptr("p")})
	require.NoError(t, err)
	role, err := client.GetRole(ctx, &iam.GetRoleInput{RoleName: ptr("node-role")})
	require.NoError(t, err)
	require.NotNil(t, role.Role.Arn)
	_, err = client.GetRole(ctx, &iam.GetRoleInput{RoleName: ptr("nobody")})
	requireError(t, err, "NoSuchEntity", "")
	_, err = client.ListRoles(ctx, &iam.ListRolesInput{})
	requireError(t, err, "InvalidAction", "ListRoles")
	who, err := sts.NewFromConfig(w.config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	require.NoError(t, err)
	require.Equal(t, "123456789012", *who.Account)
}

func TestAClusterIsDescribed(t *testing.T) {
	w := newAccount(t, immediate())
	w.cloud.SetCluster(Cluster{Name: "sandbox", Endpoint: "https://10.0.0.9", CA: []byte("PEM"), Version: "1.35", ServiceCIDR: prefix("172.20.0.0/16"), VPCID: testVPC})
	out, err := eks.NewFromConfig(w.config).DescribeCluster(t.Context(), &eks.DescribeClusterInput{Name: ptr("sandbox")})
	require.NoError(t, err)
	require.Equal(t, "https://10.0.0.9", *out.Cluster.Endpoint)
	require.Equal(t, "1.35", *out.Cluster.Version)
	require.Equal(t, base64.StdEncoding.EncodeToString([]byte("PEM")), *out.Cluster.CertificateAuthority.Data)
	require.Equal(t, "172.20.0.0/16", *out.Cluster.KubernetesNetworkConfig.ServiceIpv4Cidr)
	require.Equal(t, ekstypes.IpFamilyIpv4, out.Cluster.KubernetesNetworkConfig.IpFamily)
	require.Equal(t, testVPC, *out.Cluster.ResourcesVpcConfig.VpcId)
	w.cloud.SetCluster(Cluster{Name: "six", ServiceCIDR: prefix("fd30:1c53:5f8a::/108")})
	out, err = eks.NewFromConfig(w.config).DescribeCluster(t.Context(), &eks.DescribeClusterInput{Name: ptr("six")})
	require.NoError(t, err)
	require.Equal(t, ekstypes.IpFamilyIpv6, out.Cluster.KubernetesNetworkConfig.IpFamily)
	require.Equal(t, "fd30:1c53:5f8a::/108", *out.Cluster.KubernetesNetworkConfig.ServiceIpv6Cidr)
	require.Nil(t, out.Cluster.KubernetesNetworkConfig.ServiceIpv4Cidr)
	_, err = eks.NewFromConfig(w.config).DescribeCluster(t.Context(), &eks.DescribeClusterInput{Name: ptr("other")})
	requireError(t, err, "ResourceNotFoundException", "No cluster found for name: other.")
	_, err = eks.NewFromConfig(w.config).ListClusters(t.Context(), &eks.ListClustersInput{})
	requireError(t, err, "InvalidRequestException", "does not simulate")
}

func TestAQueueHoldsMessagesUntilTheyAreDeleted(t *testing.T) {
	w := newAccount(t, immediate())
	client, ctx := sqs.NewFromConfig(w.config), t.Context()
	_, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: ptr("interruptions")})
	requireError(t, err, "QueueDoesNotExist", "The specified queue does not exist.")
	w.cloud.CreateQueue("interruptions")
	queue, err := client.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: ptr("interruptions")})
	require.NoError(t, err)
	received := make(chan *sqs.ReceiveMessageOutput, 1)
	go func() { // long polling, as Karpenter does
		out, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
			QueueUrl: queue.QueueUrl, WaitTimeSeconds: 20, MaxNumberOfMessages: 10, VisibilityTimeout: 20, MessageAttributeNames: []string{"All"},
		})
		if err != nil {
			out = nil
		}
		received <- out
	}()
	_, err = client.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: queue.QueueUrl, MessageBody: ptr(`{"a":1}`)})
	require.NoError(t, err)
	out := <-received
	require.NotNil(t, out)
	require.Len(t, out.Messages, 1)
	require.Equal(t, `{"a":1}`, *out.Messages[0].Body)
	hidden, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: queue.QueueUrl})
	require.NoError(t, err)
	require.Empty(t, hidden.Messages, "a received message is hidden for a while")
	_, err = client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: queue.QueueUrl, ReceiptHandle: out.Messages[0].ReceiptHandle})
	require.NoError(t, err)
	_, err = client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: queue.QueueUrl, ReceiptHandle: out.Messages[0].ReceiptHandle})
	requireError(t, err, "ReceiptHandleIsInvalid", "")
	_, err = client.PurgeQueue(ctx, &sqs.PurgeQueueInput{QueueUrl: queue.QueueUrl})
	requireError(t, err, "UnknownOperationException", "PurgeQueue")
}
