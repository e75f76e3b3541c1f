// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// PlacesOf a network, by zone in the order of their names.
func PlacesOf(network *v1alpha1.PodNetwork) [][]podnetwork.Place {
	var zones [][]podnetwork.Place
	for _, z := range network.Status.Zones {
		place := podnetwork.Place{Zone: z.Zone, ENIConfig: z.ENIConfig, Subnet: z.Subnet}
		i := slices.IndexFunc(zones, func(places []podnetwork.Place) bool { return places[0].Zone == z.Zone })
		if i < 0 {
			zones = append(zones, []podnetwork.Place{place})
			continue
		}
		zones[i] = append(zones[i], place)
	}
	return zones
}

// held is what a launch has set aside.
type held struct {
	places        []podnetwork.Place
	instanceTypes sets.Set[string]
	// singles: the node gets single addresses in place of /28s.
	singles bool
}

type heldKey struct{}

// Holding makes the offerings that are resolved with this context those of one launch: only its instance types have any, and only
// the places that it holds room in are available. Upstream lists instance types once more within its Create. By then the
// launch's own room is set aside, and would look taken.
func Holding(ctx context.Context, places []podnetwork.Place, instanceTypes []string) context.Context {
	return context.WithValue(ctx, heldKey{}, &held{places: places, instanceTypes: sets.New(instanceTypes...)})
}

// HoldingSingles is Holding for a launch with single addresses.
func HoldingSingles(ctx context.Context, places []podnetwork.Place, instanceTypes []string) context.Context {
	return context.WithValue(ctx, heldKey{}, &held{places: places, instanceTypes: sets.New(instanceTypes...), singles: true})
}

func holding(ctx context.Context) *held {
	h, _ := ctx.Value(heldKey{}).(*held)
	return h
}
