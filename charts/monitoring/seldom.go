// SPDX-License-Identifier: Apache-2.0

package monitoring

// Seldom are the metrics that rightly have no series while nothing goes wrong and nothing special is asked for, and what brings them: a
// metric with labels has none before its first event.
var Seldom = map[string]string{
	"dovetail_pods_without_addresses":               "a pod that waits because no pod subnet has room for a node",
	"dovetail_unavailable_offerings":                "a zone without an ENIConfig, or whose pod subnets are full",
	"dovetail_provision_actions_total":              "a PodNetwork with spec.provision",
	"dovetail_provision_refused":                    "a PodNetwork with spec.provision",
	"dovetail_static_allocation_fallbacks_total":    "static allocation that a node subnet's public addresses forbid",
	"dovetail_single_address_fallbacks_total":       "a launch for a pod subnet without a free /28",
	"dovetail_launches_refused_by_pod_subnet_total": "a launch that EC2 refuses",
	"dovetail_nodes_refused_by_pod_subnet_total":    "an agent that EC2 refuses addresses",
	"dovetail_agent_failures_total":                 "an agent that gets no addresses",
	"dovetail_node_migration_nodes":                 "a NodeMigration",
	"dovetail_node_migration_paused":                "a NodeMigration",
}
