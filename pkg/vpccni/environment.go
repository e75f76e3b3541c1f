// SPDX-License-Identifier: Apache-2.0

// Package vpccni knows what the Amazon VPC CNI (aws-node) must be told so that it and a PodNetwork mean the same: its
// environment, and the nodes that its DaemonSet selects. It is pure. Defaults and parsing are those of v1.23.1.
package vpccni

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Where aws-node lives.
const (
	Namespace = "kube-system"
	DaemonSet = "aws-node"
	Container = "aws-node"
)

// Environment of aws-node as far as its DaemonSet shows it.
type Environment struct {
	// Values that are written in the DaemonSet.
	Values map[string]string
	// Hidden variables have their value from elsewhere: each with its source.
	Hidden map[string]string
	// Sources that set whole groups of variables: any that is not in Values may be in one of them.
	Sources []string
}

// EnvironmentOf a container. ConfigMaps and Secrets are not read: the controller would need the right to read all of them.
func EnvironmentOf(container corev1.Container) Environment {
	e := Environment{Values: map[string]string{}, Hidden: map[string]string{}}
	for _, v := range container.Env { // the last of a name counts
		delete(e.Values, v.Name)
		delete(e.Hidden, v.Name)
		if v.ValueFrom == nil {
			e.Values[v.Name] = v.Value
		} else {
			e.Hidden[v.Name] = sourceOf(v.ValueFrom)
		}
	}
	for _, from := range container.EnvFrom {
		switch {
		case from.ConfigMapRef != nil:
			e.Sources = append(e.Sources, "ConfigMap "+from.ConfigMapRef.Name)
		case from.SecretRef != nil:
			e.Sources = append(e.Sources, "Secret "+from.SecretRef.Name)
		}
	}
	return e
}

func sourceOf(from *corev1.EnvVarSource) string {
	switch {
	case from.ConfigMapKeyRef != nil:
		return fmt.Sprintf("key %s of ConfigMap %s", from.ConfigMapKeyRef.Key, from.ConfigMapKeyRef.Name)
	case from.SecretKeyRef != nil:
		return fmt.Sprintf("key %s of Secret %s", from.SecretKeyRef.Key, from.SecretKeyRef.Name)
	case from.FieldRef != nil:
		return "field " + from.FieldRef.FieldPath
	default:
		return "valueFrom"
	}
}

// hidden returns where a variable's value is, when it cannot be seen.
func (e Environment) hidden(variable string) string {
	if source := e.Hidden[variable]; source != "" {
		return source
	}
	if _, set := e.Values[variable]; set {
		return ""
	}
	return strings.Join(e.Sources, " or ")
}

// canonical forms a value as aws-node reads it; ok is false for one that it does not take, and then it uses its default.
type canonical func(value string) (read string, ok bool)

func boolean(value string) (string, bool) {
	b, err := strconv.ParseBool(value)
	return strconv.FormatBool(b), err == nil
}

// count is an integer of at least least.
func count(least int) canonical {
	return func(value string) (string, bool) {
		n, err := strconv.Atoi(value)
		return strconv.Itoa(n), err == nil && n >= least
	}
}

func text(value string) (string, bool) { return value, value != "" }

// randomness of source ports; how they are drawn is no matter.
func randomness(value string) (string, bool) {
	switch value {
	case "prng", "hashrandom":
		return "prng", true
	default:
		return value, value == "none"
	}
}

// cidrs without order, host bits and repetition. aws-node leaves out what is no IPv4 CIDR.
func cidrs(value string) (string, bool) {
	var prefixes []netip.Prefix
	for _, part := range strings.Split(value, ",") {
		if prefix, err := netip.ParsePrefix(strings.TrimSpace(part)); err == nil && prefix.Addr().Is4() {
			prefixes = append(prefixes, prefix.Masked())
		}
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	names := make([]string, 0, len(prefixes))
	for _, prefix := range slices.Compact(prefixes) {
		names = append(names, prefix.String())
	}
	return strings.Join(names, ","), true
}
