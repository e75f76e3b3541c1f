// SPDX-License-Identifier: Apache-2.0

package aws

import (
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// geometry is what an instance type allows its interfaces.
type geometry struct {
	name      string
	cards     map[int32]int // interfaces for each network card: device indexes exist per card
	addresses int           // IPv4 address slots for each interface
	prefixes  bool          // Nitro or bare metal
	efas      int           // interfaces that may be Elastic Fabric Adapters
}

func geometryOf(info ec2types.InstanceTypeInfo) geometry {
	g := geometry{
		name: string(info.InstanceType), cards: map[int32]int{}, addresses: int(awssdk.ToInt32(info.NetworkInfo.Ipv4AddressesPerInterface)),
		prefixes: info.Hypervisor == ec2types.InstanceTypeHypervisorNitro || awssdk.ToBool(info.BareMetal),
	}
	if efa := info.NetworkInfo.EfaInfo; awssdk.ToBool(info.NetworkInfo.EfaSupported) && efa != nil {
		g.efas = int(awssdk.ToInt32(efa.MaximumEfaInterfaces))
	}
	for _, card := range info.NetworkInfo.NetworkCards {
		g.cards[awssdk.ToInt32(card.NetworkCardIndex)] = int(awssdk.ToInt32(card.MaximumNetworkInterfaces))
	}
	return g
}

// admits tells whether a card may have so many interfaces, one of them with so many address slots in use.
func (g geometry) admits(interfaces int, card int32, slots int, prefixes bool) error {
	limit, ok := g.cards[card]
	switch {
	case !ok:
		return clientError("InvalidParameterValue", "Network card index '%d' is not valid for %s", card, g.name)
	case interfaces > limit:
		return clientError("AttachmentLimitExceeded", "Interface count %d exceeds the limit for %s", interfaces, g.name)
	case slots > g.addresses:
		return clientError("InvalidInterface.IpAddressLimitExceeded", "Address count %d exceeds the limit for %s", slots, g.name)
	case prefixes && !g.prefixes:
		return g.errPrefixes()
	}
	return nil
}

// errPrefixes has a code and a text of our own: that prefixes need Nitro is documented, the error is not.
func (g geometry) errPrefixes() error {
	return clientError("InvalidParameterCombination", "IPv4 prefixes are supported on Nitro instances only; %s is none", g.name)
}

// admitsEFAs tells whether so many interfaces may be Elastic Fabric Adapters. The code is our own.
func (g geometry) admitsEFAs(count int) error {
	switch {
	case count == 0:
		return nil
	case g.efas == 0:
		return clientError("InvalidParameterCombination", "%s instances do not support Elastic Fabric Adapters.", g.name)
	case count > g.efas:
		return clientError("AttachmentLimitExceeded", "Elastic Fabric Adapter count %d exceeds the limit for %s", count, g.name)
	}
	return nil
}
