// SPDX-License-Identifier: Apache-2.0

package eni

import (
	"errors"
	"strings"

	"github.com/aws/smithy-go"
)

// Reason classifies what EC2 answered; it is the reason of events.
type Reason string

// Reasons.
const (
	// NoFreePrefix: the subnet has addresses and no aligned /28.
	NoFreePrefix Reason = "NoFreePrefix"
	// SubnetFull: the subnet has too few addresses for the request.
	SubnetFull Reason = "PodSubnetFull"
	// SubnetMissing: there is no such subnet.
	SubnetMissing Reason = "PodSubnetNotFound"
	// WrongZone: the subnet is in another zone than the instance.
	WrongZone Reason = "PodSubnetInOtherZone"
	// GroupMissing: there is no such security group, or it is of another VPC, or there are more than an ENI takes.
	GroupMissing Reason = "SecurityGroupNotUsable"
	// AttachmentLimit: the instance takes no further ENI.
	AttachmentLimit Reason = "AttachmentLimitExceeded"
	// AddressLimit: the ENI takes no further address.
	AddressLimit Reason = "AddressLimitExceeded"
	// IndexTaken: another ENI is attached at this device index.
	IndexTaken Reason = "DeviceIndexTaken"
	// ENIQuota: the account has as many ENIs as it may have in the Region.
	ENIQuota Reason = "NetworkInterfaceQuotaExceeded"
	// Gone: there is no such ENI or attachment, or none that all of EC2 knows of yet.
	Gone Reason = "NetworkInterfaceNotFound"
	// InUse: the ENI is attached, or not wholly detached yet.
	InUse Reason = "NetworkInterfaceInUse"
	// NotAssigned: the ENI does not have the prefix or address.
	NotAssigned Reason = "AddressNotAssigned"
	// NotReady: the instance or the attachment is in no state for this.
	NotReady Reason = "IncorrectState"
	// Throttled: too many requests.
	Throttled Reason = "Throttled"
	// Unauthorized: the node's role lacks a right.
	Unauthorized Reason = "MissingIAMPermissions"
	// Exhausted: the instance and the subnets have no more addresses for the pods that wait.
	Exhausted Reason = "AddressesExhausted"
	// Failed: anything else.
	Failed Reason = "EC2RequestFailed"
)

// byCode holds the codes that mean one thing.
var byCode = map[string]Reason{
	"InsufficientCidrBlocks":                  NoFreePrefix,
	"InsufficientFreeAddressesInSubnet":       SubnetFull,
	"InvalidSubnetID.NotFound":                SubnetMissing,
	"InvalidSubnet.Malformed":                 SubnetMissing,
	"InvalidSubnetID.Malformed":               SubnetMissing,
	"InvalidGroup.NotFound":                   GroupMissing,
	"InvalidSecurityGroupID.NotFound":         GroupMissing,
	"InvalidGroupId.Malformed":                GroupMissing,
	"SecurityGroupsPerInterfaceLimitExceeded": GroupMissing,
	"AttachmentLimitExceeded":                 AttachmentLimit,
	"NetworkInterfaceLimitExceeded":           ENIQuota,
	"InvalidNetworkInterfaceID.NotFound":      Gone,
	"InvalidAttachmentID.NotFound":            Gone,
	"InvalidNetworkInterface.InUse":           InUse,
	"IncorrectState":                          NotReady,
	"PrivateIpAddressLimitExceeded":           AddressLimit,
	"InvalidInterface.IpAddressLimitExceeded": AddressLimit,
	"RequestLimitExceeded":                    Throttled,
	"Throttling":                              Throttled,
	"UnauthorizedOperation":                   Unauthorized,
	"AuthFailure":                             Unauthorized,
}

// byText tells apart what EC2 says with the codes InvalidParameterValue, InvalidParameter and InvalidParameterCombination. It is
// the only place that looks at a message (amazon-vpc-cni-k8s #3105, cilium #31016).
var byText = []struct {
	text   string
	reason Reason
}{
	{"sufficient free Ipv4 addresses or prefixes", SubnetFull},
	{"already has an interface attached at device index", IndexTaken},
	{"not in the same availability zone", WrongZone},
	{"belong to different networks", GroupMissing},
	{"is currently in use", InUse},
	{"are not assigned to interface", NotAssigned},
}

// Error is a refusal that this package found without EC2.
type Error struct {
	Reason  Reason
	Message string
}

func (e *Error) Error() string { return e.Message }

// Refused says that a request had no effect, and that the same one has none for a while: the subnet, the account or the
// configuration does not give what was asked for. After any other error the truth has to be read before the next request.
func (r Reason) Refused() bool {
	switch r {
	case NoFreePrefix, SubnetFull, SubnetMissing, WrongZone, GroupMissing, ENIQuota, Unauthorized:
		return true
	default:
		return false
	}
}

// Brief is what EC2 said, without the SDK's account of the request: it stands in events, which are one as long as their
// text is the same, and a request's id never is.
func Brief(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	return err.Error()
}

// Code of EC2's answer, "" when it is none.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Classify finds the reason of an error.
func Classify(err error) Reason {
	var own *Error
	if errors.As(err, &own) {
		return own.Reason
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return Failed
	}
	if reason, ok := byCode[api.ErrorCode()]; ok {
		return reason
	}
	if strings.HasPrefix(api.ErrorCode(), "InvalidParameter") {
		for _, known := range byText {
			if strings.Contains(api.ErrorMessage(), known.text) {
				return known.reason
			}
		}
	}
	return Failed
}
