// SPDX-License-Identifier: Apache-2.0

package provisioning

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

const (
	// inUsePoll while something uses what is to be deleted.
	inUsePoll = 30 * time.Second
	// lastWrites is how long after the PodNetwork's deletion a subnet that was made just before may be unknown to parts of EC2.
	lastWrites = 10 * time.Second
)

// end gives up what was made, or deletes it, when the PodNetwork goes or has no spec.provision any more.
func (c *Controller) end(ctx context.Context, network *v1alpha1.PodNetwork) (reconcile.Result, error) {
	deleted := !network.DeletionTimestamp.IsZero()
	if deleted && network.Status.Provision != nil && network.Spec.Provision != nil && network.Spec.Provision.DeletionPolicy == v1alpha1.DeletionDelete {
		left, err := c.delete(ctx, network)
		switch {
		case err != nil:
			return c.failed(ctx, network, nil, err)
		case left.reason != "":
			return reconcile.Result{RequeueAfter: left.poll}, c.tellLeft(ctx, network, left)
		}
	} else if err := c.release(ctx, network); err != nil {
		return reconcile.Result{}, err
	}
	stored := network.DeepCopy()
	network.PutCondition(v1alpha1.ConditionProvisioned, nil, metav1.NewTime(c.Clock.Now()))
	if err := c.patch(ctx, network, stored); err != nil {
		return reconcile.Result{}, err
	}
	stored = network.DeepCopy()
	controllerutil.RemoveFinalizer(network, v1alpha1.FinalizerProvision)
	if err := c.Client.Patch(ctx, network, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("removing the finalizer of PodNetwork %s, %w", network.Name, err)
	}
	c.forget(network)
	return reconcile.Result{}, nil
}

// own returns the ENIConfigs that the network controls.
func (c *Controller) own(ctx context.Context, network *v1alpha1.PodNetwork) ([]eniconfig.ENIConfig, error) {
	list := &eniconfig.ENIConfigList{}
	if err := c.Client.List(ctx, list); err != nil {
		return nil, fmt.Errorf("listing ENIConfigs, %w", err)
	}
	return lo.Filter(list.Items, func(config eniconfig.ENIConfig, _ int) bool { return metav1.IsControlledBy(&config, network) }), nil
}

// release the ENIConfigs: without an owner they outlive the PodNetwork.
func (c *Controller) release(ctx context.Context, network *v1alpha1.PodNetwork) error {
	configs, err := c.own(ctx, network)
	if err != nil {
		return err
	}
	for _, config := range configs {
		stored := config.DeepCopy()
		if err := controllerutil.RemoveControllerReference(network, &config, c.Client.Scheme()); err != nil {
			return fmt.Errorf("ENIConfig %s, %w", config.Name, err)
		}
		if err := c.Client.Patch(ctx, &config, client.MergeFromWithOptions(stored, client.MergeFromWithOptimisticLock{})); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("releasing ENIConfig %s, %w", config.Name, err)
		}
	}
	return nil
}

// left is what a deletion waits for.
type left struct {
	reason   string // "" for nothing
	messages []string
	poll     time.Duration
}

func (l *left) add(reason string, poll time.Duration, format string, args ...any) {
	if l.reason == "" || reason == ReasonInUse {
		l.reason = reason
	}
	l.poll = max(l.poll, poll)
	l.messages = append(l.messages, fmt.Sprintf(format, args...))
}

// delete what was made and nothing uses. It starts from what is there each time, so it may end anywhere.
func (c *Controller) delete(ctx context.Context, network *v1alpha1.PodNetwork) (left, error) {
	var rest left
	if age := c.Clock.Since(network.DeletionTimestamp.Time); age < lastWrites {
		rest.add(ReasonDeleting, lastWrites-age, "what was made last may be unknown to parts of EC2 yet")
		return rest, nil
	}
	c.vpcs.forget(network)
	vpc, err := c.vpcs.vpc(ctx, network, network.Status.Provision.VPC)
	if eni.Code(err) == "InvalidVpcID.NotFound" {
		return rest, nil
	} else if err != nil {
		return rest, err
	}
	own := lo.Filter(vpc.Subnets, func(s provision.Subnet, _ int) bool { return s.Cluster == c.Cluster && s.PodNetwork == network.Name })
	others := lo.Without(lo.Map(vpc.Subnets, func(s provision.Subnet, _ int) string { return s.ID }), lo.Map(own, func(s provision.Subnet, _ int) string { return s.ID })...)
	if err := c.deleteSubnets(ctx, network, own, &rest); err != nil || rest.reason != "" {
		return rest, err
	}
	if err := c.deleteENIConfigs(ctx, network, func(eniconfig.ENIConfig) bool { return true }); err != nil {
		return rest, err
	}
	for _, recorded := range network.Status.Provision.CIDRs {
		i := slices.IndexFunc(vpc.Blocks, func(b provision.Block) bool { return b.CIDR.String() == recorded.CIDR })
		if recorded.Made && i > 0 { // 0 is the block of the VPC itself
			if err := c.disassociate(ctx, network, vpc, vpc.Blocks[i], others, &rest); err != nil {
				return rest, err
			}
		}
	}
	return rest, nil
}

func (c *Controller) deleteSubnets(ctx context.Context, network *v1alpha1.PodNetwork, own []provision.Subnet, rest *left) error {
	used, err := c.users(ctx, own)
	if err != nil {
		return err
	}
	for _, s := range own {
		if n := used[s.ID]; len(n) > 0 {
			rest.add(ReasonInUse, inUsePoll, "pod subnet %s (%s, %s) has %d network interfaces, such as %s: they go with the nodes that have them; "+
				"to leave what is left, set spec.provision.deletionPolicy to Retain", s.ID, s.CIDR, s.Zone, len(n), n[0])
			continue
		}
		if err := c.deleteENIConfigs(ctx, network, func(config eniconfig.ENIConfig) bool { return config.Spec.Subnet == s.ID }); err != nil {
			return err
		}
		for _, r := range s.Reservations {
			if !r.Own {
				continue
			}
			_, err := c.EC2.DeleteSubnetCidrReservation(ctx, &ec2.DeleteSubnetCidrReservationInput{SubnetCidrReservationId: aws.String(r.ID)})
			if err != nil && !gone(err) {
				return called("ec2:DeleteSubnetCidrReservation", err)
			}
			c.did(ctx, network, "DeleteReservation", fmt.Sprintf("deleted the reservation of %s in pod subnet %s", r.CIDR, s.ID))
		}
		switch _, err := c.EC2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: aws.String(s.ID)}); {
		case eni.Code(err) == "DependencyViolation":
			rest.add(ReasonInUse, inUsePoll, "pod subnet %s (%s, %s) is in use: EC2 does not delete it", s.ID, s.CIDR, s.Zone)
		case err != nil && !gone(err):
			return called("ec2:DeleteSubnet", err)
		default:
			c.did(ctx, network, "DeleteSubnet", fmt.Sprintf("deleted pod subnet %s (%s, %s)", s.ID, s.CIDR, s.Zone))
		}
	}
	return nil
}

// users of subnets: their network interfaces.
func (c *Controller) users(ctx context.Context, subnets []provision.Subnet) (map[string][]string, error) {
	users := map[string][]string{}
	ids := lo.Map(subnets, func(s provision.Subnet, _ int) string { return s.ID })
	for chunk := range slices.Chunk(ids, ec2read.ValuesPerFilter) {
		for n, err := range ec2read.NetworkInterfaces(ctx, c.EC2, ec2read.Filter("subnet-id", chunk...)) {
			if err != nil {
				return nil, called("ec2:DescribeNetworkInterfaces", err)
			}
			users[aws.ToString(n.SubnetId)] = append(users[aws.ToString(n.SubnetId)], aws.ToString(n.NetworkInterfaceId))
		}
	}
	return users, nil
}

func (c *Controller) deleteENIConfigs(ctx context.Context, network *v1alpha1.PodNetwork, which func(eniconfig.ENIConfig) bool) error {
	configs, err := c.own(ctx, network)
	if err != nil {
		return err
	}
	for _, config := range configs {
		if !which(config) || !config.DeletionTimestamp.IsZero() {
			continue
		}
		if err := c.Client.Delete(ctx, &config); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("deleting ENIConfig %s, %w", config.Name, err)
		}
		c.did(ctx, network, "DeleteENIConfig", "deleted ENIConfig "+config.Name)
	}
	return nil
}

func (c *Controller) disassociate(ctx context.Context, network *v1alpha1.PodNetwork, vpc provision.VPC, block provision.Block, others []string, rest *left) error {
	for _, s := range vpc.Subnets {
		if slices.Contains(others, s.ID) && block.CIDR.Overlaps(s.CIDR) {
			rest.add(ReasonInUse, inUsePoll, "CIDR %s holds subnet %s, which this PodNetwork did not make: delete it, or set spec.provision.deletionPolicy to Retain", block.CIDR, s.ID)
			return nil
		}
	}
	switch block.State {
	case provision.Disassociated:
		return nil
	case provision.Associated, provision.Failed:
		_, err := c.EC2.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: aws.String(block.ID)})
		switch {
		case eni.Code(err) == "InvalidCidrBlock.InUse":
			rest.add(ReasonInUse, inUsePoll, "CIDR %s is in use: EC2 does not take it from %s", block.CIDR, vpc.ID)
			return nil
		case err != nil && !gone(err):
			return called("ec2:DisassociateVpcCidrBlock", err)
		}
		c.did(ctx, network, "DisassociateCIDR", fmt.Sprintf("disassociating CIDR %s from %s", block.CIDR, vpc.ID))
	}
	rest.add(ReasonDeleting, associationPoll, "CIDR %s is being disassociated from %s", block.CIDR, vpc.ID)
	return nil
}

// tellLeft says what a deletion waits for.
func (c *Controller) tellLeft(ctx context.Context, network *v1alpha1.PodNetwork, rest left) error {
	stored := network.DeepCopy()
	message := strings.Join(rest.messages, "; ")
	network.PutCondition(v1alpha1.ConditionProvisioned, &status.Condition{Status: metav1.ConditionFalse, Reason: rest.reason, Message: message}, metav1.NewTime(c.Clock.Now()))
	if rest.reason == ReasonInUse {
		c.Recorder.Publish(events.Event{
			InvolvedObject: network, Type: corev1.EventTypeWarning, Reason: rest.reason, Message: message, DedupeValues: []string{network.Name, rest.reason, message},
		})
	}
	return c.patch(ctx, network, stored)
}

// gone tells that what was to be deleted is not there.
func gone(err error) bool {
	return slices.Contains([]string{"InvalidSubnetID.NotFound", "InvalidSubnetCidrReservationID.NotFound", "InvalidVpcCidrBlockAssociationID.NotFound", "InvalidVpcCidrBlockAssociationIdError.NotFound"}, eni.Code(err))
}
