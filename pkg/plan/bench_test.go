// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"io"
	"testing"

	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// A thousand nodes in three zones with twenty pods each, and all of EC2's instance types for the NodePool: from facts to text and HTML.
func BenchmarkThousandNodes(b *testing.B) {
	f := good()
	f.InstanceTypes = types(instancetypes.Names()...)
	f.pool().Spec.Template.Spec.Requirements = nil
	names := []string{"m5.large", "c5.xlarge", "m5.4xlarge"}
	f.Nodes = nil
	for i := range 1000 {
		zone := zones[i%3]
		f.Nodes = append(f.Nodes, plan.Node{Name: fmt.Sprint(i), Zone: zone, InstanceType: names[i%7%3], Instance: fmt.Sprint("i-", i), NodePool: "default", Pods: 20})
	}
	for i, zone := range zones {
		f.addSubnet("subnet-pods-"+zone, zone, fmt.Sprintf("100.%d.0.0/16", 64+i))
	}
	for b.Loop() {
		report := plan.Make(f.Facts)
		report.Print(io.Discard, podnetwork.Drawing{})
		if err := report.HTML(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
