// SPDX-License-Identifier: Apache-2.0

package podsubnet

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"k8s.io/utils/clock"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/ec2read"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// reservationsTTL keeps CIDR reservations, which take a call for each subnet and seldom change.
const reservationsTTL = 5 * time.Minute

// EC2 is what is read of EC2. An *ec2.Client is one.
type EC2 interface {
	DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...func(*ec2.Options)) (*ec2.DescribeSubnetsOutput, error)
	DescribeNetworkInterfaces(context.Context, *ec2.DescribeNetworkInterfacesInput, ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error)
	GetSubnetCidrReservations(context.Context, *ec2.GetSubnetCidrReservationsInput, ...func(*ec2.Options)) (*ec2.GetSubnetCidrReservationsOutput, error)
}

// Reader reads pod subnets into the ledger. Everything that wants to know what lies in a pod subnet gets it from there: a
// subnet is read once for all.
type Reader struct {
	EC2    EC2
	Ledger *podnetwork.Ledger
	Clock  clock.Clock

	mu           sync.Mutex // one reading at a time
	reservations map[string]reservationsOf
	told         map[string]figures

	once    sync.Once
	changed chan struct{}
}

// figures of a subnet that people are shown.
type figures struct {
	capacity podnetwork.Capacity
	aside    podnetwork.Charge
}

// Changed has a token after a reading, when a subnet's figures are others than after the reading before: what is free, or what of it is
// set aside. It is for one listener, who comes no oftener than subnets are read.
func (r *Reader) Changed() <-chan struct{} { return r.changes() }

func (r *Reader) changes() chan struct{} {
	r.once.Do(func() { r.changed = make(chan struct{}, 1) })
	return r.changed
}

type reservationsOf struct {
	podnetwork.Reservations
	read time.Time
}

// Ensure that each of the subnets was read once; a subnet that does not exist stays without a snapshot. Many may ask at once: one
// reads.
func (r *Reader) Ensure(ctx context.Context, subnets ...string) error {
	r.Ledger.Want(subnets...)
	unread := func(id string) bool { return id == "" || r.Ledger.Snapshot(id) != nil }
	if missing := slices.DeleteFunc(slices.Clone(subnets), unread); len(missing) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if missing := slices.DeleteFunc(slices.Clone(subnets), unread); len(missing) > 0 {
		return r.read(ctx, missing)
	}
	return nil
}

// Refresh reads all subnets that the ledger wants.
func (r *Reader) Refresh(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read(ctx, r.Ledger.Wanted())
}

func (r *Reader) read(ctx context.Context, subnets []string) error {
	defer r.tell(subnets)
	for chunk := range slices.Chunk(subnets, ec2read.ValuesPerFilter) {
		if err := r.readChunk(ctx, chunk); err != nil {
			return err
		}
	}
	return nil
}

// tell that figures have changed.
func (r *Reader) tell(subnets []string) {
	if r.told == nil {
		r.told = map[string]figures{}
	}
	differs := false
	for _, id := range subnets {
		var now figures
		if snapshot := r.Ledger.Snapshot(id); snapshot != nil {
			now = figures{capacity: snapshot.Capacity, aside: r.Ledger.Room(id).Aside}
		}
		if r.told[id] != now {
			r.told[id], differs = now, true
		}
	}
	if !differs {
		return
	}
	select {
	case r.changes() <- struct{}{}:
	default: // one is waiting
	}
}

func (r *Reader) readChunk(ctx context.Context, subnets []string) error {
	began := r.Clock.Now()
	cidrs, err := r.cidrs(ctx, subnets)
	if err != nil {
		return err
	}
	existing := slices.Sorted(maps.Keys(cidrs))
	for _, id := range subnets {
		if _, ok := cidrs[id]; !ok {
			r.Ledger.Lost(id)
		}
	}
	if len(existing) == 0 {
		return nil
	}
	enis, err := r.enis(ctx, existing)
	if err != nil {
		return err
	}
	for _, id := range existing {
		reservations, err := r.reservationsOf(ctx, id)
		if err != nil {
			return err
		}
		r.Ledger.Observe(podnetwork.NewSnapshot(id, cidrs[id], enis[id], reservations, began))
	}
	return nil
}

// cidrs of the subnets that exist and have IPv4 addresses.
func (r *Reader) cidrs(ctx context.Context, subnets []string) (map[string]netip.Prefix, error) {
	described, err := ec2read.Subnets(ctx, r.EC2, "subnet-id", subnets...)
	if err != nil {
		return nil, fmt.Errorf("describing pod subnets, %w", err)
	}
	cidrs := map[string]netip.Prefix{}
	for _, s := range described {
		if cidr, err := netip.ParsePrefix(aws.ToString(s.CidrBlock)); err == nil { // not one that is for IPv6 only
			cidrs[aws.ToString(s.SubnetId)] = cidr
		}
	}
	return cidrs, nil
}

// enis in each subnet.
func (r *Reader) enis(ctx context.Context, subnets []string) (map[string][]podnetwork.ENI, error) {
	enis := map[string][]podnetwork.ENI{}
	for described, err := range ec2read.NetworkInterfaces(ctx, r.EC2, ec2read.Filter("subnet-id", subnets...)) {
		if err != nil {
			return nil, fmt.Errorf("describing the ENIs of pod subnets, %w", err)
		}
		id := aws.ToString(described.SubnetId)
		enis[id] = append(enis[id], eniOf(described))
	}
	return enis, nil
}

// eniOf an interface that is attached, or that a node's agent has made and will attach.
func eniOf(described *ec2types.NetworkInterface) podnetwork.ENI {
	var out podnetwork.ENI
	if attachment := described.Attachment; attachment != nil {
		out.Instance, out.Primary = aws.ToString(attachment.InstanceId), aws.ToInt32(attachment.DeviceIndex) == 0
	} else {
		out.Instance = ec2read.Tag(described.TagSet, eni.TagInstance)
	}
	for _, address := range described.PrivateIpAddresses {
		if ip, err := netip.ParseAddr(aws.ToString(address.PrivateIpAddress)); err == nil && ip.Is4() {
			out.Addresses = append(out.Addresses, netip.PrefixFrom(ip, ip.BitLen()))
		}
	}
	for _, prefix := range described.Ipv4Prefixes {
		if p, err := netip.ParsePrefix(aws.ToString(prefix.Ipv4Prefix)); err == nil {
			out.Prefixes = append(out.Prefixes, p)
		}
	}
	return out
}

func (r *Reader) reservationsOf(ctx context.Context, subnet string) (podnetwork.Reservations, error) {
	now := r.Clock.Now()
	if known, ok := r.reservations[subnet]; ok && now.Sub(known.read) < reservationsTTL && r.Ledger.Room(subnet).Refused == "" {
		return known.Reservations, nil
	}
	found := reservationsOf{read: now}
	described, err := ec2read.Reservations(ctx, r.EC2, subnet)
	if err != nil {
		return found.Reservations, fmt.Errorf("reading the CIDR reservations of pod subnet %s, %w", subnet, err)
	}
	for _, reservation := range described {
		p, err := netip.ParsePrefix(aws.ToString(reservation.Cidr))
		switch {
		case err != nil:
		case reservation.ReservationType == ec2types.SubnetCidrReservationTypePrefix:
			found.Prefix = append(found.Prefix, p)
		default:
			found.Explicit = append(found.Explicit, p)
		}
	}
	if r.reservations == nil {
		r.reservations = map[string]reservationsOf{}
	}
	r.reservations[subnet] = found
	return found.Reservations, nil
}
