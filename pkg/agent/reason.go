// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

// satisfied forgets what was lacking.
func (a *Agent) satisfied() {
	a.backoff, a.notBefore = 0, time.Time{}
	if a.lacking != nil {
		a.lacking = nil
		a.poke()
	}
}

// fail backs off, and says why there are no more addresses.
func (a *Agent) fail(err error) {
	a.backoff = min(max(2*a.backoff, firstBackoff), lastBackoff)
	a.notBefore = time.Now().Add(a.backoff/2 + rand.N(a.backoff/2)) //nolint:gosec // jitter
	a.log.Warn("no addresses", "error", err, "again", time.Until(a.notBefore).Round(time.Millisecond))
	a.lack(err)
}

// lack records a reason where people look: the node's events and the plugin's error.
func (a *Agent) lack(err error) {
	lacking := &pool.Shortage{Reason: string(eni.Classify(err)), Message: err.Error(), Since: time.Now()}
	if a.lacking != nil && a.lacking.Message == lacking.Message {
		a.count(eni.Reason(lacking.Reason), lacking.Message)
		return
	}
	a.notice(eni.Reason(lacking.Reason), lacking.Message)
	a.lacking = lacking
	a.poke()
}

// count a failure, for metrics and for the status.
func (a *Agent) count(reason eni.Reason, message string) {
	a.metrics.failures.WithLabelValues(string(reason)).Inc()
	a.errors.add(string(reason), message, time.Now())
}

// kernelFailed is called by whoever looks at the kernel.
func (a *Agent) kernelFailed(err error) {
	a.metrics.kernelErrors.Inc()
	a.errors.add(string(dataPathFailed), err.Error(), time.Now())
}

// notice is a warning on the node.
func (a *Agent) notice(reason eni.Reason, message string) {
	a.count(reason, message)
	a.events.Event(a.nodeReference(), corev1.EventTypeWarning, string(reason), message)
}

const (
	// dataPathFailed: pods would get addresses, and no network.
	dataPathFailed eni.Reason = "DataPathFailed"
	// dataPathContested: another program undoes repairs.
	dataPathContested eni.Reason = "DataPathContested"
)

// contested tells that another program undoes what the keeper repairs.
func (a *Agent) contested(change datapath.Change) {
	a.notice(dataPathContested, fmt.Sprintf("another program keeps undoing what pods need on this node, and repairs come ever more slowly now: %s. "+
		"Find it (systemd-networkd with ManageForeignRoutes or ManageForeignRoutingPolicyRules, NetworkManager, a firewall) and let it leave this alone", change))
}

// explain turns EC2's answer into what a person can act on.
func (a *Agent) explain(node *corev1.Node, s settings, err error) error {
	reason := eni.Classify(err)
	name, _ := eniConfigName(node, s.nodeLabel)
	pods := 0
	if a.source != nil {
		pods = len(a.source.ENIs())
	}
	where := fmt.Sprintf("ENIConfig %s, zone %s; %d pod ENIs attached", name, a.instance.Zone, pods)
	var known *eni.Error
	if errors.As(err, &known) {
		if reason == eniConfigMissing {
			return known
		}
		return &eni.Error{Reason: reason, Message: fmt.Sprintf("%s (%s)", known.Message, where)}
	}
	a.log.Warn("what was done for addresses failed", "error", err) // with the request's id, for AWS's support
	switch reason {
	case eni.NoFreePrefix:
		return &eni.Error{Reason: reason, Message: fmt.Sprintf("the pod subnet has no free /28 (%s): add a subnet CIDR reservation of type prefix, or another subnet: %s", where, eni.Brief(err))}
	case eni.SubnetFull:
		return &eni.Error{Reason: reason, Message: fmt.Sprintf("the pod subnet has too few free addresses (%s): %s", where, eni.Brief(err))}
	case eni.SubnetMissing, eni.GroupMissing, eni.WrongZone:
		return &eni.Error{Reason: reason, Message: fmt.Sprintf("the ENIConfig cannot be used (%s): %s", where, eni.Brief(err))}
	case eni.Unauthorized:
		return &eni.Error{Reason: reason, Message: fmt.Sprintf("the node's IAM role lacks a right (%s): %s", where, eni.Brief(err))}
	default:
		return &eni.Error{Reason: reason, Message: fmt.Sprintf("%s: %s", where, eni.Brief(err))}
	}
}
