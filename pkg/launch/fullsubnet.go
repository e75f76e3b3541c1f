// SPDX-License-Identifier: Apache-2.0

package launch

import "strings"

// whichSubnet of a launch with pod ENIs has no room.
type whichSubnet int

const (
	noSubnet whichSubnet = iota
	nodeSubnet
	podSubnet
	eitherSubnet
)

// tooFullForPrefixes is in the message of InvalidParameterValue when a subnet has fewer free addresses than the prefixes asked
// for need: EC2 has no code for it (cilium#31016).
const tooFullForPrefixes = "sufficient free Ipv4 addresses or prefixes"

// fullSubnet reads an error of a fleet. Only the pod ENIs ask for blocks, and for more than one address; that a subnet has no
// free address can be said of both, and EC2 does not always name it.
func fullSubnet(code, message string, t staticTemplate) whichSubnet {
	switch {
	case code == "InsufficientCidrBlocks":
		return podSubnet
	case code == "InvalidParameterValue" && strings.Contains(message, tooFullForPrefixes):
		return podSubnet
	case code != "InsufficientFreeAddressesInSubnet":
		return noSubnet
	case strings.Contains(message, t.podSubnet):
		return podSubnet
	case strings.Contains(message, t.nodeSubnet):
		return nodeSubnet
	default:
		return eitherSubnet
	}
}
