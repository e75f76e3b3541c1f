// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// event is what EventBridge puts into the body of a message ("Amazon EC2 events", in the EventBridge reference).
type event struct {
	Version    string    `json:"version"`
	ID         string    `json:"id"`
	DetailType string    `json:"detail-type"`
	Source     string    `json:"source"`
	Account    string    `json:"account"`
	Time       time.Time `json:"time"`
	Region     string    `json:"region"`
	Resources  []string  `json:"resources"`
	Detail     any       `json:"detail"`
}

// SubscribeEvents sends the events of EC2 to an SQS queue, as a rule of EventBridge does, and makes the queue if there is none: changes
// of an instance's state, interruptions and rebalance recommendations of spot instances, scheduled changes.
func (c *Cloud) SubscribeEvents(queue string) {
	c.CreateQueue(queue)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.subscribed, queue) {
		c.subscribed = append(c.subscribed, queue)
	}
}

// emit sends an event to every subscribed queue.
func (c *Cloud) emit(source, detailType, resource string, detail any) {
	if len(c.subscribed) == 0 {
		return
	}
	body, err := json.Marshal(event{
		Version: "0", ID: uuid(c.random), DetailType: detailType, Source: source, Account: c.account,
		Time: time.Now().UTC().Truncate(time.Second), Region: c.region, Resources: []string{resource}, Detail: detail,
	})
	if err != nil {
		return // not reached: the fields are strings and times
	}
	for _, name := range c.subscribed {
		c.queues[name].send(&message{id: uuid(c.random), body: string(body), sent: time.Now()})
	}
}

// emitState tells of an instance's new state.
func (c *Cloud) emitState(i *instance) {
	c.emit("aws.ec2", "EC2 Instance State-change Notification", c.arn("ec2", "instance/"+i.id), map[string]string{
		"instance-id": i.id, "state": string(i.state),
	})
}

// zoneARN names a spot instance as its warnings do: with the zone in the place of the Region, and no account.
func zoneARN(i *instance) string {
	return fmt.Sprintf("arn:aws:ec2:%s:instance/%s", i.subnet.zone, i.id)
}

// spotInstance finds an instance that AWS can take back.
func (c *Cloud) spotInstance(id string) (*instance, error) {
	i := c.instances.get(id)
	switch {
	case i == nil:
		return nil, kindInstance.missing(id)
	case i.spotRequest == "":
		return nil, clientError("UnsupportedOperation", "Instance %s is not a spot instance: only these are interrupted", id)
	case i.state != ec2types.InstanceStateNameRunning && i.state != ec2types.InstanceStateNamePending:
		return nil, clientError("IncorrectInstanceState", "Instance %s is %s: only a running instance is interrupted", id, i.state)
	}
	return i, nil
}

// InterruptSpot takes a spot instance back: a warning in the queues and in the instance's metadata (spot/instance-action), then, after
// the profile's SpotNotice, the instance ends.
func (c *Cloud) InterruptSpot(instanceID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interruptSpot(instanceID)
}

func (c *Cloud) interruptSpot(instanceID string) error {
	i, err := c.spotInstance(instanceID)
	if err != nil {
		return err
	}
	if !i.interruption.IsZero() {
		return clientError("IncorrectInstanceState", "Instance %s is interrupted already", instanceID)
	}
	i.interruption = time.Now().UTC().Add(c.latency.SpotNotice).Truncate(time.Second)
	c.emit("aws.ec2", "EC2 Spot Instance Interruption Warning", zoneARN(i), map[string]string{
		"instance-id": i.id, "instance-action": "terminate",
	})
	c.after(Span{Min: c.latency.SpotNotice}, func() {
		c.terminate(i, stateReason{
			transition: fmt.Sprintf("Server.SpotInstanceTermination (%s)", time.Now().UTC().Format("2006-01-02 15:04:05 MST")),
			code:       "Server.SpotInstanceTermination", message: "Server.SpotInstanceTermination: Spot instance termination",
		})
	})
	c.changed()
	return nil
}

// Rebalance tells that a spot instance is at an elevated risk of interruption, in the queues and in its metadata
// (events/recommendations/rebalance). Nothing else comes of it.
func (c *Cloud) Rebalance(instanceID string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rebalance(instanceID)
}

func (c *Cloud) rebalance(instanceID string) error {
	i, err := c.spotInstance(instanceID)
	if err != nil {
		return err
	}
	i.rebalance = time.Now().UTC().Truncate(time.Second)
	c.emit("aws.ec2", "EC2 Instance Rebalance Recommendation", zoneARN(i), map[string]string{"instance-id": i.id})
	return nil
}

// scheduledEvent is what AWS means to do to an instance.
type scheduledEvent struct {
	id, description string
	code            ec2types.EventCode
	notBefore       time.Time
}

// healthCodes are the type codes of the AWS Health events that announce a scheduled event.
var healthCodes = map[ec2types.EventCode]string{
	ec2types.EventCodeInstanceRetirement: "AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED",
	ec2types.EventCodeInstanceStop:       "AWS_EC2_INSTANCE_STOP_SCHEDULED",
	ec2types.EventCodeInstanceReboot:     "AWS_EC2_INSTANCE_REBOOT_FLEXIBLE_MAINTENANCE_SCHEDULED",
	ec2types.EventCodeSystemReboot:       "AWS_EC2_SYSTEM_REBOOT_MAINTENANCE_SCHEDULED",
	ec2types.EventCodeSystemMaintenance:  "AWS_EC2_INSTANCE_NETWORK_MAINTENANCE_SCHEDULED",
}

// ScheduleChange announces an event of an instance, such as "instance-retirement", in so long a time: as an AWS Health event in the
// queues, and in DescribeInstanceStatus. The event itself does not take place.
func (c *Cloud) ScheduleChange(instanceID, code string, in time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scheduleChange(instanceID, code, in)
}

func (c *Cloud) scheduleChange(instanceID, code string, in time.Duration) error {
	i := c.instances.get(instanceID)
	if i == nil || i.state == ec2types.InstanceStateNameTerminated {
		return kindInstance.missing(instanceID)
	}
	healthCode, ok := healthCodes[ec2types.EventCode(code)]
	if !ok {
		return invalidValue(code, "code")
	}
	e := scheduledEvent{
		id: c.ids.implicit("instance-event"), code: ec2types.EventCode(code), notBefore: time.Now().UTC().Add(in).Truncate(time.Second),
		description: "The instance is on hardware that needs maintenance",
	}
	i.events = append(i.events, e)
	c.emit("aws.health", "AWS Health Event", i.id, healthDetail{
		ARN: fmt.Sprintf("arn:aws:health:%s::event/EC2/%s/%s_%s", c.region, healthCode, healthCode, uuid(c.random)), Service: "EC2",
		Code: healthCode, Category: "scheduledChange", Start: httpTime(e.notBefore), End: httpTime(e.notBefore.Add(time.Hour)),
		Description: []healthText{{Language: "en_US", Text: e.description}}, Affected: []healthEntity{{Value: i.id}},
	})
	return nil
}

// healthDetail is the detail of an AWS Health event.
type healthDetail struct {
	ARN         string         `json:"eventArn"`
	Service     string         `json:"service"`
	Code        string         `json:"eventTypeCode"`
	Category    string         `json:"eventTypeCategory"`
	Start       string         `json:"startTime"`
	End         string         `json:"endTime"`
	Description []healthText   `json:"eventDescription"`
	Affected    []healthEntity `json:"affectedEntities"`
}

type healthText struct {
	Language string `json:"language"`
	Text     string `json:"latestDescription"`
}

type healthEntity struct {
	Value string `json:"entityValue"`
}

// httpTime is how AWS Health writes times.
func httpTime(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }
