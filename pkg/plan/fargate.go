// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/samber/lo"

	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// fargate pods are on no pod network: AWS runs their nodes, and their profile's subnets give their addresses.
func (p *planner) fargate() {
	nodes, pods := 0, 0
	for _, n := range p.facts.Nodes {
		if n.Fargate {
			nodes++
			pods += n.Pods
		}
	}
	profiles := lo.Map(p.facts.FargateProfiles, func(f FargateProfile, _ int) string { return f.Name + " (" + f.selection() + ")" })
	if nodes+len(profiles) > 0 {
		what := fmt.Sprintf("%s on Fargate, with %s, stay as they are", counted(nodes, "node"), counted(pods, "pod"))
		if len(profiles) > 0 {
			what += "; the cluster has the Fargate profiles " + cli.Some(profiles)
		}
		p.found.add(Info, ReasonFargate, what, "Fargate pods have addresses of their profile's subnets, and AWS runs their nodes: no PodNetwork applies to them",
			"count those addresses to the subnets of the profile; nothing is to be done")
	}
	for _, profile := range p.facts.FargateProfiles {
		p.judgeProfile(profile)
	}
}

func (p *planner) judgeProfile(profile FargateProfile) {
	inside := lo.FilterMap(p.podSubnets, func(s podSubnet, _ int) (string, bool) { return s.ID, slices.Contains(profile.Subnets, s.ID) })
	if len(inside) > 0 {
		p.found.add(Warning, ReasonFargateInPodSubnet, fmt.Sprintf("Fargate profile %s puts its pods into pod subnets: %s", profile.Name, cli.Some(inside)),
			"each takes a single address there, anywhere: /28s break up, and nobody sets those addresses aside", "give the profile other subnets (a profile is replaced, not changed)")
	}
	pods := 0
	var namespaces []string
	for _, kind := range p.facts.Movable {
		if profile.takes(kind) {
			pods += kind.Pods
			namespaces = append(namespaces, kind.Namespace)
		}
	}
	if pods > 0 {
		slices.Sort(namespaces)
		p.found.add(Warning, ReasonFargateTakes, fmt.Sprintf("%s of %s, on nodes today, would come back on Fargate: profile %s selects them", counted(pods, "pod"), cli.Some(slices.Compact(namespaces)), profile.Name),
			"they are older than the profile; when their node is replaced EKS puts the new ones on Fargate, and not on the pod network",
			"nothing, if that is meant; else narrow the profile's selectors, or annotate the pods with eks.amazonaws.com/compute-type: ec2")
	}
}

// selection in words.
func (f FargateProfile) selection() string {
	return strings.Join(lo.Map(f.Selectors, func(s FargateSelector, _ int) string {
		if len(s.Labels) == 0 {
			return "namespace " + s.Namespace
		}
		labels := lo.MapToSlice(s.Labels, func(key, value string) string { return key + "=" + value })
		slices.Sort(labels)
		return "namespace " + s.Namespace + " with " + strings.Join(labels, ",")
	}), "; ")
}

func (f FargateProfile) takes(kind PodKind) bool {
	return slices.ContainsFunc(f.Selectors, func(s FargateSelector) bool {
		if !wildcard(s.Namespace).MatchString(kind.Namespace) {
			return false
		}
		for key, value := range s.Labels {
			if !labelled(kind.Labels, wildcard(key), wildcard(value)) {
				return false
			}
		}
		return true
	})
}

func labelled(labels map[string]string, key, value *regexp.Regexp) bool {
	for k, v := range labels {
		if key.MatchString(k) && value.MatchString(v) {
			return true
		}
	}
	return false
}

// wildcard of a Fargate selector: "Fargate profile wildcards" in the EKS user guide.
func wildcard(text string) *regexp.Regexp {
	pattern := regexp.QuoteMeta(text)
	pattern = strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(pattern)
	return regexp.MustCompile("^" + pattern + "$")
}
