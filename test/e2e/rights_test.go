// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
)

// seldom are rights that these tests do not come to need, or not always, with who does.
var seldom = map[string]string{
	"agent: patch events": "an event that comes again",
	"controller: update nodeclaims/finalizers.karpenter.sh":  "clusters with the admission plugin OwnerReferencesPermissionEnforcement",
	"controller: update nodepools/finalizers.karpenter.sh":   "the same",
	"controller: update podnetworks/finalizers.dovetail.dev": "the same",
	"controller: delete pods":                                "pods that outlive their NodeClaim's terminationGracePeriod",
	"controller: patch eniconfigs.crd.k8s.amazonaws.com":     "a PodNetwork whose provisioned ENIConfigs change",
	"controller: patch nodemigrations.dovetail.dev":          "nodes that Karpenter does not own",
	"controller: patch nodemigrations/status.dovetail.dev":   "the same",
	"controller: read replicasets.apps":                      "pods that a NodeMigration evicts",
	"controller: read statefulsets.apps":                     "the same",
	"controller: read namespaces":                            "pods whose affinity selects namespaces",
	"controller: read persistentvolumeclaims":                "pods with volumes",
	"controller: read persistentvolumes":                     "the same",
	"controller: read storageclasses.storage.k8s.io":         "the same",
}

// checkRights fails a run of all tests after which a right of the chart's roles was not used: what nobody needs, nobody should have. That
// what they need is there, the tests themselves have shown: the API server refuses the rest.
func checkRights(ctx context.Context) error {
	if flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != "" {
		return nil
	}
	unused, err := sandbox.UnusedRights(ctx)
	if err != nil {
		return fmt.Errorf("rights that were used: %w", err)
	}
	unused = slices.DeleteFunc(unused, func(right string) bool { return seldom[right] != "" })
	if len(unused) > 0 {
		return fmt.Errorf("rights in charts/dovetail that nothing used:\n%s", strings.Join(unused, "\n"))
	}
	return nil
}
