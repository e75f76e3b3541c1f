// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

var unavailableOfferings = prometheus.NewGaugeVec(prometheus.GaugeOpts{
	Name: "dovetail_unavailable_offerings",
	Help: "Offerings that EC2 has and the pod network cannot serve, by reason: NoENIConfig, NoPodENI, AgentNotReady, PodSubnetFull, PodSubnetRefused, SingleAddresses (these are offered instead).",
}, []string{"pod_network", "zone", "eni_config", "reason"})

func init() { crmetrics.Registry.MustRegister(unavailableOfferings) }

// resolvedTTL is how long the offerings of an instance type are kept after they were last asked for: node classes come and go.
const resolvedTTL = time.Hour

// resolved keeps the offerings of each instance type for as long as nothing changes. Upstream gives the same offerings again
// and again, and hundreds of instance types are listed in every scheduling round.
type resolved struct {
	mu          sync.Mutex
	nodeClasses map[string]*resolvedTypes
}

// resolvedTypes of one node class, by name.
type resolvedTypes struct {
	used time.Time // guarded by resolved

	mu    sync.Mutex
	types map[string]*entry
}

type entry struct {
	// The offerings were resolved from these.
	instanceType *cloudprovider.InstanceType
	shape        string
	base         cloudprovider.Offerings
	verdicts     []string
	wayOut       []bool

	network   string
	need      podcapacity.Need
	offerings cloudprovider.Offerings
	missing   []withheld
	// singles where places are short, and modes where that is a way out.
	singles SingleAddresses
	modes   *modes
}

// of a node class. Those that were not listed for long are forgotten.
func (r *resolved) of(nodeClass string, now time.Time) *resolvedTypes {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, types := range r.nodeClasses {
		if now.Sub(types.used) >= resolvedTTL {
			types.forget()
			delete(r.nodeClasses, name)
		}
	}
	types, ok := r.nodeClasses[nodeClass]
	if !ok {
		types = &resolvedTypes{types: map[string]*entry{}}
		if r.nodeClasses == nil {
			r.nodeClasses = map[string]*resolvedTypes{}
		}
		r.nodeClasses[nodeClass] = types
	}
	types.used = now
	return types
}

// get returns a slice of the caller's own, with offerings that all share.
func (r *resolvedTypes) get(ctx context.Context, it *cloudprovider.InstanceType, v *view, base cloudprovider.Offerings) cloudprovider.Offerings {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, known := r.types[it.Name]
	same := known && e.instanceType == it && e.shape == v.shape
	var need podcapacity.Need
	switch {
	case same:
		need = e.need
	case onPodNetwork(it):
		need = NeedOf(ctx, v.network, it)
	default: // the network is younger than the type; the next List resolves it anew
		return base
	}
	verdicts := v.verdicts(need)
	var out []bool
	var singles SingleAddresses
	if slices.ContainsFunc(verdicts, short) {
		if same && slices.ContainsFunc(e.verdicts, short) {
			singles = e.singles
		} else {
			singles, _ = SinglesOf(ctx, v.network, it)
		}
		if (singles.Need != podcapacity.Need{}) {
			out = v.wayOut(verdicts, singles.Need)
		}
	}
	if !same || !slices.Equal(e.base, base) || !slices.Equal(e.verdicts, verdicts) || !slices.Equal(e.wayOut, out) {
		if known {
			e.count(-1)
		}
		e = &entry{
			instanceType: it, shape: v.shape, base: slices.Clone(base), verdicts: verdicts, wayOut: out, network: v.network.Name, need: need, singles: singles,
		}
		var instead *wayOut
		if out != nil {
			e.modes = modesOf(it, singles)
			instead = &wayOut{out, e.modes}
		}
		e.offerings, e.missing = v.resolve(base, verdicts, instead)
		e.count(1)
		r.types[it.Name] = e
	}
	if e.modes != nil && v.modes != nil {
		v.modes[it.Name] = e.modes
	}
	return slices.Clone(e.offerings)
}

func (r *resolvedTypes) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.types {
		e.count(-1)
	}
	clear(r.types)
}

func (e *entry) count(sign float64) {
	for _, m := range e.missing {
		unavailableOfferings.WithLabelValues(e.network, m.zone, m.eniConfig, m.reason).Add(sign)
	}
}
