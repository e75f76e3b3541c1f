// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/karpenter-provider-aws/pkg/controllers/interruption/messages"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"
)

// fault adds one, as a program does that sends JSON.
func (w *world) fault(f Fault) Fault {
	w.Helper()
	body, err := json.Marshal(f)
	require.NoError(w, err)
	reply := httptest.NewRecorder()
	w.cloud.FaultsHandler().ServeHTTP(reply, httptest.NewRequest(http.MethodPost, FaultsPath, strings.NewReader(string(body))))
	require.Equal(w, http.StatusCreated, reply.Code, reply.Body)
	var added Fault
	require.NoError(w, json.Unmarshal(reply.Body.Bytes(), &added))
	return added
}

// assign asks for prefixes, and answers the code of the error, "" for none.
func (w *world) assign(eni string, prefixes int32) string {
	_, err := w.ec2.AssignPrivateIpAddresses(w.ctx(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &eni, Ipv4PrefixCount: &prefixes})
	return codeOf(err)
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return err.Error()
}

func TestAFullAndAFragmentedSubnetRefusePrefixesWithTheTwoErrorsOfEC2(t *testing.T) {
	w := newWorld(t)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId

	scattered := w.fault(Fault{Subnet: &SubnetFault{ID: testPods, Mode: FragmentSubnet, Leave: 60}})
	require.Equal(t, 60, w.free(testPods))
	require.Zero(t, w.freeBlocks(testPods), "what DescribeNetworkInterfaces shows leaves no /28")
	require.Equal(t, "InsufficientCidrBlocks", w.assign(n, 1))
	require.Equal(t, "InvalidParameterValue", w.assign(n, 4), "there are not even enough addresses")
	_, err := w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, SecondaryPrivateIpAddressCount: ptr[int32](5)})
	require.NoError(t, err)
	require.NoError(t, w.cloud.RemoveFault(scattered.ID))
	require.Empty(t, w.assign(n, 1))

	w.fault(Fault{Subnet: &SubnetFault{ID: testPods, Mode: FillSubnet, Leave: 3}})
	require.Equal(t, 3, w.free(testPods))
	require.Equal(t, "InvalidParameterValue", w.assign(n, 1))
	_, err = w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), SecondaryPrivateIpAddressCount: ptr[int32](3)})
	require.Equal(t, "InsufficientFreeAddressesInSubnet", codeOf(err))
	w.cloud.ClearFaults()
	require.Equal(t, 251-1-5-16, w.free(testPods))
}

func TestAFilledSubnetLeavesWholeBlocksAsFarAsTheyGo(t *testing.T) {
	w := newWorld(t)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	w.fault(Fault{Subnet: &SubnetFault{ID: testPods, Mode: FillSubnet, Leave: 35}})
	require.Equal(t, 35, w.free(testPods))
	require.Empty(t, w.assign(n, 1))
	require.Empty(t, w.assign(n, 1))
	require.Equal(t, "InvalidParameterValue", w.assign(n, 1))
}

func TestSomebodyElsesInterfacesCannotBeDeleted(t *testing.T) {
	w := newWorld(t)
	w.fault(Fault{Subnet: &SubnetFault{ID: testPods, Mode: FillSubnet, Leave: 0}})
	out, err := w.ec2.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{
		Filters: []ec2types.Filter{{Name: ptr("subnet-id"), Values: []string{testPods}}},
	})
	require.NoError(t, err)
	require.NotEmpty(t, out.NetworkInterfaces)
	for _, n := range out.NetworkInterfaces {
		require.Equal(t, ec2types.NetworkInterfaceStatusInUse, n.Status)
		_, err := w.ec2.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: n.NetworkInterfaceId})
		require.Equal(t, "InvalidParameterValue", codeOf(err))
	}
}

func TestTheSameSeedFragmentsASubnetInTheSameWay(t *testing.T) {
	scattered := func(seed uint64) []netip.Addr {
		w := newWorld(t)
		w.fault(Fault{Seed: seed, Subnet: &SubnetFault{ID: testPods, Mode: FragmentSubnet, Leave: 40}})
		w.cloud.mu.Lock()
		defer w.cloud.mu.Unlock()
		var free []netip.Addr
		for _, block := range w.cloud.subnets.get(testPods).space.freeByBlock() {
			free = append(free, block...)
		}
		return free
	}
	require.Equal(t, scattered(1), scattered(1))
	require.NotEqual(t, scattered(1), scattered(2))
}

// free is what DescribeSubnets says.
func (w *world) free(subnetID string) int {
	out, err := w.ec2.DescribeSubnets(w.ctx(), &ec2.DescribeSubnetsInput{SubnetIds: []string{subnetID}})
	require.NoError(w, err)
	return int(*out.Subnets[0].AvailableIpAddressCount)
}

// freeBlocks counts the /28s of 100.64.0.0/24 that nothing in DescribeNetworkInterfaces touches.
func (w *world) freeBlocks(subnetID string) int {
	out, err := w.ec2.DescribeNetworkInterfaces(w.ctx(), &ec2.DescribeNetworkInterfacesInput{
		Filters: []ec2types.Filter{{Name: ptr("subnet-id"), Values: []string{subnetID}}},
	})
	require.NoError(w, err)
	free := map[netip.Prefix]bool{}
	for i := range 16 {
		free[netip.MustParsePrefix(fmt.Sprintf("100.64.0.%d/28", i*16))] = true
	}
	delete(free, netip.MustParsePrefix("100.64.0.0/28"))
	delete(free, netip.MustParsePrefix("100.64.0.240/28"))
	for _, n := range out.NetworkInterfaces {
		for _, a := range n.PrivateIpAddresses {
			delete(free, netip.PrefixFrom(netip.MustParseAddr(*a.PrivateIpAddress), 28).Masked())
		}
		for _, p := range n.Ipv4Prefixes {
			delete(free, netip.MustParsePrefix(*p.Ipv4Prefix))
		}
	}
	return len(free)
}

func TestPoolsRunDryByTypeZoneAndLifecycle(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("pools", primaryOnly()))
	launch := func(spot bool, instanceType, subnet, zone string) (launched int, code string) {
		in := fleet("pools", 1, w.on(instanceType, subnet, zone))
		if spot {
			in.TargetCapacitySpecification.DefaultTargetCapacityType = ec2types.DefaultTargetCapacityTypeSpot
		}
		out, err := w.ec2.CreateFleet(t.Context(), in)
		require.NoError(t, err)
		if len(out.Errors) > 0 {
			code = *out.Errors[0].ErrorCode
		}
		return len(out.Instances), code
	}
	w.fault(Fault{Capacity: &CapacityFault{Type: "m5.*", Lifecycle: "spot", Left: 1}})
	expect := func(spot bool, instanceType, subnet, zone string, launched int, code string) {
		t.Helper()
		n, got := launch(spot, instanceType, subnet, zone)
		require.Equal(t, launched, n)
		require.Equal(t, code, got)
	}
	expect(true, "m5.large", testNodes, "a", 1, "")
	expect(true, "m5.large", testNodes, "a", 0, "InsufficientInstanceCapacity")
	expect(true, "m5.xlarge", testNodes, "a", 1, "")
	expect(true, "m5.large", testNodesB, "b", 1, "")
	expect(false, "m5.large", testNodes, "a", 1, "")
	expect(true, "c5.large", testNodes, "a", 1, "")
	w.cloud.ClearFaults()
	expect(true, "m5.large", testNodes, "a", 1, "")

	w.fault(Fault{Times: 1, Capacity: &CapacityFault{Zone: "us-east-1b", Code: "VcpuLimitExceeded"}})
	expect(false, "m5.large", testNodesB, "b", 0, "VcpuLimitExceeded")
	expect(false, "m5.large", testNodesB, "b", 1, "")
}

func TestTheTextOfMissingCapacityNamesZonesThatHaveSome(t *testing.T) {
	w := newWorld(t)
	w.fault(Fault{Capacity: &CapacityFault{Type: "m5.large", Zone: "us-east-1a"}})
	w.fault(Fault{Capacity: &CapacityFault{Type: "m5.large", Zone: "us-east-1b"}})
	_, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: "m5.large", SubnetId: ptr(testNodes), MinCount: ptr[int32](1), MaxCount: ptr[int32](1),
	})
	requireError(t, err, "InsufficientInstanceCapacity", "choosing us-east-1c")
	require.NotContains(t, err.Error(), "us-east-1b")
}

func TestCallsFailAtARateThatTheSeedDecides(t *testing.T) {
	pattern := func(seed uint64) string {
		w := newWorld(t)
		w.fault(Fault{Seed: seed, Error: &ErrorFault{Action: "CreateNetworkInterface", Code: "RequestLimitExceeded", Rate: 0.3}})
		var b strings.Builder
		for range 40 {
			_, err := w.ec2.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
			if err == nil {
				b.WriteByte('.')
				continue
			}
			requireError(t, err, "RequestLimitExceeded", "Request limit exceeded.")
			requireStatus(t, err, http.StatusServiceUnavailable)
			b.WriteByte('x')
		}
		return b.String()
	}
	first := pattern(7)
	require.Equal(t, first, pattern(7))
	require.NotEqual(t, first, pattern(8))
	require.Contains(t, first, ".")
	require.Contains(t, first, "x")
}

func TestAnErrorOfEachProtocolIsReadByItsClient(t *testing.T) {
	w := newWorld(t)
	for _, action := range []string{"iam:*", "ssm:GetParameter", "eks:DescribeCluster", "Describe*"} {
		w.fault(Fault{Error: &ErrorFault{Action: action, Code: "ServiceUnavailable"}})
	}
	ctx := t.Context()
	_, err := iam.NewFromConfig(w.config).GetRole(ctx, &iam.GetRoleInput{RoleName: ptr("node-role")})
	require.Equal(t, "ServiceUnavailable", codeOf(err))
	_, err = ssm.NewFromConfig(w.config).GetParameter(ctx, &ssm.GetParameterInput{Name: ptr("/aws/service/x")})
	require.Equal(t, "ServiceUnavailable", codeOf(err))
	_, err = eks.NewFromConfig(w.config).DescribeCluster(ctx, &eks.DescribeClusterInput{Name: ptr("x")})
	require.Equal(t, "ServiceUnavailable", codeOf(err))
	_, err = w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	require.Equal(t, "ServiceUnavailable", codeOf(err))
	requireStatus(t, err, http.StatusServiceUnavailable)
	w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}) // no Describe
}

func TestALostReplyHasItsEffectAndNoAnswer(t *testing.T) {
	w := newWorld(t)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)}).NetworkInterfaceId
	lost := w.fault(Fault{Times: 1, LostReply: &LostReplyFault{Action: "AssignPrivateIpAddresses"}})
	_, err := w.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &n, Ipv4PrefixCount: ptr[int32](1)})
	require.Error(t, err)
	var answered smithy.APIError
	require.False(t, errors.As(err, &answered), "%v", err)
	require.Len(t, interfaceOf(w.cloud.Snapshot(), n).Prefixes, 1)
	require.Empty(t, w.assign(n, 1))
	require.Len(t, interfaceOf(w.cloud.Snapshot(), n).Prefixes, 2, "a caller that asks again gets a second one")
	list := w.cloud.Faults()
	require.Equal(t, lost.ID, list[0].ID)
	require.Equal(t, 1, list[0].Struck)
	require.True(t, list[0].Over)
}

func TestTheRetryOfALostLaunchFindsItByItsToken(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("lost", primaryOnly()))
	w.fault(Fault{Times: 1, LostReply: &LostReplyFault{Action: "CreateFleet"}})
	in := fleet("lost", 1, w.on("m5.large", testNodes, "a"))
	in.ClientToken = ptr("claim")
	_, err := w.ec2.CreateFleet(t.Context(), in)
	require.Error(t, err)
	out, err := w.ec2.CreateFleet(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, w.cloud.Snapshot().Instances[0].ID, out.Instances[0].InstanceIds[0])
	require.Len(t, w.cloud.Snapshot().Instances, 1)
}

func TestASmallBucketThrottlesItsActionAlone(t *testing.T) {
	w := newWorld(t)
	w.fault(Fault{Throttle: &ThrottleFault{Action: "DescribeSubnets", Capacity: 2}})
	for _, want := range []string{"", "", "RequestLimitExceeded"} {
		_, err := w.ec2.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
		require.Equal(t, want, codeOf(err))
	}
	_, err := w.ec2.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
	require.NoError(t, err)
}

func TestAWriteHasItsEffectBeforeAddedLatencyAndAReadIsFreshAfterIt(t *testing.T) {
	w := newWorld(t)
	w.fault(Fault{Latency: &LatencyFault{Action: "CreateNetworkInterface", Add: Span{Min: time.Hour, Max: time.Hour}}})
	before := len(w.cloud.Snapshot().Interfaces)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := w.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
		done <- err
	}()
	w.await("the effect", func(s Snapshot) bool { return len(s.Interfaces) == before+1 })
	select {
	case err := <-done:
		require.Fail(t, "answered at once", "%v", err)
	default:
	}
	cancel()
	require.Error(t, <-done)
}

func TestIMDSFollowsLate(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	other := w.run("m5.large", testNodes)
	w.fault(Fault{MetadataLag: &MetadataLagFault{Instance: id, Add: Span{Min: time.Hour, Max: time.Hour}}})
	late := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
	prompt := w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods)})
	w.attach(*late.NetworkInterfaceId, id, 1)
	w.attach(*prompt.NetworkInterfaceId, other, 1)
	macs := func(instance string) string {
		w.cloud.mu.Lock()
		defer w.cloud.mu.Unlock()
		text, _ := list(w.cloud.metadata(w.cloud.instances.get(instance)), "meta-data/network/interfaces/macs/")
		return text
	}
	require.Contains(t, macs(other), *prompt.MacAddress)
	require.NotContains(t, macs(id), *late.MacAddress)
}

func TestIMDSIsAwayForOneInstance(t *testing.T) {
	w := newWorld(t)
	id, other := w.run("m5.large", testNodes), w.run("m5.large", testNodes)
	get := func(instance string) error {
		client, _ := w.metadataOf(instance)
		_, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "instance-id"})
		return err
	}
	away := w.fault(Fault{MetadataError: &MetadataErrorFault{Instance: id}})
	err := get(id)
	require.Error(t, err)
	var answered *smithyhttp.ResponseError
	require.False(t, errors.As(err, &answered), "%v", err)
	require.NoError(t, get(other))
	require.NoError(t, w.cloud.RemoveFault(away.ID))

	w.fault(Fault{MetadataError: &MetadataErrorFault{Status: http.StatusServiceUnavailable}})
	requireStatus(t, get(other), http.StatusServiceUnavailable)
	w.cloud.ClearFaults()
	require.NoError(t, get(id))
}

func TestASpotInstanceIsTakenBack(t *testing.T) {
	w := newWorld(t)
	w.cloud.SubscribeEvents("events")
	id := w.runSpot()
	w.fault(Fault{Interrupt: &InterruptFault{Instance: id, Rebalance: true}})
	w.received("events", messages.RebalanceRecommendationKind, id)
	w.fault(Fault{Interrupt: &InterruptFault{Instance: id}})
	w.received("events", messages.SpotInterruptionKind, id)
	w.await("its end", func(s Snapshot) bool { return stateOf(s, id) == "terminated" })
}

func TestMaintenanceIsAnnounced(t *testing.T) {
	w := newWorld(t)
	w.cloud.SubscribeEvents("events")
	id := w.run("m5.large", testNodes)
	w.fault(Fault{ScheduledChange: &ScheduledChangeFault{Instance: id, Event: "instance-retirement", In: Duration(time.Hour)}})
	w.received("events", messages.ScheduledChangeKind, id)
}

func TestAnInstanceDiesOfItself(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	w.fault(Fault{Kill: &KillFault{Instance: id}})
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, id) == "terminated" })
	out, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	require.Equal(t, "Client.InstanceInitiatedShutdown", *out.Reservations[0].Instances[0].StateReason.Code)
}

func TestAnInstanceThatHangsRunsForEC2AndFailsItsCheck(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	status := func() ec2types.InstanceStatus {
		out, err := w.ec2.DescribeInstanceStatus(t.Context(), &ec2.DescribeInstanceStatusInput{InstanceIds: []string{id}})
		require.NoError(t, err)
		return out.InstanceStatuses[0]
	}
	require.Equal(t, ec2types.SummaryStatusOk, status().InstanceStatus.Status)
	hang := w.fault(Fault{Kill: &KillFault{Instance: id, Hang: true}})
	require.True(t, w.cloud.Snapshot().Instances[0].Hangs)
	s := status()
	require.Equal(t, ec2types.InstanceStateNameRunning, s.InstanceState.Name)
	require.Equal(t, ec2types.SummaryStatusImpaired, s.InstanceStatus.Status)
	require.Equal(t, ec2types.StatusTypeFailed, s.InstanceStatus.Details[0].Status)
	require.NotNil(t, s.InstanceStatus.Details[0].ImpairedSince)
	require.Equal(t, ec2types.SummaryStatusOk, s.SystemStatus.Status)
	require.NoError(t, w.cloud.RemoveFault(hang.ID))
	require.Equal(t, ec2types.SummaryStatusOk, status().InstanceStatus.Status)

	w.fault(Fault{Kill: &KillFault{Instance: id, Hang: true}})
	_, err := w.ec2.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	w.await("stopped", func(s Snapshot) bool { return stateOf(s, id) == "stopped" })
	require.False(t, w.cloud.Snapshot().Instances[0].Hangs, "it will boot elsewhere")
}

// component records what is done to it.
type component chan string

func (c component) Pause() error  { c <- "pause"; return nil }
func (c component) Resume() error { c <- "resume"; return nil }
func (c component) Stop() error   { c <- "stop"; return nil }
func (c component) Start() error  { c <- "start"; return nil }

func TestAnOutageEndsByItselfOrByHand(t *testing.T) {
	w := newWorld(t)
	done := make(component, 4)
	w.cloud.SetComponent("etcd", done)
	w.fault(Fault{For: Duration(time.Millisecond), Outage: &OutageFault{Component: "etcd"}})
	require.Equal(t, "pause", <-done)
	require.Equal(t, "resume", <-done)
	w.fault(Fault{Outage: &OutageFault{Component: "etcd", Kill: true}})
	require.Equal(t, "stop", <-done)
	_, err := w.cloud.AddFault(Fault{Outage: &OutageFault{Component: "etcd"}})
	require.ErrorContains(t, err, "etcd is stopped by fault-2")
	w.cloud.ClearFaults()
	require.Equal(t, "start", <-done)
}

func TestAFaultThatMakesNoSenseIsRefusedWithTheReason(t *testing.T) {
	w := newWorld(t)
	handler := w.cloud.FaultsHandler()
	for body, want := range map[string]string{
		`{}`:             "it has 0 kinds",
		`{"subnett":{}}`: `unknown field "subnett": want an object with one of capacity, subnet`,
		`{"capacity":{"left":0},"latency":{"add":"1s"}}`:                           "it has 2 kinds",
		`{"capacity":{"type":"m5.huge","left":0}}`:                                 `no instance type is "m5.huge"`,
		`{"capacity":{"zone":"us-east-1z","left":0}}`:                              "there are: us-east-1a",
		`{"capacity":{"lifecycle":"cheap","left":0}}`:                              "use on-demand or spot",
		`{"capacity":{"left":-1}}`:                                                 "must not be negative",
		`{"capacity":{"left":0,"code":"Nope"}}`:                                    "use one of Insufficient",
		`{"capacity":{"left":0,"code":"SpotMaxPriceTooLow"}}`:                      "set lifecycle to spot",
		`{"subnet":{"id":"subnet-1","mode":"fill"}}`:                               `there is no "subnet-1"`,
		`{"subnet":{"id":"` + testPods + `","mode":"flood"}}`:                      "use fill or fragment",
		`{"subnet":{"id":"` + testPods + `","mode":"fill","leave":9999}}`:          "has 251 free addresses",
		`{"subnet":{"id":"` + testPods + `","mode":"fragment","leave":250}}`:       "at most 237 can be scattered",
		`{"subnet":{"id":"` + testPods + `","mode":"fill"},"times":2}`:             "leave out times",
		`{"latency":{"action":"CreateFleets","add":"1s"}}`:                         "matches no call of EC2",
		`{"latency":{"action":"CreateFleet"}}`:                                     "needs add",
		`{"latency":{"add":"fast"}}`:                                               "is no time",
		`{"error":{"code":"InternalError"}}`:                                       "an action is missing",
		`{"error":{"action":"s3:*","code":"InternalError"}}`:                       "does not simulate the service s3",
		`{"error":{"action":"CreateFleet","code":"Weird"}}`:                        "give a message",
		`{"error":{"action":"CreateFleet","code":"InternalError","rate":30}}`:      "from 0 to 1",
		`{"error":{"action":"CreateFleet","code":"InternalError","status":200}}`:   "none of HTTP's for an error",
		`{"error":{"action":"CreateFleet","code":"InsufficientInstanceCapacity"}}`: "use a fault of capacity",
		`{"throttle":{"action":"CreateFleet","capacity":-1}}`:                      "must not be negative",
		`{"metadataLag":{"instance":"i-1","add":"1s"}}`:                            `there is no instance "i-1"`,
		`{"kill":{"instance":"i-1"}}`:                                              `there is no instance "i-1"`,
		`{"kill":{"instance":"i-1"},"for":"1s"}`:                                   "leave out for",
		`{"metadataError":{"status":200}}`:                                         "none of HTTP's",
		`{"interrupt":{"instance":"i-1"}}`:                                         "i-1",
		`{"scheduledChange":{"instance":"i-1","event":"flood"}}`:                   "instance-retirement",
		`{"outage":{"component":"etcd"}}`:                                          "only a whole sandbox has one",
		`{"id":"fault-9","latency":{"add":"1s"}}`:                                  "are for answers",
		`{"for":"-1s","latency":{"add":"1s"}}`:                                     "must not be negative",
	} {
		reply := httptest.NewRecorder()
		handler.ServeHTTP(reply, httptest.NewRequest(http.MethodPost, FaultsPath, strings.NewReader(body)))
		require.Equal(t, http.StatusBadRequest, reply.Code, body)
		var answer struct{ Error string }
		require.NoError(t, json.Unmarshal(reply.Body.Bytes(), &answer))
		require.Contains(t, answer.Error, want, body)
	}
	require.Empty(t, w.cloud.Faults())
}

func TestFaultsAreAddedListedAndRemovedOverHTTPBesideTheAPIs(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(w.cloud.HandlerWithFaults())
	t.Cleanup(server.Close)
	ctx, client := t.Context(), FaultsClient{HTTP: server.Client(), URL: server.URL}
	first, err := client.Add(ctx, Fault{Latency: &LatencyFault{Add: Span{Min: time.Millisecond, Max: 2 * time.Millisecond}}})
	require.NoError(t, err)
	_, err = client.Add(ctx, Fault{Description: "my own words", For: Duration(time.Hour), LostReply: &LostReplyFault{Action: "CreateFleet", Rate: 0.5}})
	require.NoError(t, err)
	_, err = client.Add(ctx, Fault{})
	require.ErrorContains(t, err, "set one of capacity, subnet")

	config := w.config.Copy()
	config.BaseEndpoint = &server.URL
	_, err = ec2.NewFromConfig(config).DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	require.NoError(t, err)

	list, err := client.List(ctx)
	require.NoError(t, err)
	require.Len(t, list.Faults, 2)
	require.Equal(t, "* takes 1ms-2ms longer", list.Faults[0].Description)
	require.Equal(t, 1, list.Faults[0].Struck)
	require.Equal(t, "my own words", list.Faults[1].Description)
	require.Equal(t, "lostReply", list.Faults[1].Kind())
	require.Equal(t, Duration(time.Hour), list.Faults[1].For)

	require.NoError(t, client.Remove(ctx, first.ID))
	require.ErrorContains(t, client.Remove(ctx, first.ID), "there are: fault-2")
	require.NoError(t, client.Clear(ctx))
	list, err = client.List(ctx)
	require.NoError(t, err)
	require.Empty(t, list.Faults)
}
