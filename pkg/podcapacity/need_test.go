// SPDX-License-Identifier: Apache-2.0

package podcapacity_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

func TestANodesNeedIsWhatItHoldsAtTheMost(t *testing.T) {
	tests := map[string]struct {
		node podcapacity.NodeNeed
		want podcapacity.Need
	}{
		"m5.large, prefixes": {podcapacity.NodeNeed{MaxPods: 110, PodENIs: 2, IPsPerENI: 10, Prefixes: true}, podcapacity.Need{Prefixes: 7, ENIs: 1}},
		"c7g.medium has no slot beyond three": {
			podcapacity.NodeNeed{MaxPods: 50, PodENIs: 1, IPsPerENI: 4, Prefixes: true}, podcapacity.Need{Prefixes: 3, ENIs: 1},
		},
		"warm addresses stay within max-pods": {
			podcapacity.NodeNeed{MaxPods: 98, PodENIs: 3, IPsPerENI: 10, Prefixes: true}, podcapacity.Need{Prefixes: 7, ENIs: 1},
		},
		"static allocation has none to keep warm": {
			podcapacity.NodeNeed{MaxPods: 98, PodENIs: 3, IPsPerENI: 10, Prefixes: true, Static: true}, podcapacity.Need{Prefixes: 6, ENIs: 1},
		},
		"single addresses":                   {podcapacity.NodeNeed{MaxPods: 20, PodENIs: 2, IPsPerENI: 10}, podcapacity.Need{Addresses: 18, ENIs: 2}},
		"fewer pods than an ENI's addresses": {podcapacity.NodeNeed{MaxPods: 5, PodENIs: 2, IPsPerENI: 10}, podcapacity.Need{Addresses: 5, ENIs: 1}},
		"aws-node fills its ENIs": {
			podcapacity.NodeNeed{MaxPods: 5, PodENIs: 2, IPsPerENI: 10, WholeENIs: true}, podcapacity.Need{Addresses: 9, ENIs: 1},
		},
		"no pod ENI": {podcapacity.NodeNeed{MaxPods: 110, IPsPerENI: 50, Prefixes: true}, podcapacity.Need{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, test.node.Most()) })
	}
}
