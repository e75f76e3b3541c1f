// SPDX-License-Identifier: Apache-2.0

// Package imds reads what the instance metadata service says of this instance.
package imds

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
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
func New(cfg aws.Config) Reader { return Reader{imds.NewFromConfig(cfg)} }

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
