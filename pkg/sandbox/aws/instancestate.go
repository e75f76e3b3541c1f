// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// stateChange is an element of the replies of TerminateInstances, StopInstances and StartInstances.
func stateChange(i *instance, before ec2types.InstanceStateName) ec2types.InstanceStateChange {
	return ec2types.InstanceStateChange{InstanceId: &i.id, PreviousState: instanceState(before), CurrentState: instanceState(i.state)}
}

// reasonOf is the reason of a state that a caller has brought about.
func (r *request) reasonOf() stateReason {
	return stateReason{
		transition: fmt.Sprintf("User initiated (%s)", r.now.UTC().Format("2006-01-02 15:04:05 MST")),
		code:       "Client.UserInitiatedShutdown", message: "Client.UserInitiatedShutdown: User initiated shutdown",
	}
}

func (r *request) stopInstances(in *ec2.StopInstancesInput) (*ec2.StopInstancesOutput, error) {
	instances, err := r.named(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, i := range instances {
		switch {
		case i.state != ec2types.InstanceStateNameRunning && i.state != ec2types.InstanceStateNameStopping && i.state != ec2types.InstanceStateNameStopped:
			return nil, clientError("IncorrectInstanceState", "This instance '%s' is not in a state from which it can be stopped.", i.id)
		case i.spotRequest != "":
			return nil, clientError("UnsupportedOperation",
				"You can't stop the Spot Instance '%s' because it is associated with a one-time Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests.", i.id)
		}
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	out := &ec2.StopInstancesOutput{}
	for _, i := range instances {
		before := i.state
		if before == ec2types.InstanceStateNameRunning {
			r.stop(i)
		}
		out.StoppingInstances = append(out.StoppingInstances, stateChange(i, before))
	}
	return out, nil
}

// named returns the instances of a call that must name some.
func (r *request) named(ids []string) ([]*instance, error) {
	if len(ids) == 0 {
		return nil, missingParameter("instancesSet")
	}
	return r.known(ids)
}

// stop keeps the instance's interfaces and private addresses; a public address that is not the account's own goes.
func (r *request) stop(i *instance) {
	i.reason = r.reasonOf()
	r.setState(i, ec2types.InstanceStateNameStopping)
	r.after(r.latency.Shutdown, func() {
		if i.state != ec2types.InstanceStateNameStopping {
			return
		}
		i.wasPublic = i.primary.public.IsValid()
		i.primary.public = netip.Addr{}
		r.setState(i, ec2types.InstanceStateNameStopped)
	})
}

func (r *request) startInstances(in *ec2.StartInstancesInput) (*ec2.StartInstancesOutput, error) {
	instances, err := r.named(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	for _, i := range instances {
		switch i.state {
		case ec2types.InstanceStateNameStopped, ec2types.InstanceStateNamePending, ec2types.InstanceStateNameRunning:
		default:
			return nil, clientError("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started.", i.id)
		}
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	out := &ec2.StartInstancesOutput{}
	for _, i := range instances {
		before := i.state
		if before == ec2types.InstanceStateNameStopped {
			reserved, err := r.takeRoom(&launchPlan{info: i.info, zone: i.subnet.zone, tenancy: i.tenancy})
			if err != nil {
				return nil, err
			}
			i.capacity = reserved
			i.launchTime, i.reason = r.now.UTC(), stateReason{}
			if i.wasPublic {
				i.primary.public = r.nextPublicAddress()
			}
			r.boot(i)
		}
		out.StartingInstances = append(out.StartingInstances, stateChange(i, before))
	}
	return out, nil
}

// boot makes an instance pending, then running.
func (r *request) boot(i *instance) {
	r.setState(i, ec2types.InstanceStateNamePending)
	r.after(r.latency.Boot, func() {
		if i.state == ec2types.InstanceStateNamePending {
			r.setState(i, ec2types.InstanceStateNameRunning)
		}
	})
}

func (r *request) terminateInstances(in *ec2.TerminateInstancesInput) (*ec2.TerminateInstancesOutput, error) {
	instances, err := r.named(in.InstanceIds)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	out := &ec2.TerminateInstancesOutput{}
	for _, i := range instances {
		before := i.state
		r.terminate(i, r.reasonOf())
		out.TerminatingInstances = append(out.TerminatingInstances, stateChange(i, before))
	}
	return out, nil
}

// terminate ends an instance, for whatever reason.
func (c *Cloud) terminate(i *instance, reason stateReason) {
	if i.state == ec2types.InstanceStateNameShuttingDown || i.state == ec2types.InstanceStateNameTerminated {
		return
	}
	i.reason = reason
	c.setState(i, ec2types.InstanceStateNameShuttingDown)
	c.after(c.latency.Shutdown, func() {
		i.countsUntil = time.Now().Add(c.latency.Propagation.draw(c.random))
		c.setState(i, ec2types.InstanceStateNameTerminated)
		c.after(Span{Min: c.latency.Terminated}, func() { c.instances.remove(i.id) })
		// Interfaces that are not to be deleted stay, available: this is how they leak.
		for _, n := range i.interfaces {
			if n.attachment.deleteOnTermination {
				c.free(n)
				continue
			}
			n.attachment, n.shown, n.listed = nil, given{}, false
		}
		i.interfaces = nil
	})
}

// setState is the only place where an instance's state changes.
func (c *Cloud) setState(i *instance, state ec2types.InstanceStateName) {
	i.state = state
	if state == ec2types.InstanceStateNameStopped {
		i.hungSince = time.Time{} // it will boot on other hardware
	}
	c.emitState(i)
	if state == ec2types.InstanceStateNameStopped || state == ec2types.InstanceStateNameTerminated {
		i.leaveReservation()
	}
}
