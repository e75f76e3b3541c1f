// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"slices"
	"strings"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/hollow"
)

func (d *daemon) startHollow(ctx context.Context) (err error) {
	if d.hollow, err = hollow.New(d.control.RESTConfig(), ours, d.log); err != nil {
		return err
	}
	go func() {
		if err := d.hollow.Run(ctx); err != nil {
			d.log.Error("hollow nodes", "error", err)
		}
	}()
	return nil
}

// ours is an image of Dovetail's: a hollow agent is said to be ready.
func ours(image string) bool { return strings.HasPrefix(image, imageRegistry+"/") }

// takeHollow hands all instances but those of the managed node group, where the controller runs, to the hollow nodes, and
// returns what remains: no machine and no packet is made of them.
func (d *daemon) takeHollow(ctx context.Context, s aws.Snapshot) aws.Snapshot {
	taken := map[string]bool{}
	var machines []bootstrap.Machine
	for _, instance := range s.Instances {
		if instance.Tags[nodeGroupTag] != "" {
			continue
		}
		taken[instance.ID] = true
		if instance.State != "running" {
			continue
		}
		machine, running := d.hollow.Machine(instance.PrivateDNS)
		if !running || machine.InstanceID != instance.ID { // user data are read at the first boot only
			var err error
			if machine, err = MachineOf(instance); err != nil {
				d.log.Warn("instance does not boot", "instance", instance.ID, "error", err)
				continue
			}
		}
		machines = append(machines, machine)
	}
	d.hollow.Set(ctx, machines)
	s.Instances = slices.DeleteFunc(s.Instances, func(i aws.Instance) bool { return taken[i.ID] })
	s.Interfaces = slices.DeleteFunc(s.Interfaces, func(i aws.Interface) bool { return i.Attachment != nil && taken[i.Attachment.InstanceID] })
	return s
}

// MachineOf reads an instance's user data, as its first boot would.
func MachineOf(instance aws.Instance) (bootstrap.Machine, error) {
	machine := bootstrap.Machine{Identity: bootstrap.Identity{
		InstanceID: instance.ID, InstanceType: instance.Type, Zone: instance.Zone, Region: Region, Hostname: instance.PrivateDNS, IP: instance.PrivateIP,
	}}
	machine.Hardware, _ = hardware(instance.Type) // the simulator launches only types that it knows
	var err error
	machine.UserData, err = bootstrap.DecodeUserData(instance.UserData)
	return machine, err
}
