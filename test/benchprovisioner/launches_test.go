// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// launchFigure is a figure of launches with EC2's calls.
type launchFigure struct {
	figure
	Calls map[string]float64 `json:"callsALaunch"`
}

// launchNodes measures Create besides EC2: EC2 answers at once, and what it takes even so is subtracted where launches come one
// after the other. Upstream waits 35 ms for more launches that it can ask EC2 for in the same request; that is on both sides.
func launchNodes(t *testing.T, w *world) (figures []launchFigure) {
	contenders := w.contenders(withoutNetwork, oneENIConfig, threeENIConfigs, static, flexible)
	l := &launcher{T: t, world: w}
	kinds := []struct {
		name string
		run  func(contender) []time.Duration
		runs int
	}{
		{"one after the other", l.one, *launches},
		{fmt.Sprint(*launches, " at once"), l.many, *rounds},
	}
	for _, kind := range kinds {
		samples, calls := make([]samples, len(contenders)), make([]map[string]int, len(contenders))
		for i := range contenders {
			calls[i] = map[string]int{}
		}
		for round := range kind.runs + 1 {
			for i, c := range contenders {
				c.door.reset()
				took := kind.run(c)
				if round == 0 { // makes launch templates and fills caches
					continue
				}
				for _, d := range took {
					samples[i].add(d, allocation{})
				}
				for name, n := range l.calls {
					calls[i][name] += n
				}
			}
		}
		var plain []figure
		for i, c := range contenders {
			plain = append(plain, samples[i].figure(c.name+", "+kind.name, plain, i))
			f := launchFigure{figure: plain[i], Calls: map[string]float64{}}
			for name, n := range calls[i] {
				f.Calls[name] = float64(n) / float64(f.Count)
			}
			figures = append(figures, f)
		}
	}
	return figures
}

type launcher struct {
	*testing.T
	*world
	claims int
	calls  map[string]int // of the last run
}

func (l *launcher) claim(class string) *karpv1.NodeClaim {
	l.claims++
	name := fmt.Sprintf("%s-%d", class, l.claims)
	return &karpv1.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.Now(), Labels: map[string]string{karpv1.NodePoolLabelKey: class}},
		Spec: karpv1.NodeClaimSpec{
			NodeClassRef: classRef(class), Requirements: requirements(),
			Resources: karpv1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("2Gi"), corev1.ResourcePods: resource.MustParse("10"),
			}},
		},
	}
}

// one launch, less what EC2 took of it.
func (l *launcher) one(c contender) []time.Duration {
	claim := l.claim(c.class)
	start := time.Now()
	created, err := c.cloudProvider.Create(c.ctx, claim)
	took := time.Since(start)
	require.NoError(l, err)
	var spent time.Duration
	l.calls, spent = c.door.reset()
	l.end(c, claim, created)
	return []time.Duration{took - spent}
}

// many launches at once, as when many pods arrive: they share the machine, with EC2 too.
func (l *launcher) many(c contender) []time.Duration {
	claims := make([]*karpv1.NodeClaim, *launches)
	for i := range claims {
		claims[i] = l.claim(c.class)
	}
	took, created, errs := make([]time.Duration, len(claims)), make([]*karpv1.NodeClaim, len(claims)), make([]error, len(claims))
	var all sync.WaitGroup
	for i, claim := range claims {
		all.Go(func() {
			start := time.Now()
			created[i], errs[i] = c.cloudProvider.Create(c.ctx, claim)
			took[i] = time.Since(start)
		})
	}
	all.Wait()
	l.calls, _ = c.door.reset()
	for i := range claims {
		require.NoError(l, errs[i])
		l.end(c, claims[i], created[i])
	}
	return took
}

// end the instance, and give back the room that was set aside for it as the controllers do: all launches find the same.
func (l *launcher) end(c contender, claim, created *karpv1.NodeClaim) {
	_, err := l.account.ec2.TerminateInstances(l.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{podnetwork.InstanceOf(created)}})
	require.NoError(l, err)
	if c.own == nil {
		return
	}
	gone := claim.DeepCopy()
	gone.Annotations, gone.Status.ProviderID = created.Annotations, created.Status.ProviderID
	podnetwork.Recall(c.own.PodSubnets.Ledger, gone)
	c.own.PodSubnets.Ledger.Gone(claim.Name)
}
