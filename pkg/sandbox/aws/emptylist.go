// SPDX-License-Identifier: Apache-2.0

package aws

// emptyLists are the lists that EC2 writes even when there is nothing in them, by structure and field (from the replies in
// the examples of the AWS CLI's reference). SDKs without types, such as botocore, have no key for a list that is not
// written, and programs rely on those that always are. Tags are among them for some resources and not for others.
var emptyLists = map[string]bool{
	"CreateFleetOutput.Errors":               true,
	"CreateFleetOutput.Instances":            true,
	"Instance.BlockDeviceMappings":           true,
	"Instance.NetworkInterfaces":             true,
	"Instance.ProductCodes":                  true,
	"Instance.SecurityGroups":                true,
	"InstanceNetworkInterface.Ipv6Addresses": true,
	"InternetGateway.Attachments":            true,
	"InternetGateway.Tags":                   true,
	"IpPermission.IpRanges":                  true,
	"IpPermission.Ipv6Ranges":                true,
	"IpPermission.PrefixListIds":             true,
	"IpPermission.UserIdGroupPairs":          true,
	"NetworkInterface.Ipv6Addresses":         true,
	"NetworkInterface.TagSet":                true,
	"Reservation.Groups":                     true,
	"RouteTable.Associations":                true,
	"RouteTable.PropagatingVgws":             true,
	"RouteTable.Tags":                        true,
	"RunInstancesOutput.Groups":              true,
	"Subnet.Ipv6CidrBlockAssociationSet":     true,
}
