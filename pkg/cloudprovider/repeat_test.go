// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	core "sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/cloudprovider"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// loseAnswers of fleet requests: EC2 does what is asked, and nobody hears of it, however often the SDK tries.
func (r *region) loseAnswers() {
	_, err := r.cloud.AddFault(simulator.Fault{LostReply: &simulator.LostReplyFault{Action: "CreateFleet"}})
	require.NoError(r, err)
}

// alive are the account's instances that are not ended.
func (r *region) alive() (ids []string) {
	for _, i := range r.cloud.Snapshot().Instances {
		if i.State == "pending" || i.State == "running" {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

func (r *region) launchOne(p *cloudprovider.CloudProvider, claim *karpv1.NodeClaim) string {
	launched := r.launch(p, []*karpv1.NodeClaim{claim})
	require.Len(r, launched, 1)
	return podnetwork.InstanceOf(launched[claim])
}

func TestARepeatedLaunch(t *testing.T) {
	config := chartstest.StartAPIServer(t)
	start := func(t *testing.T) (*region, *cloudprovider.CloudProvider, *karpv1.NodeClaim) {
		r := newRegion(t, config)
		r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/19", "100.64.16.0/20")
		return r, r.controller(time.Now().Add(-time.Minute)), r.claims(1)[0]
	}
	restart := func(r *region) *cloudprovider.CloudProvider { return r.controller(time.Now().Add(time.Second)) }

	t.Run("gets the instance whose answer was lost", func(t *testing.T) {
		r, p, claim := start(t)
		r.loseAnswers()
		_, err := p.Create(r.ctx(), claim)
		require.Error(t, err)
		r.cloud.ClearFaults()
		made := r.alive()
		require.Len(t, made, 1)
		require.Equal(t, made[0], r.launchOne(p, claim))
		require.Equal(t, made, r.alive())
	})
	t.Run("gets the instance that the controller before this one has made", func(t *testing.T) {
		r, p, claim := start(t)
		id := r.launchOne(p, claim)
		require.Equal(t, id, r.launchOne(restart(r), claim))
		require.Equal(t, []string{id}, r.alive())
	})
	t.Run("gets another where Karpenter may be about to end the first", func(t *testing.T) {
		r, p, claim := start(t)
		id := r.launchOne(p, claim)
		r.clock.SetTime(time.Now().Add(25 * time.Second)) // EC2 goes by the real time
		require.NotEqual(t, id, r.launchOne(restart(r), claim))
		require.Len(t, r.alive(), 2, "Karpenter ends the one that no NodeClaim names")
	})
	t.Run("gets another where the first was ended", func(t *testing.T) {
		r, p, claim := start(t)
		id := r.launchOne(p, claim)
		_, err := r.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		require.NoError(t, err)
		another := r.launchOne(restart(r), claim)
		require.NotEqual(t, id, another)
		require.Equal(t, []string{another}, r.alive())
	})
	t.Run("is not told of capacity that was missing before", func(t *testing.T) {
		r, p, claim := start(t)
		_, err := r.cloud.AddFault(simulator.Fault{Capacity: &simulator.CapacityFault{}})
		require.NoError(t, err)
		_, err = p.Create(r.ctx(), claim)
		require.True(t, core.IsInsufficientCapacityError(err), "%v", err)
		r.cloud.ClearFaults()
		require.Equal(t, []string{r.launchOne(restart(r), claim)}, r.alive())
	})
	t.Run("of NodeClaims that share a request makes others, while the room of the first stays set aside until Karpenter has ended them", func(t *testing.T) {
		r, p, _ := start(t)
		podSubnet, need := r.network.Status.Zones[0].Subnet, podcapacity.Need{Prefixes: 7, ENIs: 1}
		require.NoError(t, p.PodSubnets.Ensure(r.ctx(), podSubnet))
		room := func() int { return p.PodSubnets.Ledger.Room(podSubnet).Nodes(need) }
		before, claims := room(), r.claims(3)
		r.loseAnswers()
		var all sync.WaitGroup
		for _, claim := range claims {
			all.Go(func() {
				_, err := p.Create(r.ctx(), claim)
				assert.Error(t, err)
			})
		}
		all.Wait()
		r.cloud.ClearFaults()
		require.Len(t, r.alive(), 3, "the SDK's attempts have one token")
		require.Equal(t, before-3, room())
		launched := r.launch(p, claims)
		require.Len(t, launched, 3)
		require.Equal(t, before-6, room())
		lost := slices.DeleteFunc(r.alive(), func(id string) bool {
			return slices.ContainsFunc(slices.Collect(maps.Values(launched)), func(c *karpv1.NodeClaim) bool { return podnetwork.InstanceOf(c) == id })
		})
		require.NotEmpty(t, lost)
		_, err := r.ec2.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: lost}) // as Karpenter's garbage collection does
		require.NoError(t, err)
		r.clock.Step(3 * time.Minute)
		require.Equal(t, before-3, room())
		require.Len(t, r.alive(), 3)
	})
}
