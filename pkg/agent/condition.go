// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

const (
	// conditionPatience is how long a node that was ready has to be short of addresses before it says so: throttling, and
	// pods that take their addresses at this moment, are over before.
	conditionPatience = 10 * time.Second
	// conditionHeartbeat is the kubelet's own period of reports that say nothing new.
	conditionHeartbeat = 5 * time.Minute
	// conditionRetry is after the API server did not take it.
	conditionRetry = 5 * time.Second
)

// Reasons of the condition besides those of eni.Reason.
const (
	addressesAvailable eni.Reason = "AddressesAvailable"
	starting           eni.Reason = "Starting"
)

// supply of addresses, and what is known of it.
type supply struct {
	capacity      int // addresses that plugins may take, used or not
	free, cooling int // of them
	waiting       int // pods without an address
	lacking       *pool.Shortage
}

// condition of the node: False when a pod that is bound to it now would get no address. A shortage that free and cooling
// addresses cover is told in the message only.
func (s supply) condition() corev1.NodeCondition {
	c := corev1.NodeCondition{Type: v1alpha1.ConditionPodNetworkReady, Status: corev1.ConditionTrue, Reason: string(addressesAvailable), Message: "pods get addresses"}
	covered := s.capacity > 0 && s.free+s.cooling >= max(s.waiting, 1)
	switch {
	case s.lacking == nil && s.capacity == 0:
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, string(starting), "the node agent gets the first addresses"
	case s.lacking == nil:
	case covered && s.lacking.Reason != string(dataPathFailed):
		c.Message = fmt.Sprintf("pods get addresses; there are no more of them now: %s: %s", s.lacking.Reason, s.lacking.Message)
	default:
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, s.lacking.Reason, s.lacking.Message
	}
	return c
}

// verdict is what the Node is to say.
type verdict struct {
	condition corev1.NodeCondition
	// refused is the value of AnnotationPodSubnetRefused, "" for none. The condition alone would not tell the controller: it is True
	// as long as pods find addresses all the same.
	refused string
}

// conditionWriter keeps the condition on the Node, beside those of the kubelet. It waits for the API server in its own
// goroutine: addresses do not wait for that.
type conditionWriter struct {
	nodes interface {
		PatchStatus(ctx context.Context, name string, patch []byte) (*corev1.Node, error)
	}
	name string
	// node as the cache has it.
	node   func(context.Context) (*corev1.Node, error)
	log    *slog.Logger
	wanted chan verdict // the newest only

	verdict verdict
	since   time.Time // of the verdict's status
	// written is what this writer left on the node that it had seen in this version: the cache lags behind.
	written *verdict
	seen    string
}

func newConditionWriter(clientset kubernetes.Interface, name string, node func(context.Context) (*corev1.Node, error), log *slog.Logger) *conditionWriter {
	return &conditionWriter{nodes: clientset.CoreV1().Nodes(), name: name, node: node, log: log, wanted: make(chan verdict, 1)}
}

// set never waits. Only one goroutine may call it.
func (w *conditionWriter) set(v verdict) {
	select {
	case <-w.wanted:
	default:
	}
	w.wanted <- v
}

// run until the context ends. The condition stays: its heartbeat tells that nobody keeps it.
func (w *conditionWriter) run(ctx context.Context) {
	timer := time.NewTimer(conditionHeartbeat)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-w.wanted:
			if v.condition.Status != w.verdict.condition.Status {
				w.since = time.Now()
			}
			w.verdict = v
		case <-timer.C:
		}
		if w.verdict.condition.Type == "" {
			continue
		}
		wait, err := w.write(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			w.log.Warn("writing the node's condition; again in a while", "condition", w.verdict.condition.Type, "error", err)
			wait = conditionRetry/2 + rand.N(conditionRetry) //nolint:gosec // jitter
		}
		timer.Reset(wait)
	}
}

// write patches the node when it is time to, and says when to look again.
func (w *conditionWriter) write(ctx context.Context, now time.Time) (time.Duration, error) {
	node, err := w.node(ctx)
	if err != nil {
		return 0, err
	}
	before, refused := conditionOf(node, w.verdict.condition.Type), node.Annotations[v1alpha1.AnnotationPodSubnetRefused]
	if node.ResourceVersion == w.seen && w.written != nil {
		before, refused = &w.written.condition, w.written.refused
	}
	c := w.verdict.condition
	if wait := due(before, c, w.since, now); wait > 0 {
		if refused == w.verdict.refused {
			return wait, nil
		}
		c = *before // which may stay for a while
	}
	c.LastHeartbeatTime, c.LastTransitionTime = metav1.NewTime(now), metav1.NewTime(now)
	if before != nil && before.Status == c.Status {
		c.LastTransitionTime = before.LastTransitionTime
	}
	// A strategic merge patch merges conditions by type: those of the kubelet stay what they are.
	content := map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{c}}}
	if refused != w.verdict.refused {
		value := &w.verdict.refused
		if *value == "" {
			value = nil // removes it
		}
		content["metadata"] = map[string]any{"annotations": map[string]*string{v1alpha1.AnnotationPodSubnetRefused: value}}
	}
	patch, err := json.Marshal(content)
	if err != nil {
		return 0, err
	}
	if _, err := w.nodes.PatchStatus(ctx, w.name, patch); err != nil {
		return 0, err
	}
	if before == nil || before.Status != c.Status || before.Reason != c.Reason {
		w.log.Info("the node's condition has changed", "condition", c.Type, "status", c.Status, "reason", c.Reason, "message", c.Message)
	}
	w.written, w.seen = &verdict{condition: c, refused: w.verdict.refused}, node.ResourceVersion
	return max(due(&c, w.verdict.condition, w.since, now), 0), nil
}

// due says how long from now the wanted condition is to be written; not positive: now.
func due(before *corev1.NodeCondition, wanted corev1.NodeCondition, since, now time.Time) time.Duration {
	switch {
	case before == nil:
		return 0
	case before.Status == corev1.ConditionTrue && wanted.Status != corev1.ConditionTrue:
		return since.Add(conditionPatience).Sub(now)
	case before.Status != wanted.Status || before.Reason != wanted.Reason || before.Message != wanted.Message:
		return 0
	default:
		return before.LastHeartbeatTime.Add(conditionHeartbeat).Sub(now)
	}
}

func conditionOf(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}
