// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// FuzzAStampIsTheLedgersOwnOrSaysNothing: after a restart the ledger knows from annotations what is set aside. Whatever stands there, no
// room comes from it, and what is read is what was written.
func FuzzAStampIsTheLedgersOwnOrSaysNothing(f *testing.F) {
	for _, need := range []podcapacity.Need{{Prefixes: 7, ENIs: 1}, {Addresses: 29, ENIs: 2}, {}} {
		f.Add(podnetwork.PlaceStamp(place("a"), need)[v1alpha1.AnnotationLaunchedNeed], "aws:///us-east-1a/i-1")
	}
	f.Add("prefixes=-7,addresses=-100,enis=-1", "i-1")
	f.Add("prefixes=9223372036854775807,addresses=1,enis=1", "/")
	f.Add("prefixes=+7,addresses= 0,enis=1 and more", "a/b/")
	f.Fuzz(func(t *testing.T, stamp, providerID string) {
		l, c := newLedger()
		l.Observe(emptySubnet("subnet-a", "100.64.0.0/24", false, c.Now()))
		free := l.Room("subnet-a").Free
		claim := &karpv1.NodeClaim{}
		claim.Name, claim.Status.ProviderID = "one", providerID
		claim.Annotations = map[string]string{v1alpha1.AnnotationLaunchedPodSubnet: "subnet-a", v1alpha1.AnnotationLaunchedNeed: stamp}
		told := podnetwork.Recall(l, claim)
		aside := l.Room("subnet-a").Aside
		require.GreaterOrEqual(t, aside.Blocks, 0)
		require.GreaterOrEqual(t, aside.Addresses, 0)
		require.Equal(t, free, l.Room("subnet-a").Free)
		if !told {
			require.Zero(t, aside)
			return
		}
		require.NotEmpty(t, podnetwork.InstanceOf(claim))
		require.False(t, strings.Contains(podnetwork.InstanceOf(claim), "/"))
		l.Gone("one")
		l.Observe(emptySubnet("subnet-a", "100.64.0.0/24", false, c.Now().Add(time.Hour)))
		require.Equal(t, free, l.Room("subnet-a").Free, "all of it comes back")
	})
}
