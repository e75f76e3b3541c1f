// SPDX-License-Identifier: Apache-2.0

package vpccni

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Difference of one variable.
type Difference struct {
	Variable string
	// Is what the DaemonSet says: a quoted value, or unset, with what aws-node makes of it.
	Is string
	// Must is the value to set, "" for none.
	Must string
	Why  string
	// Fatal differences leave pods of new nodes without addresses of the pod network, or without any. The others cost something
	// else: time, addresses, a translated source address.
	Fatal bool
}

func (d Difference) String() string {
	must := "must not be set"
	if d.Must != "" {
		must = "must be " + strconv.Quote(d.Must)
	}
	return fmt.Sprintf("%s is %s and %s: %s", d.Variable, d.Is, must, d.Why)
}

// Comparison of aws-node's environment with a PodNetwork.
type Comparison struct {
	Differences []Difference
	// Unseen variables, which matter, each with where its value is.
	Unseen []string
}

// Fatal differences only.
func (c Comparison) Fatal() []Difference {
	return lo.Filter(c.Differences, func(d Difference, _ int) bool { return d.Fatal })
}

// Describe differences and how to end them.
func Describe(differences []Difference) string {
	return strings.Join(lo.Map(differences, func(d Difference, _ int) string { return d.String() }), "; ") + "; to change: " + Command(differences)
}

// Command that ends the differences. Where something else manages the DaemonSet (the EKS add-on, a Helm release), the same goes there.
func Command(differences []Difference) string {
	command := []string{"kubectl -n", Namespace, "set env daemonset", DaemonSet, "-c", Container}
	for _, d := range differences {
		command = append(command, lo.Ternary(d.Must == "", d.Variable+"-", d.Variable+"="+d.Must))
	}
	return strings.Join(command, " ")
}

// Compare finds what aws-node must be told otherwise to serve a PodNetwork with agent VPCCNI. reservedENIs is the controller's
// setting: ENIs that max-pods leaves to others.
func Compare(environment Environment, network *v1alpha1.PodNetwork, reservedENIs int) Comparison {
	c := &comparer{environment: environment}
	spec := network.Spec
	prefixes := spec.Addressing.PrefixDelegation != v1alpha1.Disabled
	c.allocation(spec, prefixes, reservedENIs)
	c.warm(lo.FromPtr(spec.Addressing.Warm), prefixes)
	c.expect(variable{"IP_COOLDOWN_PERIOD", "30", count(0)}, strconv.Itoa(int((spec.Addressing.Rest()+time.Second-1)/time.Second)), false,
		"seconds of spec.addressing.cooldown")
	c.snat(spec.SNAT)
	return c.comparison
}

// variable of aws-node.
type variable struct {
	name, byDefault string
	read            canonical
}

type comparer struct {
	environment Environment
	comparison  Comparison
}

func (c *comparer) expect(v variable, must string, fatal bool, why string) {
	if source := c.environment.hidden(v.name); source != "" {
		c.comparison.Unseen = append(c.comparison.Unseen, fmt.Sprintf("%s (%s)", v.name, source))
		return
	}
	value, set := c.environment.Values[v.name]
	effective, is := v.byDefault, "unset"
	if set {
		is = strconv.Quote(value)
		if read, ok := v.read(value); ok {
			effective = read
		}
	}
	if effective == must {
		return
	}
	if effective == v.byDefault && value != effective {
		is += fmt.Sprintf(" (which means %q)", effective)
	}
	c.comparison.Differences = append(c.comparison.Differences, Difference{Variable: v.name, Is: is, Must: must, Why: why, Fatal: fatal})
}

// allocation: where addresses come from, and how many there are.
func (c *comparer) allocation(spec v1alpha1.PodNetworkSpec, prefixes bool, reservedENIs int) {
	c.expect(variable{"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", "false", boolean}, "true", true,
		"pods take addresses of the node subnet otherwise, and not of an ENIConfig's")
	c.expect(variable{"ENI_CONFIG_LABEL_DEF", v1alpha1.LabelENIConfig, text}, lo.CoalesceOrEmpty(spec.ENIConfigs.NodeLabel, corev1.LabelTopologyZone), true,
		"as spec.eniConfigs.nodeLabel; aws-node looks for another ENIConfig otherwise, or for one named default")
	c.expect(variable{"ENABLE_PREFIX_DELEGATION", "false", boolean}, strconv.FormatBool(prefixes), prefixes,
		"spec.addressing.prefixDelegation, from which max-pods is computed")
	c.expect(variable{"ENABLE_IPv6", "false", boolean}, "false", true, "aws-node has no custom networking with IPv6")
	for _, name := range []string{"DISABLE_NETWORK_RESOURCE_PROVISIONING", "ENABLE_IMDS_ONLY_MODE"} {
		c.expect(variable{name, "false", boolean}, "false", true, "aws-node attaches no ENI otherwise, and nothing else attaches one")
	}
	only, _ := count(1)(c.environment.Values["MAX_ENI"])
	c.expect(variable{"MAX_ENI", "", count(1)}, "", only == "1",
		"max-pods counts all ENIs of an instance type; to have fewer pods on a node set spec.maxPods.limit")
	if reservedENIs == 0 {
		c.expect(variable{"ENABLE_POD_ENI", "false", boolean}, "false", false,
			"its trunk takes one of the ENIs that max-pods counts; to keep it set RESERVED_ENIS of the controller to 1 (settings.reservedENIs of the chart)")
	}
}

// warm targets, those that count: the ones for addresses win over the ones for prefixes and ENIs, and the last is not looked at with
// prefixes.
func (c *comparer) warm(warm v1alpha1.Warm, prefixes bool) {
	target := func(name string, byDefault int, must int32, why string) {
		c.expect(variable{name, strconv.Itoa(byDefault), count(0)}, strconv.Itoa(int(must)), false, why)
	}
	ip, minimum := lo.FromPtr(warm.IPTarget), lo.FromPtr(warm.MinimumIPTarget)
	unset := ""
	if ip == 0 && minimum == 0 {
		unset = " (unset); a value wins over targets of prefixes and ENIs"
	}
	target("WARM_IP_TARGET", 0, ip, "spec.addressing.warm.ipTarget"+unset)
	target("MINIMUM_IP_TARGET", 0, minimum, "spec.addressing.warm.minimumIPTarget"+unset)
	switch {
	case ip > 0 || minimum > 0:
	case prefixes:
		target("WARM_PREFIX_TARGET", 0, lo.FromPtrOr(warm.PrefixTarget, 1), "spec.addressing.warm.prefixTarget, 1 by default")
	default:
		target("WARM_ENI_TARGET", 1, lo.FromPtrOr(warm.ENITarget, 1), "spec.addressing.warm.eniTarget, 1 by default")
	}
}

// snat: without translation there is nothing to exclude from it.
func (c *comparer) snat(snat v1alpha1.SNAT) {
	none := snat.Policy == v1alpha1.SNATNone
	c.expect(variable{"AWS_VPC_K8S_CNI_EXTERNALSNAT", "false", boolean}, strconv.FormatBool(none), false, "spec.snat.policy")
	if none {
		return
	}
	excluded, _ := cidrs(strings.Join(snat.ExcludeCIDRs, ","))
	c.expect(variable{"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "", cidrs}, excluded, false, "spec.snat.excludeCIDRs")
	c.expect(variable{"AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng", randomness}, lo.Ternary(lo.FromPtrOr(snat.RandomizePorts, true), "prng", "none"), false,
		"spec.snat.randomizePorts")
}
