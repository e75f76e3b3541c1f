// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	provisioning "sigs.k8s.io/karpenter/pkg/controllers/provisioning/scheduling"
	"sigs.k8s.io/karpenter/pkg/scheduling"
)

// claimFor has Karpenter launch a node as one of the cluster's: by its pool, of its type, in its zone. What the pool does not allow any
// more is left to Karpenter; odd says so.
func claimFor(pool *karpv1.NodePool, node *corev1.Node) (claim *karpv1.NodeClaim, odd []string) {
	template := provisioning.NewNodeClaimTemplate(pool)
	template.IsStaticNodeClaim = true // its instance type is not for Karpenter to choose
	keys := []string{corev1.LabelInstanceTypeStable, corev1.LabelTopologyZone, karpv1.CapacityTypeLabelKey, corev1.LabelArchStable}
	for _, requirement := range pool.Spec.Template.Spec.Requirements {
		if !karpv1.WellKnownLabels.Has(requirement.Key) {
			keys = append(keys, requirement.Key)
		}
	}
	for _, key := range lo.Uniq(keys) {
		value := node.Labels[key]
		if key == karpv1.CapacityTypeLabelKey && value == karpv1.CapacityTypeReserved {
			value = karpv1.CapacityTypeOnDemand // the stage has no reservations
		}
		if value == "" {
			continue
		}
		if !template.Requirements.Get(key).Has(value) {
			odd = append(odd, key+"="+value)
			continue
		}
		template.Requirements.Add(scheduling.NewRequirement(key, corev1.NodeSelectorOpIn, value))
	}
	claim = template.ToNodeClaim()
	for i := range claim.Spec.Requirements {
		claim.Spec.Requirements[i].MinValues = nil // a choice of several is for new nodes
	}
	return claim, odd
}

// launch the nodes that the cluster has, and wait until they are Ready.
func (t *theater) launch(ctx context.Context, c *Cluster) error {
	pools := map[string]*karpv1.NodePool{}
	for i := range c.NodePools {
		pool := &karpv1.NodePool{}
		if err := t.Kube.Get(ctx, client.ObjectKeyFromObject(&c.NodePools[i]), pool); err != nil {
			return err
		}
		pools[pool.Name] = pool
	}
	plain, joining := map[string]string{}, &joiner{theater: t, images: map[string]*string{}} // names by instance
	claimed := 0
	for i := range c.Nodes {
		mapped, err := t.names.object(&c.Nodes[i])
		if err != nil {
			return err
		}
		node := mapped.(*corev1.Node)
		pool := pools[node.Labels[karpv1.NodePoolLabelKey]]
		if pool == nil {
			instance, err := joining.launch(ctx, c, node)
			var refused smithy.APIError
			if errors.As(err, &refused) {
				t.note("node %s, which Karpenter does not own, is not there: %s", node.Name, refused.ErrorMessage())
				continue
			}
			if err != nil {
				return fmt.Errorf("node %s, which Karpenter does not own: %w", node.Name, err)
			}
			plain[instance] = node.Name
			t.was[instance] = node.Name
			continue
		}
		claim, odd := claimFor(pool, node)
		if len(odd) > 0 {
			t.note("node %s: its NodePool %s does not allow its %s any more; Karpenter chose otherwise", node.Name, pool.Name, strings.Join(odd, ", "))
		}
		if err := t.Kube.Create(ctx, claim); err != nil {
			return fmt.Errorf("NodeClaim for node %s: %w", node.Name, err)
		}
		t.was[claim.Name] = node.Name
		claimed++
	}
	if err := t.awaitNodes(ctx, claimed, len(plain)); err != nil {
		return err
	}
	if err := t.dress(ctx, c, plain); err != nil {
		return err
	}
	return t.hold(ctx, c)
}

// patience with the launch of the first nodes: EC2 and Karpenter take under a minute for each of them, many at once.
const patience = 5 * time.Minute

// awaitNodes until they are Ready, or Karpenter has given up on them.
func (t *theater) awaitNodes(ctx context.Context, claimed, plain int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	said := ""
	err := poll(ctx, time.Second, func(ctx context.Context) (bool, error) {
		claims, nodes := &karpv1.NodeClaimList{}, &corev1.NodeList{}
		if err := t.Kube.List(ctx, claims); err != nil {
			return false, err
		}
		if err := t.Kube.List(ctx, nodes); err != nil {
			return false, err
		}
		ready := lo.CountBy(claims.Items, func(c karpv1.NodeClaim) bool {
			return c.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue()
		})
		others := lo.CountBy(nodes.Items, func(n corev1.Node) bool { return !t.own[n.Name] && t.was[instanceOf(n.Spec.ProviderID)] != "" })
		if line := fmt.Sprintf("%d of %d nodes are Ready", ready+others, claimed+plain); line != said {
			said = line
			t.say("%s", line)
		}
		return ready == len(claims.Items) && others == plain, nil
	})
	if err != nil && ctx.Err() == nil {
		return err
	}
	claims := &karpv1.NodeClaimList{}
	if err := t.Kube.List(context.WithoutCancel(ctx), claims); err != nil {
		return err
	}
	if missing := claimed - len(claims.Items); missing > 0 {
		t.note("%d of the cluster's nodes are not there: Karpenter could not launch them (a type that is not offered in that zone here, or a node class that is not Ready)", missing)
	}
	for i := range claims.Items {
		if c := &claims.Items[i]; !c.StatusConditions().Get(karpv1.ConditionTypeInitialized).IsTrue() {
			t.note("the node for %s is not Ready: %s", t.was[c.Name], lo.FromPtr(c.StatusConditions().Root()).Message)
		}
	}
	return nil
}

// instanceOf a provider id.
func instanceOf(providerID string) string {
	return providerID[strings.LastIndexByte(providerID, '/')+1:]
}

// dress plain nodes in the labels and taints of the cluster's, before there are pods.
func (t *theater) dress(ctx context.Context, c *Cluster, plain map[string]string) error {
	if len(plain) == 0 {
		return nil
	}
	nodes := &corev1.NodeList{}
	if err := t.Kube.List(ctx, nodes); err != nil {
		return err
	}
	as := lo.KeyBy(c.Nodes, func(n corev1.Node) string { return n.Name })
	for i := range nodes.Items {
		node := &nodes.Items[i]
		like, ok := as[plain[instanceOf(node.Spec.ProviderID)]]
		if !ok {
			continue
		}
		mapped, err := t.names.object(&like)
		if err != nil {
			return err
		}
		before := node.DeepCopy()
		node.Labels = lo.Assign(mapped.GetLabels(), node.Labels)
		node.Spec.Taints = append(node.Spec.Taints, mapped.(*corev1.Node).Spec.Taints...)
		node.Spec.Unschedulable = like.Spec.Unschedulable
		if err := t.Kube.Patch(ctx, node, client.MergeFrom(before)); err != nil {
			return fmt.Errorf("labels of node %s: %w", like.Name, err)
		}
	}
	return nil
}
