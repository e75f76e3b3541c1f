// SPDX-License-Identifier: Apache-2.0

// Package iam holds the IAM policies of the controller and of the nodes, one for each feature that one may leave out.
package iam

import (
	"embed"
	"fmt"
	"os"
)

//go:embed policies
var files embed.FS

// Policies, by their names.
const (
	// Controller is what the controller always needs: nodes, their ENIs and the room of pod subnets.
	Controller = "controller"
	// InstanceProfiles is for node classes that name a role rather than an instance profile.
	InstanceProfiles = "controller-instance-profiles"
	// Interruption is for settings.interruptionQueue.
	Interruption = "controller-interruption"
	// ZonalShift is for settings.enableZonalShift.
	ZonalShift = "controller-zonal-shift"
	// Provision is for PodNetworks with spec.provision.
	Provision = "controller-provision"
	// NodeMigration is for NodeMigrations that end instances (spec.after: Terminate).
	NodeMigration = "controller-node-migration"
	// NodeDynamic is for nodes whose agent attaches ENIs and assigns prefixes. Nodes of static allocation need nothing of it.
	NodeDynamic = "node-dynamic"
	// Plan is for who runs `dovetail plan`. It is of neither role.
	Plan = "plan"
)

// All policies of the two roles; those of the controller first.
func All() []string {
	return []string{Controller, InstanceProfiles, Interruption, ZonalShift, Provision, NodeMigration, NodeDynamic}
}

// Names are what a policy's placeholders stand for.
type Names struct {
	Partition, Region, AccountID, ClusterName, NodeRoleARN, InterruptionQueue string
}

// Document returns a policy for one cluster, as JSON.
func Document(policy string, names Names) (string, error) {
	text, err := files.ReadFile("policies/" + policy + ".json")
	if err != nil {
		return "", fmt.Errorf("no policy is called %q: there are %v", policy, All())
	}
	values := map[string]string{
		"Partition": names.Partition, "Region": names.Region, "AccountId": names.AccountID, "ClusterName": names.ClusterName,
		"NodeRoleArn": names.NodeRoleARN, "InterruptionQueue": names.InterruptionQueue,
	}
	var missing error
	document := os.Expand(string(text), func(placeholder string) string {
		if values[placeholder] == "" {
			missing = fmt.Errorf("the policy %s needs a value for %s", policy, placeholder)
		}
		return values[placeholder]
	})
	return document, missing
}
