// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// post sends a Query request by hand, for what the SDK cannot say.
func (w *world) post(form url.Values) *http.Response {
	w.Helper()
	r, err := http.NewRequestWithContext(w.ctx(), http.MethodPost, w.server.URL, strings.NewReader(form.Encode()))
	require.NoError(w, err)
	credentials, err := w.config.Credentials.Retrieve(w.ctx())
	require.NoError(w, err)
	require.NoError(w, v4.NewSigner().SignHTTP(w.ctx(), credentials, r, "UNSIGNED-PAYLOAD", "ec2", "us-east-1", time.Now()))
	reply, err := http.DefaultClient.Do(r)
	require.NoError(w, err)
	w.Cleanup(func() { _ = reply.Body.Close() })
	return reply
}

func TestAnUnknownActionOrParameterIsAnError(t *testing.T) {
	w := newWorld(t)
	_, err := w.ec2.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{})
	requireError(t, err, "InvalidAction", "The action DescribeVolumes is not valid for this web service.")
	_, err = w.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{{Name: ptr("colour"), Values: []string{"red"}}}})
	requireError(t, err, "InvalidParameterValue", "The filter 'colour' is invalid")
	for _, form := range []url.Values{
		{"Action": {"DescribeSubnets"}, "Colour": {"red"}},
		{"Action": {"DescribeSubnets"}, "SubnetId.x": {"red"}},
		{"Action": {"CreateNetworkInterface"}, "SubnetId.1": {testPods}},
		{"Action": {"DescribeSubnets"}, "MaxResults": {"many"}},
	} {
		require.Equal(t, http.StatusBadRequest, w.post(form).StatusCode, form.Encode())
	}
}

func TestADryRunChecksAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	_, err := w.ec2.DescribeInstanceTypes(t.Context(), &ec2.DescribeInstanceTypesInput{DryRun: ptr(true)}) // as Karpenter asks at start
	requireError(t, err, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	requireStatus(t, err, http.StatusPreconditionFailed)

	before := w.cloud.Snapshot()
	_, err = w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), DryRun: ptr(true)})
	requireError(t, err, "DryRunOperation", "")
	_, err = w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr("subnet-0123456789abcdef0"), DryRun: ptr(true)})
	requireError(t, err, "InvalidSubnetID.NotFound", "")

	// Karpenter validates a node class with these two; the first has both subnets of a zone.
	w.template(w.karpenterTemplate("validation", primaryOnly()))
	second := w.subnet("10.0.4.0/24", "us-east-1a")
	in := fleet("validation", 1, w.on("m5.large", testNodes, "a"), w.on("m5.large", second, "a"))
	in.DryRun = ptr(true)
	_, err = w.ec2.CreateFleet(t.Context(), in)
	requireError(t, err, "DryRunOperation", "")
	run := &ec2.RunInstancesInput{
		DryRun: ptr(true), MinCount: ptr[int32](1), MaxCount: ptr[int32](1), InstanceType: "m5.large",
		LaunchTemplate:    &ec2types.LaunchTemplateSpecification{LaunchTemplateName: ptr("validation"), Version: ptr("$Latest")},
		NetworkInterfaces: []ec2types.InstanceNetworkInterfaceSpecification{{DeviceIndex: ptr[int32](0), SubnetId: ptr(testNodes)}},
		TagSpecifications: []ec2types.TagSpecification{
			{ResourceType: "instance", Tags: []ec2types.Tag{{Key: ptr("a"), Value: ptr("b")}}}, {ResourceType: "volume"}, {ResourceType: "network-interface"},
		},
	}
	_, err = w.ec2.RunInstances(t.Context(), run)
	requireError(t, err, "DryRunOperation", "")
	require.Equal(t, before.Interfaces, w.cloud.Snapshot().Interfaces)
	require.Equal(t, before.Instances, w.cloud.Snapshot().Instances)
}

const mismatch = "Arguments on this idempotent request are inconsistent with arguments used in previous request(s)."

func TestAClientTokenMakesACallOnce(t *testing.T) {
	w := newWorld(t)
	in := &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), ClientToken: ptr("claim-1"), Ipv4PrefixCount: ptr[int32](1)}
	first := w.eni(in)
	again := w.eni(in)
	require.Equal(t, *first.NetworkInterfaceId, *again.NetworkInterfaceId)
	require.Len(t, w.cloud.Snapshot().Interfaces, 1)
	in.Ipv4PrefixCount = ptr[int32](2)
	_, err := w.ec2.CreateNetworkInterface(t.Context(), in)
	requireError(t, err, "IdempotentParameterMismatch", mismatch)
	in.ClientToken = ptr(strings.Repeat("x", 65))
	_, err = w.ec2.CreateNetworkInterface(t.Context(), in)
	requireError(t, err, "InvalidParameterValue", "clientToken")

	w.template(w.karpenterTemplate("token", primaryOnly()))
	launch := fleet("token", 2, w.on("m5.large", testNodes, "a"))
	launch.ClientToken = ptr("claim-2")
	a, err := w.ec2.CreateFleet(t.Context(), launch)
	require.NoError(t, err)
	b, err := w.ec2.CreateFleet(t.Context(), launch)
	require.NoError(t, err)
	require.Equal(t, a.Instances[0].InstanceIds, b.Instances[0].InstanceIds)
	require.Len(t, w.cloud.Snapshot().Instances, 2)
	other := fleet("token", 3, w.on("m5.large", testNodes, "a"))
	other.ClientToken = launch.ClientToken
	_, err = w.ec2.CreateFleet(t.Context(), other)
	requireError(t, err, "IdempotentParameterMismatch", mismatch)
	require.Len(t, w.cloud.Snapshot().Instances, 2)

	run := &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: "m5.large", SubnetId: ptr(testNodes), MinCount: ptr[int32](1), MaxCount: ptr[int32](1), ClientToken: ptr("claim-3"),
	}
	out, err := w.ec2.RunInstances(t.Context(), run)
	require.NoError(t, err)
	id := *out.Instances[0].InstanceId
	run.InstanceType = "m5.xlarge"
	_, err = w.ec2.RunInstances(t.Context(), run)
	requireError(t, err, "IdempotentParameterMismatch", mismatch)
	run.InstanceType = "m5.large"
	_, err = w.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, id) == "terminated" })
	_, err = w.ec2.RunInstances(t.Context(), run)
	requireError(t, err, "IdempotentInstanceTerminated",
		"The client token you have provided is associated with a terminated instance. Please use a different client token.")
}

func TestALostReplyDoublesAnAssignmentAndATokenSavesALaunch(t *testing.T) {
	w := newWorld(t)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	w.fault(Fault{Times: 1, Error: &ErrorFault{Action: "AssignPrivateIpAddresses", Code: "InternalError", Message: "lost", AfterEffect: true}})
	assign := &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, Ipv4PrefixCount: ptr[int32](1)}
	_, err := w.ec2.AssignPrivateIpAddresses(t.Context(), assign)
	requireError(t, err, "InternalError", "lost")
	_, err = w.ec2.AssignPrivateIpAddresses(t.Context(), assign)
	require.NoError(t, err)
	require.Len(t, interfaceOf(w.cloud.Snapshot(), n).Prefixes, 2)

	w.template(w.karpenterTemplate("lost", primaryOnly()))
	w.fault(Fault{Times: 1, Error: &ErrorFault{Action: "CreateFleet", Code: "InternalError", AfterEffect: true}})
	w.fault(Fault{Times: 1, Error: &ErrorFault{Action: "CreateFleet", Code: "RequestLimitExceeded"}})
	in := fleet("lost", 1, w.on("m5.large", testNodes, "a"))
	in.ClientToken = ptr("claim")
	_, err = w.ec2.CreateFleet(t.Context(), in)
	requireError(t, err, "InternalError", "")
	_, err = w.ec2.CreateFleet(t.Context(), in)
	requireError(t, err, "RequestLimitExceeded", "")
	requireStatus(t, err, http.StatusServiceUnavailable)
	out, err := w.ec2.CreateFleet(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, []string{w.cloud.Snapshot().Instances[0].ID}, out.Instances[0].InstanceIds)
	require.Len(t, w.cloud.Snapshot().Instances, 1)
}

func TestListsArePagedAndDescribeByIDFailsAsAWhole(t *testing.T) {
	w := newWorld(t)
	for range 12 {
		w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
	}
	pages, seen := 0, map[string]bool{}
	paginator := ec2.NewDescribeNetworkInterfacesPaginator(w.ec2, &ec2.DescribeNetworkInterfacesInput{MaxResults: ptr[int32](5)})
	for paginator.HasMorePages() {
		out, err := paginator.NextPage(t.Context())
		require.NoError(t, err)
		pages++
		for _, n := range out.NetworkInterfaces {
			seen[*n.NetworkInterfaceId] = true
		}
	}
	require.Equal(t, 3, pages)
	require.Len(t, seen, 12)
	_, err := w.ec2.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{MaxResults: ptr[int32](2)})
	requireError(t, err, "InvalidParameterValue", "between 5 and 1000")
	_, err = w.ec2.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{NextToken: ptr("?")})
	requireError(t, err, "InvalidNextToken", "")
	_, err = w.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{testPods, "subnet-0123456789abcdef0"}})
	requireError(t, err, "InvalidSubnetID.NotFound", "subnet-0123456789abcdef0")
	out, err := w.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{
		{Name: ptr("subnet-id"), Values: []string{testPods, "subnet-0123456789abcdef0"}},
	}})
	require.NoError(t, err)
	require.Len(t, out.Subnets, 1, "by filter, what is not there is only left out")
}

func TestTagsAreAddedFilteredByAndDeleted(t *testing.T) {
	w := newWorld(t)
	tag := func(key, value string) ec2types.Tag { return ec2types.Tag{Key: &key, Value: &value} }
	_, err := w.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{
		Resources: []string{testNodes, testGroup, testVPC}, Tags: []ec2types.Tag{tag("karpenter.sh/discovery", "dovetail-sandbox"), tag("empty", "")},
	})
	require.NoError(t, err)
	count := func(filters ...ec2types.Filter) int {
		out, err := w.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: filters})
		require.NoError(t, err)
		return len(out.Subnets)
	}
	require.Equal(t, 1, count(ec2types.Filter{Name: ptr("tag:karpenter.sh/discovery"), Values: []string{"dovetail-*"}}))
	require.Equal(t, 1, count(ec2types.Filter{Name: ptr("tag-key"), Values: []string{"empty"}}))
	require.Equal(t, 0, count(ec2types.Filter{Name: ptr("tag:karpenter.sh/discovery"), Values: []string{"other"}}))
	_, err = w.ec2.DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{testNodes}, Tags: []ec2types.Tag{tag("empty", "not so")}})
	require.NoError(t, err)
	require.Equal(t, 1, count(ec2types.Filter{Name: ptr("tag-key"), Values: []string{"empty"}}), "a tag of another value stays")
	_, err = w.ec2.DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{testNodes}})
	require.NoError(t, err)
	require.Equal(t, 0, count(ec2types.Filter{Name: ptr("tag-key"), Values: []string{"*"}}))
	for id, code := range map[string]string{
		"subnet-0123456789abcdef0": "InvalidSubnetID.NotFound", "i-0123456789abcdef0": "InvalidInstanceID.NotFound", "thing-1": "InvalidID",
	} {
		_, err = w.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: []ec2types.Tag{tag("a", "b")}})
		requireError(t, err, code, "")
	}
	_, err = w.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{testNodes}, Tags: []ec2types.Tag{tag("aws:a", "b")}})
	requireError(t, err, "InvalidParameterValue", "reserved for internal use")
	_, err = w.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: ptr(testVPC), CidrBlock: ptr("10.0.6.0/24"), TagSpecifications: []ec2types.TagSpecification{
		{ResourceType: "vpc", Tags: []ec2types.Tag{tag("a", "b")}},
	}})
	requireError(t, err, "InvalidParameterValue", "'vpc' is not a valid taggable resource type for this operation.")
	var many []ec2types.Tag
	for i := range maxTags + 1 {
		many = append(many, tag("key-"+string(rune('A'+i)), ""))
	}
	_, err = w.ec2.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{testNodes}, Tags: many})
	requireError(t, err, "TagLimitExceeded", "")
}

func TestEachWatcherHasATokenOfItsOwnAndNoneBlocksTheSimulator(t *testing.T) {
	w := newWorld(t)
	a, b := w.cloud.Changed(), w.cloud.Changed()
	<-a
	for range 5 {
		w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}) // b is never read
	}
	<-a
	<-b
	select {
	case <-b:
		require.Fail(t, "tokens are not coalesced")
	default:
	}
}

func TestCallsFromManyClientsGiveNoAddressTwice(t *testing.T) {
	w := newWorld(t)
	failures := make(chan error, 40)
	for range 40 {
		go func() {
			_, err := w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), SecondaryPrivateIpAddressCount: ptr[int32](3)})
			failures <- err
		}()
	}
	for range 40 {
		require.NoError(t, <-failures)
	}
	seen := map[string]bool{}
	for _, n := range w.cloud.Snapshot().Interfaces {
		for _, a := range append(n.Secondaries, n.Primary) {
			require.False(t, seen[a.String()])
			seen[a.String()] = true
		}
	}
	require.Len(t, seen, 160)
}
