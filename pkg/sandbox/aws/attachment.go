// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (r *request) attachInterface(in *ec2.AttachNetworkInterfaceInput) (*ec2.AttachNetworkInterfaceOutput, error) {
	n, err := r.interfaces.one(kindInterface, "networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	i, err := r.instances.one(kindInstance, "instanceId", in.InstanceId)
	if err != nil {
		return nil, err
	}
	if in.DeviceIndex == nil {
		return nil, missingParameter("deviceIndex")
	}
	index, card := *in.DeviceIndex, awssdk.ToInt32(in.NetworkCardIndex)
	switch {
	case n.attachment != nil:
		return nil, clientError("InvalidNetworkInterface.InUse", "Interface: [%s] in use.", n.id)
	case i.state != ec2types.InstanceStateNameRunning && i.state != ec2types.InstanceStateNameStopped:
		// What EC2 answers for a pending instance is not documented; AttachVolume answers this.
		return nil, clientError("IncorrectState", "Instance '%s' is not 'running'.", i.id)
	case n.subnet.zone != i.subnet.zone:
		return nil, errOtherZone
	case n.subnet.vpc != i.subnet.vpc:
		return nil, notSimulated("interfaces of several VPCs on one instance")
	case i.interfaceAt(card, index) != nil:
		return nil, clientError("InvalidParameterValue", "Instance '%s' already has an interface attached at device index '%d'.", i.id, index)
	}
	if n.kind == ec2types.NetworkInterfaceTypeEfa {
		if i.state != ec2types.InstanceStateNameStopped { // "Work with EFA", in the EC2 user guide
			return nil, clientError("IncorrectState", "Instance '%s' is not 'stopped'. An Elastic Fabric Adapter is attached to a stopped instance.", i.id)
		}
		if err := i.geometry().admitsEFAs(i.countEFAs() + 1); err != nil {
			return nil, err
		}
	}
	if err := i.geometry().admits(i.interfacesOn(card)+1, card, n.slots(), len(n.prefixes) > 0); err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	a := &attachment{
		id: r.ids.next("eni-attach"), instance: i, card: card, index: index, status: ec2types.AttachmentStatusAttaching, since: r.now,
	}
	n.attachment = a
	i.interfaces = append(i.interfaces, n)
	r.after(r.latency.Attach, func() {
		if n.attachment == a && a.status == ec2types.AttachmentStatusAttaching {
			a.status = ec2types.AttachmentStatusAttached
			r.publishAfter(Span{}, n)
		}
	})
	return &ec2.AttachNetworkInterfaceOutput{AttachmentId: &a.id, NetworkCardIndex: &card}, nil
}

func (i *instance) countEFAs() int {
	count := 0
	for _, n := range i.interfaces {
		if n.kind == ec2types.NetworkInterfaceTypeEfa {
			count++
		}
	}
	return count
}

var errOtherZone = clientError("InvalidParameterCombination",
	"You may not attach a network interface to an instance if they are not in the same availability zone")

func (r *request) detachInterface(in *ec2.DetachNetworkInterfaceInput) (*ec2.DetachNetworkInterfaceOutput, error) {
	id := awssdk.ToString(in.AttachmentId)
	if id == "" {
		return nil, missingParameter("attachmentId")
	}
	attached := slices.IndexFunc(r.interfaces.all(), func(n *networkInterface) bool { return n.attachment != nil && n.attachment.id == id })
	if idPrefix(id) == "ela-attach" {
		return nil, clientError("OperationNotPermitted", "You are not allowed to manage 'ela-attach' attachments.")
	}
	if attached < 0 {
		return nil, kindAttachment.missing(id)
	}
	n := r.interfaces.all()[attached]
	a := n.attachment
	switch {
	case a.index == 0 && a.card == 0:
		return nil, clientError("OperationNotPermitted", "The network interface at device index 0 cannot be detached.")
	case a.status != ec2types.AttachmentStatusAttached:
		return nil, clientError("IncorrectState", "The attachment '%s' is '%s', not 'attached'.", a.id, a.status)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	a.status = ec2types.AttachmentStatusDetaching
	n.shown, n.listed = given{}, false
	r.after(r.latency.Detach, func() {
		if n.attachment == a {
			a.instance.drop(n)
			n.attachment = nil
		}
	})
	return &ec2.DetachNetworkInterfaceOutput{}, nil
}
