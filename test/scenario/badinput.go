// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	vpccni "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
)

// missingSubnet is an id that EC2 could have given, and did not.
const missingSubnet = "subnet-0123456789abcdef0"

// BadInput is how the product took an input that cannot work.
type BadInput struct {
	// Condition is the PodNetwork's false condition: type, reason and message.
	Condition string
	// Events are those of the ENIConfig, where it exists, and of the NodePool that is pinned to its zone.
	Events []string
	// PodEvents are the events of the pod that cannot start.
	PodEvents []string
	// Why is what `kubectl dovetail why` says of that pod.
	Why string
	// OtherNode is the node that was launched in another zone meanwhile.
	OtherNode string
	// RepairedNode is the node that the pod got after the input was repaired.
	RepairedNode string
}

// UnknownField applies a PodNetwork with a field that does not exist, and returns the API server's answer.
func (s *Sandbox) UnknownField(ctx context.Context, field string) error {
	network := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "PodNetwork",
		"metadata": map[string]any{"name": "unknown-field"},
		"spec":     map[string]any{field: "1"},
	}}
	err := s.apply(ctx, network)
	if err == nil {
		return errors.Join(fmt.Errorf("a PodNetwork with spec.%s was accepted", field), s.Kube.Delete(ctx, network))
	}
	if !strings.Contains(err.Error(), field) {
		return fmt.Errorf("the answer does not name the field %s: %w", field, err)
	}
	return nil
}

// MissingSubnet makes a zone's ENIConfig name a subnet that does not exist.
func (s *Sandbox) MissingSubnet(ctx context.Context, network, zone, otherZone string) (BadInput, error) {
	return s.badENIConfig(ctx, badENIConfig{
		name: "missing-subnet", network: network, zone: zone, otherZone: otherZone,
		damage: func(config *vpccni.ENIConfig) error {
			damaged := config.DeepCopy()
			damaged.Spec.Subnet = missingSubnet
			return s.Kube.Patch(ctx, damaged, client.MergeFrom(config))
		},
		condition: v1alpha1.ConditionSubnetsReady, mention: missingSubnet, onENIConfig: true,
	})
}

// MissingENIConfig deletes a zone's ENIConfig.
func (s *Sandbox) MissingENIConfig(ctx context.Context, network, zone, otherZone string) (BadInput, error) {
	return s.badENIConfig(ctx, badENIConfig{
		name: "missing-eniconfig", network: network, zone: zone, otherZone: otherZone,
		damage:    func(config *vpccni.ENIConfig) error { return s.Kube.Delete(ctx, config) },
		condition: v1alpha1.ConditionENIConfigsReady, mention: zone,
	})
}

type badENIConfig struct {
	name, network, zone, otherZone string
	damage                         func(*vpccni.ENIConfig) error
	// condition turns false, and its message has mention.
	condition, mention string
	// onENIConfig is true where the ENIConfig exists and must have an event with mention.
	onENIConfig bool
}

// badENIConfig damages the ENIConfig named after the zone, asks for a node there and for one in another zone, collects
// what the user is told, and repairs the ENIConfig.
func (s *Sandbox) badENIConfig(ctx context.Context, bad badENIConfig) (result BadInput, err error) {
	good := &vpccni.ENIConfig{}
	if err := s.Kube.Get(ctx, client.ObjectKey{Name: bad.zone}, good); err != nil {
		return result, fmt.Errorf("reading ENIConfig %s: %w", bad.zone, err)
	}
	repair := func(ctx context.Context) error { return s.apply(ctx, eniConfig(good)) }
	defer cleanup(ctx, &err, repair)
	if err := bad.damage(good.DeepCopy()); err != nil {
		return result, fmt.Errorf("damaging ENIConfig %s: %w", bad.zone, err)
	}
	if result.Condition, err = s.waitCondition(ctx, bad.network, bad.condition, metav1.ConditionFalse, bad.mention); err != nil {
		return result, err
	}
	var launches []launch
	defer cleanup(ctx, &err, func(ctx context.Context) error { return s.endLaunches(ctx, launches) })
	for _, zone := range []string{bad.zone, bad.otherZone} {
		one, err := s.launch(ctx, launchParams{
			Name:         bad.name + "-" + zone,
			Requirements: requirements{corev1.LabelTopologyZone: {zone}, corev1.LabelInstanceTypeStable: {"m5.large"}},
		})
		launches = append(launches, one)
		if err != nil {
			return result, err
		}
	}
	pinned, other := launches[0].pod, launches[1].pod
	others, err := s.waitPods(ctx, []*corev1.Pod{other})
	if err != nil {
		return result, fmt.Errorf("a pod in zone %s, whose ENIConfig is good: %w", bad.otherZone, err)
	}
	result.OtherNode = others[0].Spec.NodeName
	// Both owners look at their objects: of the ENIConfig where there is one, and of the NodePool that launches nothing.
	if bad.onENIConfig {
		if result.Events, err = s.waitEvents(ctx, "ENIConfig", bad.zone, bad.mention); err != nil {
			return result, err
		}
	}
	nodePoolEvents, err := s.waitEvents(ctx, "NodePool", launches[0].pool.Name, "zone")
	if err != nil {
		return result, err
	}
	result.Events = append(result.Events, nodePoolEvents...)
	if result.PodEvents, err = s.waitEvents(ctx, "Pod", pinned.Name, "FailedScheduling"); err != nil {
		return result, err
	}
	why, err := s.WaitWhy(ctx, pinned.Name, diagnosis.CauseNoENIConfig, bad.mention)
	if err != nil {
		return result, err
	}
	result.Why = why.Printed
	current := &corev1.Pod{}
	if err := s.Kube.Get(ctx, client.ObjectKeyFromObject(pinned), current); err != nil {
		return result, err
	}
	if current.Spec.NodeName != "" {
		return result, fmt.Errorf("pod %s got node %s in a zone without pod addresses", pinned.Name, current.Spec.NodeName)
	}
	if err := repair(ctx); err != nil {
		return result, err
	}
	started, err := s.waitPods(ctx, []*corev1.Pod{pinned})
	if err != nil {
		return result, fmt.Errorf("after the repair: %w", err)
	}
	result.RepairedNode = started[0].Spec.NodeName
	_, err = s.waitCondition(ctx, bad.network, bad.condition, metav1.ConditionTrue, "")
	return result, err
}

// eniConfig is the part of an ENIConfig that its user wrote.
func eniConfig(of *vpccni.ENIConfig) *unstructured.Unstructured {
	groups := make([]any, len(of.Spec.SecurityGroups))
	for i, group := range of.Spec.SecurityGroups {
		groups[i] = group
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "crd.k8s.amazonaws.com/v1alpha1", "kind": "ENIConfig",
		"metadata": map[string]any{"name": of.Name},
		"spec":     map[string]any{"subnet": of.Spec.Subnet, "securityGroups": groups},
	}}
}

// waitCondition waits until a PodNetwork's condition has the status and its message mentions a text.
func (s *Sandbox) waitCondition(ctx context.Context, network, condition string, status metav1.ConditionStatus, mention string) (found string, err error) {
	what := fmt.Sprintf("PodNetwork %s has %s=%s", network, condition, status)
	err = until(ctx, what, func(ctx context.Context) error {
		var object v1alpha1.PodNetwork
		if err := s.Kube.Get(ctx, client.ObjectKey{Name: network}, &object); err != nil {
			return err
		}
		for _, c := range object.Status.Conditions {
			if c.Type != condition {
				continue
			}
			found = fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
			if c.Status == status && strings.Contains(c.Message, mention) {
				return nil
			}
			return fmt.Errorf("%s does not mention %q", found, mention)
		}
		return errors.New("it has no such condition")
	})
	return found, err
}

// WaitReady waits until the PodNetwork is Ready.
func (s *Sandbox) WaitReady(ctx context.Context, network string) error {
	_, err := s.waitCondition(ctx, network, "Ready", metav1.ConditionTrue, "")
	return err
}

// waitEvents waits until an event of the object mentions a text, and returns all its events.
func (s *Sandbox) waitEvents(ctx context.Context, kind, name, mention string) (found []string, err error) {
	err = until(ctx, fmt.Sprintf("an event of %s %s mentions %q", kind, name, mention), func(ctx context.Context) error {
		if found, err = s.events(ctx, kind, name); err != nil {
			return err
		}
		if !slices.ContainsFunc(found, func(event string) bool { return strings.Contains(event, mention) }) {
			return fmt.Errorf("its events are %q", found)
		}
		return nil
	})
	return found, err
}
