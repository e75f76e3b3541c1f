// SPDX-License-Identifier: Apache-2.0

// Package imds reads what the instance metadata service says of this instance.
package imds

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Instance as it was launched. None of this changes while it runs, but for VPCCIDRs.
type Instance struct {
	ID, Type, Zone, Region string
	PrimaryMAC             net.HardwareAddr
	PrimaryAddress         netip.Addr
	// SecurityGroups of the primary ENI.
	SecurityGroups []string
	// VPCCIDRs are all IPv4 blocks of the VPC.
	VPCCIDRs []netip.Prefix
}

// Reader of the service.
type Reader struct{ client *imds.Client }

// New returns a reader with the SDK's configuration.
//
// It never asks without a token: the SDK would fall back to version 1 of the service where somebody between refuses tokens.
func New(cfg aws.Config) Reader {
	return Reader{imds.NewFromConfig(cfg, func(o *imds.Options) { o.EnableFallback = aws.FalseTernary })}
}

// Instance reads the facts.
func (r Reader) Instance(ctx context.Context) (Instance, error) {
	document, err := r.client.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return Instance{}, fmt.Errorf("instance metadata service: identity document: %w", err)
	}
	i := Instance{ID: document.InstanceID, Type: document.InstanceType, Zone: document.AvailabilityZone, Region: document.Region}
	if i.PrimaryAddress, err = netip.ParseAddr(document.PrivateIP); err != nil {
		return Instance{}, fmt.Errorf("instance metadata service: private address: %w", err)
	}
	mac, err := r.get(ctx, "mac")
	if err != nil {
		return Instance{}, err
	}
	if i.PrimaryMAC, err = net.ParseMAC(mac); err != nil {
		return Instance{}, fmt.Errorf("instance metadata service: mac: %w", err)
	}
	groups, err := r.get(ctx, "network/interfaces/macs/"+mac+"/security-group-ids")
	if err != nil {
		return Instance{}, err
	}
	i.SecurityGroups = strings.Fields(groups)
	i.VPCCIDRs, err = r.vpcCIDRs(ctx, mac)
	return i, err
}

func (r Reader) vpcCIDRs(ctx context.Context, mac string) ([]netip.Prefix, error) {
	list, err := r.get(ctx, "network/interfaces/macs/"+mac+"/vpc-ipv4-cidr-blocks")
	if err != nil {
		return nil, err
	}
	var cidrs []netip.Prefix
	for _, field := range strings.Fields(list) {
		cidr, err := netip.ParsePrefix(field)
		if err != nil {
			return nil, fmt.Errorf("instance metadata service: CIDR block of the VPC: %w", err)
		}
		cidrs = append(cidrs, cidr)
	}
	return cidrs, nil
}

// VPCCIDRs reads the VPC's blocks again: they grow.
func (r Reader) VPCCIDRs(ctx context.Context, primaryMAC net.HardwareAddr) ([]netip.Prefix, error) {
	return r.vpcCIDRs(ctx, primaryMAC.String())
}

// Interface that is attached to the instance.
type Interface struct {
	ID, MAC, Subnet          string
	SubnetCIDR               netip.Prefix
	NetworkCard, DeviceIndex int
	Primary                  netip.Addr
	// Prefixes: delegated /28s, then secondary addresses as /32s.
	Prefixes []netip.Prefix
}

// Interfaces are all that the service knows of: it lags behind EC2.
func (r Reader) Interfaces(ctx context.Context) ([]Interface, error) {
	const macs = "network/interfaces/macs/"
	list, err := r.get(ctx, macs)
	if err != nil {
		return nil, err
	}
	var interfaces []Interface
	for _, mac := range strings.Fields(list) {
		i, err := r.networkInterface(ctx, macs+strings.TrimSuffix(mac, "/")+"/")
		if err != nil {
			return nil, err
		}
		i.MAC = strings.TrimSuffix(mac, "/")
		interfaces = append(interfaces, i)
	}
	slices.SortFunc(interfaces, func(a, b Interface) int { return cmp.Or(a.NetworkCard-b.NetworkCard, a.DeviceIndex-b.DeviceIndex) })
	return interfaces, nil
}

func (r Reader) networkInterface(ctx context.Context, at string) (i Interface, err error) {
	var errs []error
	read := func(name string) string {
		text, err := r.get(ctx, at+name)
		// What an interface does not have is not there: prefixes, and the network card of types with one.
		var response *smithyhttp.ResponseError
		if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusNotFound && (name == "ipv4-prefix" || name == "network-card") {
			return ""
		}
		errs = append(errs, err)
		return text
	}
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("instance metadata service: %s: %w", at, err))
		}
		return n
	}
	i.ID, i.Subnet = read("interface-id"), read("subnet-id")
	i.DeviceIndex = number(read("device-number"))
	if card := read("network-card"); card != "" {
		i.NetworkCard = number(card)
	}
	i.SubnetCIDR, err = netip.ParsePrefix(read("subnet-ipv4-cidr-block"))
	errs = append(errs, err)
	for _, text := range strings.Fields(read("ipv4-prefix")) {
		prefix, err := netip.ParsePrefix(text)
		errs = append(errs, err)
		i.Prefixes = append(i.Prefixes, prefix)
	}
	for n, text := range strings.Fields(read("local-ipv4s")) {
		address, err := netip.ParseAddr(text)
		errs = append(errs, err)
		if n == 0 { // the primary one comes first
			i.Primary = address
		} else {
			i.Prefixes = append(i.Prefixes, netip.PrefixFrom(address, 32))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return Interface{}, fmt.Errorf("instance metadata service: %s: %w", at, err)
	}
	return i, nil
}

func (r Reader) get(ctx context.Context, path string) (string, error) {
	out, err := r.client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		return "", fmt.Errorf("instance metadata service: %s: %w", path, err)
	}
	defer out.Content.Close()
	content, err := io.ReadAll(out.Content)
	if err != nil {
		return "", fmt.Errorf("instance metadata service: %s: %w", path, err)
	}
	return strings.TrimSpace(string(content)), nil
}
