// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype/offering"
	"github.com/aws/karpenter-provider-aws/pkg/providers/placementgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Offerings makes of each offering one for each ENIConfig that serves its zone, named by a requirement, so that pods and
// NodePools can ask for one. It withholds what the pod network cannot serve: zones without a usable ENIConfig, pod subnets
// without room for what the instance type needs, instance types without an ENI for pods, and all while nobody, or two, would serve
// the node.
//
// Upstream asks it for each instance type in each listing. What all of them share is looked up once a listing, and an
// instance type's offerings are kept until something changes.
type Offerings struct {
	network NetworkOf
	ledger  *podnetwork.Ledger

	views    sync.Map // weak.Pointer[offering.ResolveContext] to *view
	last     atomic.Pointer[listed]
	resolved resolved
}

var _ offering.OfferingResolver = &Offerings{}

// NewOfferings resolves with the room that the ledger knows of.
func NewOfferings(network NetworkOf, ledger *podnetwork.Ledger) *Offerings {
	return &Offerings{network: network, ledger: ledger}
}

// Reasons why an offering is withheld.
const (
	ReasonNoENIConfig      = "NoENIConfig"
	ReasonNoPodENI         = "NoPodENI"
	ReasonAgentNotReady    = "AgentNotReady"
	ReasonPodSubnetFull    = "PodSubnetFull"
	ReasonPodSubnetRefused = "PodSubnetRefused"
	// ReasonSingleAddresses: no /28s are left, and single addresses are offered in their place.
	ReasonSingleAddresses = "SingleAddresses"
)

// ResolveOfferings never changes an offering in place: upstream caches them.
func (r *Offerings) ResolveOfferings(ctx context.Context, it *cloudprovider.InstanceType, offerings cloudprovider.Offerings, _ ec2types.InstanceTypeInfo,
	nodeClass offering.NodeClass, _, _ sets.Set[string], _ *placementgroup.PlacementGroup, listing *offering.ResolveContext) cloudprovider.Offerings {
	v, err := r.view(ctx, nodeClass, listing)
	switch {
	case err != nil:
		log.FromContext(ctx).Error(err, "finding the pod network of a node class", "EC2NodeClass", nodeClass.GetName())
		return nil
	case v.network == nil: // none, or deleted since the type was resolved: the next List resolves it anew
		return offerings
	case v.held != nil && !v.held.instanceTypes.Has(it.Name):
		return nil
	case v.held != nil:
		out, _ := v.resolve(offerings, v.holdings(), nil)
		return out
	case v.singles: // they are offered as a way out only, on the types that would rather have prefixes
		return nil
	}
	return v.types.get(ctx, it, v, offerings)
}

// view of a listing. Without one, as in tests, it is made anew.
func (r *Offerings) view(ctx context.Context, nodeClass offering.NodeClass, listing *offering.ResolveContext) (*view, error) {
	if listing == nil {
		return r.newView(ctx, nodeClass)
	}
	if last := r.last.Load(); last != nil && last.listing == listing {
		return last.view, nil
	}
	key := weak.Make(listing)
	if known, ok := r.views.Load(key); ok {
		r.last.Store(&listed{listing, known.(*view)})
		return known.(*view), nil
	}
	v, err := r.newView(ctx, nodeClass)
	if err != nil {
		return nil, err
	}
	r.views.Store(key, v)
	runtime.AddCleanup(listing, func(k weak.Pointer[offering.ResolveContext]) { r.views.Delete(k) }, key)
	return v, nil
}

func (r *Offerings) newView(ctx context.Context, nodeClass offering.NodeClass) (*view, error) {
	network, err := r.network.of(ctx, nodeClass)
	if err != nil || network == nil {
		return &view{}, err
	}
	v := &view{
		network: network, held: holding(ctx), types: r.resolved.of(nodeClass.GetName(), time.Now()),
		byLabel: !podnetwork.NamedAfterZones(network), zones: map[string][]int{}, fits: map[podcapacity.Need][]string{},
	}
	shape := []string{network.Name, network.Hash()}
	for _, zone := range PlacesOf(network) {
		for _, p := range zone {
			v.zones[p.Zone] = append(v.zones[p.Zone], len(v.places))
			v.places = append(v.places, place{
				Place: p, room: r.ledger.Prospect(p.Subnet), requirement: scheduling.NewRequirement(v1alpha1.LabelENIConfig, corev1.NodeSelectorOpIn, p.ENIConfig),
			})
			shape = append(shape, p.Zone, p.ENIConfig)
		}
	}
	v.shape, v.noteShort, v.modes = strings.Join(shape, "\x00"), r.ledger.NoteShort, listingModesOf(ctx)
	_, v.singles = nodeClass.(singlesClass)
	return v, nil
}

type listed struct {
	listing *offering.ResolveContext
	view    *view
}

// view is what one listing sees of a pod network.
type view struct {
	network *v1alpha1.PodNetwork
	// held by the launch that lists, nil for none.
	held    *held
	types   *resolvedTypes
	byLabel bool
	places  []place
	zones   map[string][]int // into places
	// shape is equal for views that differ in nothing but room.
	shape     string
	noteShort func()
	fits      map[podcapacity.Need][]string
	// singles: the listing is of a node class that OfSingles made.
	singles bool
	// modes that the listing has found, nil where nobody asks.
	modes listingModes
}

type place struct {
	podnetwork.Place
	room        podnetwork.Room
	requirement *scheduling.Requirement
}

// verdicts says of each place why it does not take a node of such a need, "" where it does. The caller holds the lock of v.types.
func (v *view) verdicts(need podcapacity.Need) []string {
	if known, ok := v.fits[need]; ok {
		return known
	}
	out, launches := make([]string, len(v.places)), podnetwork.Launches(v.network)
	for i, p := range v.places {
		switch {
		case need == podcapacity.Need{}:
			out[i] = ReasonNoPodENI
		case !launches:
			out[i] = ReasonAgentNotReady
		case p.room.Refused != "":
			out[i] = ReasonPodSubnetRefused
		case !p.room.Fits(need):
			out[i] = ReasonPodSubnetFull
		}
		if short(out[i]) {
			v.noteShort()
		}
	}
	v.fits[need] = out
	return out
}

// short tells that a verdict is for want of room.
func short(verdict string) bool {
	return verdict == ReasonPodSubnetFull || verdict == ReasonPodSubnetRefused
}

// wayOut tells of each place that has no room for /28s, by the verdicts, whether it has room for single addresses. It is nil where none has.
func (v *view) wayOut(verdicts []string, singles podcapacity.Need) []bool {
	var out []bool
	for i, p := range v.places {
		if !short(verdicts[i]) || !p.room.Fits(singles) {
			continue
		}
		if out == nil {
			out = make([]bool, len(v.places))
		}
		out[i] = true
	}
	return out
}

// notHeld keeps a launch out of places that it holds no room in. It is no metric.
const notHeld = "NotHeld"

func (v *view) holdings() []string {
	out := make([]string, len(v.places))
	for i, p := range v.places {
		if !slices.Contains(v.held.places, p.Place) {
			out[i] = notHeld
		}
	}
	return out
}

// withheld is why an offering of upstream's is not one here.
type withheld struct {
	zone, eniConfig, reason string
}

// wayOut of an instance type, where places have room for single addresses only.
type wayOut struct {
	places []bool
	*modes
}

// usual offering in a place: it says that it is none of single addresses. The reason why it is withheld becomes that those are offered instead.
func (w *wayOut) usual(o *cloudprovider.Offering, place int, reason string) string {
	o.Requirements = with(o.Requirements, w.prefixes...)
	if w.places[place] {
		return ReasonSingleAddresses
	}
	return reason
}

// single makes of an offering one of single addresses.
func (w *wayOut) single(o *cloudprovider.Offering, p place) {
	o.Requirements = with(with(o.Requirements, p.requirement), w.singles...)
	o.CapacityOverride = w.fewer
}

// resolve puts the verdicts on the offerings. Where there is a way out by single addresses, each offering says which of the two it is of:
// who asks for a max-pods gets a node that has it.
func (v *view) resolve(offerings cloudprovider.Offerings, verdicts []string, instead *wayOut) (cloudprovider.Offerings, []withheld) {
	size := v.atMost(offerings, instead)
	all := make([]cloudprovider.Offering, 0, size)
	out := make(cloudprovider.Offerings, 0, size)
	add := func(o *cloudprovider.Offering, available bool) *cloudprovider.Offering {
		all = append(all, *o)
		resolved := &all[len(all)-1]
		resolved.Available = o.Available && available
		out = append(out, resolved)
		return resolved
	}
	var missing []withheld
	here := make([][]int, len(offerings))
	most := 0
	for i, o := range offerings {
		here[i] = v.zones[o.Zone()]
		most = max(most, len(here[i]))
	}
	// The scheduler looks for the first offering that will do: all zones and capacity types come before the next ENIConfig.
	for rank := range most {
		for i, o := range offerings {
			if rank >= len(here[i]) {
				continue
			}
			at := here[i][rank]
			place, reason := v.places[at], verdicts[at]
			named := add(o, reason == "")
			named.Requirements = with(o.Requirements, place.requirement)
			if instead != nil {
				reason = instead.usual(named, at, reason)
			}
			if o.Available && reason != "" {
				missing = append(missing, withheld{place.Zone, place.ENIConfig, reason})
			}
		}
	}
	if instead != nil {
		for i, o := range offerings {
			for _, at := range here[i] {
				if instead.places[at] {
					instead.single(add(o, true), v.places[at])
				}
			}
		}
	}
	for i, o := range offerings {
		if len(here[i]) > 0 && !v.byLabel && instead == nil {
			continue
		}
		// A node whose ENIConfig is gone, or that has another max-pods, must still find its instance type here: otherwise Karpenter
		// would replace it.
		add(o, false)
		if o.Available && len(here[i]) == 0 {
			missing = append(missing, withheld{zone: o.Zone(), reason: ReasonNoENIConfig})
		}
	}
	return out, missing
}

// atMost is how many offerings resolve makes, or more.
func (v *view) atMost(offerings cloudprovider.Offerings, instead *wayOut) (size int) {
	for _, o := range offerings {
		size += v.copies(o.Zone())
		if instead != nil {
			size += len(v.zones[o.Zone()]) + 1
		}
	}
	return size
}

func (v *view) copies(zone string) int {
	here := len(v.zones[zone])
	if here == 0 || v.byLabel {
		here++
	}
	return here
}

// with copies the map and shares the requirements in it.
func with(requirements scheduling.Requirements, more ...*scheduling.Requirement) scheduling.Requirements {
	out := maps.Clone(requirements)
	for _, one := range more {
		out[one.Key] = one
	}
	return out
}
