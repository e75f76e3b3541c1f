// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Options of a Cloud.
type Options struct {
	Region    string  // default us-east-1
	AccountID string  // 12 digits; default 123456789012
	Latency   Profile // default: everything is immediate, no request limits
	Seed      int64   // of ids, MACs, addresses and latencies
	Quotas    Quotas  // default: EC2's, and any number of vCPUs
}

// Cloud is one simulated account in one Region.
type Cloud struct {
	region, account string
	latency         Profile
	quotas          Quotas
	seed            uint64
	actions         map[string]action // EC2's

	mu         sync.Mutex // of all that follows
	random     *rand.Rand
	ids        ids
	offered    []ec2types.InstanceTypeInfo // see offeredTypes
	buckets    throttle
	tokens     map[string]idempotent
	faults     []*activeFault
	faultsEver int
	components map[string]Component
	watchers   []chan struct{}
	generation uint64

	vpcs            table[vpc]
	subnets         table[subnet]
	groups          table[securityGroup]
	routeTables     table[routeTable]
	gateways        table[internetGateway]
	natGateways     table[natGateway]
	peerings        table[peering]
	addresses       table[elasticAddress]
	interfaces      table[networkInterface]
	instances       table[instance]
	templates       table[launchTemplate]
	placementGroups table[placementGroup]

	transitGateways    table[transitGateway]
	transitAttachments table[transitAttachment]
	transitTables      table[transitTable]

	reservations  table[capacityReservation]
	launched      int // instances, ever
	publicAddress netip.Addr

	roles      map[string]*role
	profiles   map[string]*instanceProfile
	clusters   map[string]Cluster
	fargate    map[string][]*fargateProfile // by cluster
	queues     map[string]*queue
	subscribed []string           // queues that get the events of EC2
	sessions   map[string]session // IMDS tokens
}

// New returns an account with nothing in it.
func New(opts Options) *Cloud {
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	if opts.AccountID == "" {
		opts.AccountID = "123456789012"
	}
	random := rand.New(rand.NewPCG(uint64(opts.Seed), 0))
	return &Cloud{
		region: opts.Region, account: opts.AccountID, latency: opts.Latency, seed: uint64(opts.Seed), quotas: opts.Quotas.withDefaults(), actions: ec2Actions(),
		random: random, ids: ids{random: random, reserved: map[string][]string{}},
		buckets: throttle{}, tokens: map[string]idempotent{}, components: map[string]Component{},
		publicAddress: netip.MustParseAddr("198.51.100.6"),
		roles:         map[string]*role{}, profiles: map[string]*instanceProfile{}, clusters: map[string]Cluster{}, fargate: map[string][]*fargateProfile{},
		queues: map[string]*queue{}, sessions: map[string]session{},
	}
}

// ReserveIDs hands out these ids, in order, to the next resources of each id's kind (the part before the last
// dash), so that manifests can name them. Resources that come with others, such as a VPC's main route table, take none.
func (c *Cloud) ReserveIDs(ids []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		prefix := idPrefix(id)
		c.ids.reserved[prefix] = append(c.ids.reserved[prefix], id)
	}
}

// Changed returns a channel of its own for each caller, which holds one token after any number of changes to what
// Snapshot shows. The simulator never waits for a reader. The first token is there at once.
func (c *Cloud) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	watcher := make(chan struct{}, 1)
	watcher <- struct{}{}
	c.watchers = append(c.watchers, watcher)
	return watcher
}

// changed tells the watchers. The caller holds the lock.
func (c *Cloud) changed() {
	c.generation++
	for _, watcher := range c.watchers {
		select {
		case watcher <- struct{}{}:
		default: // its token is still there
		}
	}
}

// after runs f under the lock when the drawn time has passed. The caller holds the lock, so f never runs before the
// caller is done.
func (c *Cloud) after(s Span, f func()) {
	time.AfterFunc(s.draw(c.random), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		f()
		c.changed()
	})
}

// zones returns the Region's zones, sorted. The embedded table knows us-east-1; other Regions have a, b and c.
func (c *Cloud) zones() []string {
	letters := "abc"
	if c.region == "us-east-1" {
		letters = "abcdef"
	}
	zones := []string{}
	for _, letter := range letters {
		zones = append(zones, c.region+string(letter))
	}
	return zones
}

func (c *Cloud) hasZone(zone string) bool { return slices.Contains(c.zones(), zone) }

// zoneID returns the id of a zone, as "use1-az1" for us-east-1a. Real accounts have this in an order of their own.
func (c *Cloud) zoneID(zone string) string {
	parts := strings.Split(c.region, "-")
	short := parts[0]
	for _, part := range parts[1:] {
		short += part[:1]
	}
	return short + "-az" + string('1'+zone[len(zone)-1]-'a')
}

// zoneByID is the reverse of zoneID.
func (c *Cloud) zoneByID(id string) (string, bool) {
	for _, zone := range c.zones() {
		if c.zoneID(zone) == id {
			return zone, true
		}
	}
	return "", false
}

func (c *Cloud) arn(service, resource string) string {
	return "arn:aws:" + service + ":" + c.region + ":" + c.account + ":" + resource
}

// table is the resources of a kind by id, in order of creation.
type table[T any] struct {
	byID  map[string]*T
	order []string
}

func (t *table[T]) get(id string) *T { return t.byID[id] }

func (t *table[T]) add(id string, resource *T) {
	if t.byID == nil {
		t.byID = map[string]*T{}
	}
	t.byID[id] = resource
	t.order = append(t.order, id)
}

func (t *table[T]) remove(id string) {
	delete(t.byID, id)
	t.order = slices.DeleteFunc(t.order, func(other string) bool { return other == id })
}

func (t *table[T]) all() []*T {
	resources := make([]*T, len(t.order))
	for i, id := range t.order {
		resources[i] = t.byID[id]
	}
	return resources
}

// pick returns the resources with these ids, or all when none is given. A missing one fails the whole call.
func (t *table[T]) pick(k kind, ids []string) ([]*T, error) {
	if len(ids) == 0 {
		return t.all(), nil
	}
	var resources []*T
	var missing []string
	for _, id := range ids {
		if resource := t.get(id); resource != nil {
			resources = append(resources, resource)
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, k.missing(missing...)
	}
	return resources, nil
}

// one returns the resource that a required parameter names.
func (t *table[T]) one(k kind, parameter string, id *string) (*T, error) {
	if id == nil || *id == "" {
		return nil, missingParameter(parameter)
	}
	resource := t.get(*id)
	if resource == nil {
		return nil, k.missing(*id)
	}
	return resource, nil
}
