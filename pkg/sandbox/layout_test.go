// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"net/http/httptest"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

func TestAVPCIsBuiltThoughNewResourcesAreUnknownAtFirst(t *testing.T) {
	for name, l := range map[string]layout{Exhausted: exhausted, Prepared: prepared, "wide": wide} {
		t.Run(name, func(t *testing.T) {
			cloud := aws.New(aws.Options{Region: Region, Latency: aws.Fast(), Seed: 1})
			cloud.ReserveIDs(l.ids())
			server := httptest.NewServer(cloud.Handler())
			defer server.Close()
			api := ec2.New(ec2.Options{
				Region: Region, BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
				Retryer: awssdk.NopRetryer{},
			})
			require.NoError(t, l.build(t.Context(), api))
			s := cloud.Snapshot()
			require.Len(t, s.Subnets, len(l.subnets))
			for i, subnet := range s.Subnets {
				require.Equal(t, l.subnets[i].id, subnet.ID)
			}
			require.Equal(t, GroupID, s.SecurityGroups[1].ID)
		})
	}
}

func TestALayoutThatNeedsStandInsIsRefusedForOtherKubelets(t *testing.T) {
	for _, kubelet := range []string{Real, Hollow} {
		opts := Options{Kubelet: kubelet, Layout: Exhausted}
		require.ErrorContains(t, opts.checkLayout(), "layout exhausted needs kubelets of kind stand-in")
	}
	opts := Options{Kubelet: StandIn, Layout: "narrow"}
	require.ErrorContains(t, opts.checkLayout(), `layout "narrow" is not known: use prepared or exhausted`)
	opts = Options{Kubelet: Hollow}
	require.NoError(t, opts.checkLayout())
	require.Equal(t, Prepared, opts.Layout)
}
