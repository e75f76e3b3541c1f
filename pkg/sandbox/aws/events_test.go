// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/karpenter-provider-aws/pkg/controllers/interruption/messages"
	"github.com/aws/karpenter-provider-aws/pkg/controllers/interruption/messages/rebalancerecommendation"
	"github.com/aws/karpenter-provider-aws/pkg/controllers/interruption/messages/scheduledchange"
	"github.com/aws/karpenter-provider-aws/pkg/controllers/interruption/messages/spotinterruption"
	"github.com/aws/karpenter-provider-aws/pkg/controllers/interruption/messages/statechange"
	"github.com/stretchr/testify/require"
)

// received takes messages out of a queue until one is of the kind, read by Karpenter's own parsers.
func (w *world) received(queue string, kind messages.Kind, id string) messages.Message {
	w.Helper()
	client := sqs.NewFromConfig(w.config)
	url, err := client.GetQueueUrl(w.ctx(), &sqs.GetQueueUrlInput{QueueName: &queue})
	require.NoError(w, err)
	for range 50 {
		out, err := client.ReceiveMessage(w.ctx(), &sqs.ReceiveMessageInput{QueueUrl: url.QueueUrl, MaxNumberOfMessages: 1, WaitTimeSeconds: 5})
		require.NoError(w, err)
		for _, m := range out.Messages {
			_, err = client.DeleteMessage(w.ctx(), &sqs.DeleteMessageInput{QueueUrl: url.QueueUrl, ReceiptHandle: m.ReceiptHandle})
			require.NoError(w, err)
			if parsed := w.parse(*m.Body); parsed != nil && parsed.Kind() == kind && parsed.EC2InstanceIDs()[0] == id {
				return parsed
			}
		}
	}
	require.FailNow(w, "no message", "%s", kind)
	return nil
}

func (w *world) parse(body string) messages.Message {
	var about messages.Metadata
	require.NoError(w, json.Unmarshal([]byte(body), &about))
	require.Equal(w, "us-east-1", about.Region)
	require.Equal(w, "123456789012", about.Account)
	require.WithinDuration(w, time.Now(), about.Time, time.Minute)
	for _, p := range []messages.Parser{statechange.Parser{}, spotinterruption.Parser{}, scheduledchange.Parser{}, rebalancerecommendation.Parser{}} {
		if p.Version() == about.Version && p.Source() == about.Source && p.DetailType() == about.DetailType {
			m, err := p.Parse(body)
			require.NoError(w, err)
			return m // nil for a state that Karpenter does not care for
		}
	}
	require.Failf(w, "Karpenter does not know the message", "%s", body)
	return nil
}

func (w *world) runSpot() string {
	w.Helper()
	ids, err := w.runIn(1, func(in *ec2.RunInstancesInput) {
		in.InstanceMarketOptions = &ec2types.InstanceMarketOptionsRequest{MarketType: ec2types.MarketTypeSpot}
	})
	require.NoError(w, err)
	w.await("running", func(s Snapshot) bool { return stateOf(s, ids[0]) == "running" })
	return ids[0]
}

func TestASpotInterruptionIsToldInTheQueueAndInTheMetadataBeforeTheInstanceEnds(t *testing.T) {
	latency := immediate()
	latency.SpotNotice = 4 * time.Second // enough for two calls on a busy machine
	w := newWorldLike(t, latency)
	w.cloud.SubscribeEvents("dovetail-sandbox")
	id := w.runSpot()
	client, _ := w.metadataOf(id)
	notFound(t, client, "spot/instance-action")
	require.NoError(t, w.cloud.InterruptSpot(id))
	w.received("dovetail-sandbox", messages.SpotInterruptionKind, id)
	var action struct {
		Action string
		Time   time.Time
	}
	require.NoError(t, json.Unmarshal([]byte(w.metadata(client, "spot/instance-action")), &action))
	require.Equal(t, "terminate", action.Action)
	require.ErrorContains(t, w.cloud.InterruptSpot(id), "is interrupted already")
	w.await("terminated", func(s Snapshot) bool { return stateOf(s, id) == "terminated" })
	w.received("dovetail-sandbox", messages.InstanceTerminatedKind, id)
	out, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	require.Equal(t, "Server.SpotInstanceTermination", *out.Reservations[0].Instances[0].StateReason.Code)

	onDemand := w.run("m5.large", testNodes)
	require.ErrorContains(t, w.cloud.InterruptSpot(onDemand), "is not a spot instance")
	require.ErrorContains(t, w.cloud.InterruptSpot("i-0123456789abcdef0"), "InvalidInstanceID.NotFound")
}

func TestARebalanceRecommendationChangesNothingElse(t *testing.T) {
	w := newWorld(t)
	w.cloud.SubscribeEvents("queue")
	id := w.runSpot()
	require.NoError(t, w.cloud.Rebalance(id))
	w.received("queue", messages.RebalanceRecommendationKind, id)
	client, _ := w.metadataOf(id)
	require.Contains(t, w.metadata(client, "events/recommendations/rebalance"), "noticeTime")
	require.Equal(t, "running", stateOf(w.cloud.Snapshot(), id))
}

func TestAScheduledChangeIsToldInTheQueueAndInTheStatus(t *testing.T) {
	w := newWorld(t)
	w.cloud.SubscribeEvents("queue")
	id := w.run("m5.large", testNodes)
	require.NoError(t, w.cloud.ScheduleChange(id, "instance-retirement", time.Hour))
	w.received("queue", messages.ScheduledChangeKind, id)
	out, err := w.ec2.DescribeInstanceStatus(t.Context(), &ec2.DescribeInstanceStatusInput{Filters: []ec2types.Filter{
		{Name: ptr("event.code"), Values: []string{"instance-retirement"}},
	}})
	require.NoError(t, err)
	require.Equal(t, id, *out.InstanceStatuses[0].InstanceId)
	require.WithinDuration(t, time.Now().Add(time.Hour), *out.InstanceStatuses[0].Events[0].NotBefore, time.Minute)
	require.ErrorContains(t, w.cloud.ScheduleChange(id, "party", time.Hour), "Value (party)")
}

func TestALaunchThatIsTakenBackTellsNothing(t *testing.T) {
	w := newWorld(t)
	w.cloud.SubscribeEvents("queue")
	tiny := w.subnet("10.0.6.0/28", "us-east-1a")
	_, err := w.runIn(12, func(in *ec2.RunInstancesInput) { in.SubnetId = &tiny })
	requireError(t, err, "InsufficientFreeAddressesInSubnet", "")
	require.Empty(t, w.cloud.queues["queue"].messages)
}

func TestStateChangesReachEveryQueueThatIsSubscribed(t *testing.T) {
	w := newWorld(t)
	w.cloud.CreateQueue("not-subscribed")
	w.cloud.SubscribeEvents("one")
	w.cloud.SubscribeEvents("two")
	id := w.run("m5.large", testNodes)
	_, err := w.ec2.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}})
	require.NoError(t, err)
	for _, queue := range []string{"one", "two"} {
		m := w.received(queue, messages.InstanceStoppedKind, id).(statechange.Message)
		require.Contains(t, []string{"stopping", "stopped"}, m.Detail.State)
		require.Equal(t, "arn:aws:ec2:us-east-1:123456789012:instance/"+id, m.Resources[0])
	}
	require.Empty(t, w.cloud.queues["not-subscribed"].messages)
}
