// SPDX-License-Identifier: Apache-2.0

package awsnode

import "github.com/dovetail-dev/dovetail/pkg/agent/eni"

// demand is what a step is decided by, in aws-node's secondary-address mode.
type demand struct {
	// slots of an ENI for pods: all of its addresses but the first.
	slots int
	// maxENIs of the instance.
	maxENIs int
	// warmENIs is WARM_ENI_TARGET.
	warmENIs int
	// enis that are attached, the primary first.
	enis []eni.ENI
	// assigned addresses are pods'. Those that rest count as available (amazon-vpc-cni-k8s #2896).
	assigned int
}

// action is what one tick does: at most one thing.
type action struct {
	// assign so many addresses to the ENI.
	assign int
	to     eni.ENI
	// create an ENI.
	create bool
}

// low is aws-node's isDatastorePoolTooLow without address targets.
func (d demand) low() bool {
	available := d.total() - d.assigned
	return available < d.slots*d.warmENIs || d.warmENIs == 0 && available == 0
}

func (d demand) total() (n int) {
	for _, e := range d.enis {
		n += len(e.Prefixes)
	}
	return n
}

// grow fills the ENIs that are there, the primary one too, before it wants another; false when nothing is to be done.
func (d demand) grow() (action, bool) {
	if !d.low() {
		return action{}, false
	}
	for _, e := range d.enis {
		if room := d.slots - len(e.Prefixes); room > 0 {
			return action{assign: room, to: e}, true
		}
	}
	if len(d.enis) >= d.maxENIs {
		return action{}, false
	}
	return action{create: true}, true
}
