// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

type networkInterface struct {
	id, description string
	subnet          *subnet
	kind            ec2types.NetworkInterfaceType
	mac             net.HardwareAddr
	groups          []*securityGroup
	primary         netip.Addr
	secondaries     []netip.Addr
	prefixes        []netip.Prefix
	public          netip.Addr
	sourceDestCheck bool
	service         string // that owns it, "" for the account's own
	attachment      *attachment
	tags            map[string]string
	visibleAt       time.Time
	listed          bool  // by IMDS
	shown           given // secondaries and prefixes as IMDS tells them
}

type attachment struct {
	id                  string
	instance            *instance // nil: of a service
	card, index         int32
	status              ec2types.AttachmentStatus
	since               time.Time
	deleteOnTermination bool
}

// interfaceSpec is what a new interface is made of.
type interfaceSpec struct {
	id          string // "": the next one
	subnet      *subnet
	groups      []*securityGroup
	kind        ec2types.NetworkInterfaceType
	description string
	primary     netip.Addr // zero: any
	want        want       // besides the primary address
	tags        map[string]string
	public      bool
}

// slots is the number of IPv4 address slots that an interface uses: a prefix takes one, as an address does.
func (n *networkInterface) slots() int { return 1 + len(n.secondaries) + len(n.prefixes) }

func (s interfaceSpec) slots() int {
	return 1 + len(s.want.addresses) + s.want.count + len(s.want.prefixes) + s.want.prefixCount
}

// publish lets IMDS see the interface with its addresses.
func (n *networkInterface) publish() {
	n.listed = true
	n.shown = given{addresses: slices.Clone(n.secondaries), prefixes: slices.Clone(n.prefixes)}
}

// visible tells whether what was made is known to all of EC2 by now.
func (r *request) visible(at time.Time) bool { return !r.now.Before(at) }

// allocate makes an interface, or nothing.
func (c *Cloud) allocate(spec interfaceSpec) (*networkInterface, error) {
	if len(c.interfaces.order) >= c.quotas.Interfaces {
		return nil, clientError("NetworkInterfaceLimitExceeded", "You have reached the limit on the number of network interfaces that you can create.")
	}
	w, named := spec.want, len(spec.want.addresses)
	if spec.primary.IsValid() {
		w.addresses = append([]netip.Addr{spec.primary}, w.addresses...)
		named = 0
	} else {
		w.count++
	}
	g, err := spec.subnet.space.assign(w, c.random)
	if err != nil {
		return nil, err
	}
	// Named addresses come first: without a named primary, the first counted one is it.
	primary := g.addresses[named]
	n := &networkInterface{
		id: spec.id, description: spec.description, subnet: spec.subnet, kind: spec.kind, mac: c.newMAC(), groups: spec.groups,
		primary: primary, secondaries: slices.Delete(g.addresses, named, named+1), prefixes: g.prefixes,
		sourceDestCheck: true, tags: spec.tags, visibleAt: time.Now().Add(c.latency.Propagation.draw(c.random)),
	}
	if n.id == "" {
		n.id = c.ids.next("eni")
	}
	if n.kind == "" {
		n.kind = ec2types.NetworkInterfaceTypeInterface
	}
	if spec.public {
		n.public = c.nextPublicAddress()
	}
	c.interfaces.add(n.id, n)
	return n, nil
}

// newMAC returns a locally administered address, as EC2's are.
func (c *Cloud) newMAC() net.HardwareAddr {
	random := c.random.Uint64()
	mac := net.HardwareAddr{0x0a, 0, 0, 0, 0, 0}
	for i := range mac[1:] {
		mac[i+1] = byte(random >> (8 * i))
	}
	return mac
}

// free gives an interface's addresses back and forgets it.
func (c *Cloud) free(n *networkInterface) {
	n.subnet.space.giveBack(given{addresses: append([]netip.Addr{n.primary}, n.secondaries...), prefixes: n.prefixes})
	c.interfaces.remove(n.id)
}

// attachToService makes n in use by a service of AWS.
func (c *Cloud) attachToService(n *networkInterface, service string) {
	n.service = service
	n.attachment = &attachment{id: c.ids.implicit("ela-attach"), index: 1, status: ec2types.AttachmentStatusAttached, since: time.Now()}
}

// AttachToService makes an available interface one that an AWS service owns, such as "amazon-eks": in use, with an
// attachment that no one else may detach. EKS reaches a VPC with such interfaces.
func (c *Cloud) AttachToService(interfaceID, service string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.interfaces.get(interfaceID)
	if n == nil {
		return kindInterface.missing(interfaceID)
	}
	if n.attachment != nil {
		return errInUse(n)
	}
	c.attachToService(n, service)
	c.changed()
	return nil
}

// addressParameters are the ways in which requests ask for IPv4 addresses of an interface.
type addressParameters struct {
	address     *string
	addresses   []ec2types.PrivateIpAddressSpecification
	count       *int32
	prefixes    []string
	prefixCount *int32
}

// parse returns the primary address, if one is named, and the rest.
func (p addressParameters) parse() (netip.Addr, want, error) {
	var primary netip.Addr
	var w want
	named := awssdk.ToString(p.address)
	for _, spec := range p.addresses {
		addr, err := netip.ParseAddr(awssdk.ToString(spec.PrivateIpAddress))
		if err != nil || !addr.Is4() {
			return primary, w, invalidValue(awssdk.ToString(spec.PrivateIpAddress), "address")
		}
		switch {
		case !awssdk.ToBool(spec.Primary):
			w.addresses = append(w.addresses, addr)
		case named != "" && named != addr.String():
			return primary, w, clientError("InvalidParameterCombination", "Only one primary private IP address may be specified")
		default:
			named = addr.String()
		}
	}
	if named != "" {
		addr, err := netip.ParseAddr(named)
		if err != nil || !addr.Is4() {
			return primary, w, invalidValue(named, "address")
		}
		primary = addr
	}
	for _, text := range p.prefixes {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || !prefix.Addr().Is4() {
			return primary, w, invalidValue(text, "ipv4Prefixes")
		}
		w.prefixes = append(w.prefixes, prefix)
	}
	w.count, w.prefixCount = int(awssdk.ToInt32(p.count)), int(awssdk.ToInt32(p.prefixCount))
	if w.count < 0 || w.prefixCount < 0 {
		return primary, w, clientError("InvalidParameterValue", "A count of addresses must not be negative")
	}
	if ways(w) > 1 {
		return primary, w, errOneWay
	}
	return primary, w, nil
}

var errOneWay = clientError("InvalidParameterCombination",
	"You may specify one and only one of privateIpAddressSet or secondaryPrivateIpAddressCount or ipv4Prefixes or ipv4PrefixCount, but not more than one of them.")

// ways counts the ways in which secondary addresses are asked for.
func ways(w want) int {
	n := 0
	for _, asked := range []bool{len(w.addresses) > 0, w.count > 0, len(w.prefixes) > 0, w.prefixCount > 0} {
		if asked {
			n++
		}
	}
	return n
}

func (r *request) createInterface(in *ec2.CreateNetworkInterfaceInput) (*ec2.CreateNetworkInterfaceOutput, error) {
	s, err := r.subnet("subnetId", in.SubnetId)
	if err != nil {
		return nil, err
	}
	groups, err := r.groupsFor(s, in.Groups)
	if err != nil {
		return nil, err
	}
	kind := ec2types.NetworkInterfaceType(in.InterfaceType)
	switch kind {
	case "", ec2types.NetworkInterfaceTypeInterface, ec2types.NetworkInterfaceTypeEfa:
	default:
		return nil, notSimulated("interfaces of type %s", in.InterfaceType)
	}
	primary, w, err := addressParameters{
		address: in.PrivateIpAddress, addresses: in.PrivateIpAddresses, count: in.SecondaryPrivateIpAddressCount,
		prefixCount: in.Ipv4PrefixCount, prefixes: prefixTexts(in.Ipv4Prefixes),
	}.parse()
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeNetworkInterface)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	n, err := r.allocate(interfaceSpec{
		subnet: s, groups: groups, kind: kind, description: awssdk.ToString(in.Description), primary: primary, want: w, tags: tags,
	})
	if err != nil {
		return nil, err
	}
	description := r.describeInterface(n)
	description.Status = "pending" // EC2 says so, though the SDK has no such constant
	return &ec2.CreateNetworkInterfaceOutput{NetworkInterface: &description, ClientToken: in.ClientToken}, nil
}

func prefixTexts(specs []ec2types.Ipv4PrefixSpecificationRequest) []string {
	var texts []string
	for _, spec := range specs {
		texts = append(texts, awssdk.ToString(spec.Ipv4Prefix))
	}
	return texts
}

func errInUse(n *networkInterface) *apiError {
	return clientError("InvalidParameterValue", "Network interface '%s' is currently in use.", n.id)
}

func (r *request) deleteInterface(in *ec2.DeleteNetworkInterfaceInput) (*ec2.DeleteNetworkInterfaceOutput, error) {
	n, err := r.interfaces.one(kindInterface, "networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	if n.attachment != nil {
		return nil, errInUse(n)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.free(n)
	return &ec2.DeleteNetworkInterfaceOutput{}, nil
}

// modifyInterface changes one attribute, as EC2 does.
func (r *request) modifyInterface(in *ec2.ModifyNetworkInterfaceAttributeInput) (*ec2.ModifyNetworkInterfaceAttributeOutput, error) {
	n, err := r.interfaces.one(kindInterface, "networkInterfaceId", in.NetworkInterfaceId)
	if err != nil {
		return nil, err
	}
	attributes := 0
	for _, given := range []bool{in.Description != nil, in.SourceDestCheck != nil, in.Groups != nil, in.Attachment != nil} {
		if given {
			attributes++
		}
	}
	if attributes != 1 {
		return nil, clientError("InvalidParameterCombination", "One attribute must be specified, and only one; there are %d", attributes)
	}
	if n.service != "" {
		return nil, clientError("OperationNotPermitted", "The network interface '%s' is managed by %s", n.id, n.service)
	}
	var groups []*securityGroup
	if in.Groups != nil {
		if groups, err = r.groupsFor(n.subnet, in.Groups); err != nil {
			return nil, err
		}
	}
	if in.Attachment != nil {
		if id := awssdk.ToString(in.Attachment.AttachmentId); n.attachment == nil || n.attachment.id != id {
			return nil, kindAttachment.missing(id)
		}
		if in.Attachment.DeleteOnTermination == nil {
			return nil, missingParameter("attachment.deleteOnTermination")
		}
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	switch {
	case in.Description != nil:
		n.description = awssdk.ToString(in.Description.Value)
	case in.SourceDestCheck != nil:
		n.sourceDestCheck = awssdk.ToBool(in.SourceDestCheck.Value)
	case in.Groups != nil:
		n.groups = groups
	default:
		n.attachment.deleteOnTermination = *in.Attachment.DeleteOnTermination
	}
	return &ec2.ModifyNetworkInterfaceAttributeOutput{}, nil
}

func (r *request) describeInterfaces(in *ec2.DescribeNetworkInterfacesInput) (*ec2.DescribeNetworkInterfacesOutput, error) {
	if len(in.NetworkInterfaceIds) > 0 && in.MaxResults != nil {
		return nil, clientError("InvalidParameterCombination", "The parameter networkInterfaceIdSet cannot be used with the parameter maxResults")
	}
	interfaces, err := r.interfaces.pick(kindInterface, in.NetworkInterfaceIds)
	if err != nil {
		return nil, err
	}
	var known []*networkInterface
	for _, n := range interfaces {
		switch {
		case r.visible(n.visibleAt):
			known = append(known, n)
		case len(in.NetworkInterfaceIds) > 0:
			return nil, kindInterface.missing(n.id)
		}
	}
	described, next, err := filterPage(known, in.Filters, r.interfaceAttributes, r.describeInterface, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeNetworkInterfacesOutput{NetworkInterfaces: described, NextToken: next}, err
}

func (r *request) interfaceAttributes(n *networkInterface) attributes {
	return attributes(func(name string) ([]string, bool) {
		switch name {
		case "network-interface-id":
			return []string{n.id}, true
		case "subnet-id":
			return []string{n.subnet.id}, true
		case "vpc-id":
			return []string{n.subnet.vpc.id}, true
		case "availability-zone":
			return []string{n.subnet.zone}, true
		case "availability-zone-id":
			return []string{r.zoneID(n.subnet.zone)}, true
		case "private-dns-name":
			return []string{r.privateDNS(n.primary)}, true
		case "source-dest-check":
			return []string{strconv.FormatBool(n.sourceDestCheck)}, true
		case "status":
			return []string{string(n.status())}, true
		case "description":
			return []string{n.description}, true
		case "interface-type":
			return []string{string(n.kind)}, true
		case "mac-address":
			return []string{n.mac.String()}, true
		case "owner-id":
			return []string{r.account}, true
		case "requester-managed":
			return []string{strconv.FormatBool(n.service != "")}, true
		case "requester-id":
			return []string{n.service}, true
		case "group-id":
			return groupIDs(n.groups), true
		case "private-ip-address", "addresses.private-ip-address":
			return n.addressTexts(), true
		case "attachment.attachment-id", "attachment.instance-id", "attachment.device-index", "attachment.status", "attachment.delete-on-termination":
			return n.attachment.attribute(name), true
		}
		return nil, false
	}).with(n.tags)
}

func (a *attachment) attribute(name string) []string {
	switch {
	case a == nil:
		return nil
	case name == "attachment.attachment-id":
		return []string{a.id}
	case name == "attachment.device-index":
		return []string{strconv.Itoa(int(a.index))}
	case name == "attachment.status":
		return []string{string(a.status)}
	case name == "attachment.delete-on-termination":
		return []string{strconv.FormatBool(a.deleteOnTermination)}
	case a.instance != nil:
		return []string{a.instance.id}
	}
	return nil
}

func (n *networkInterface) addressTexts() []string {
	texts := []string{n.primary.String()}
	for _, addr := range n.secondaries {
		texts = append(texts, addr.String())
	}
	return texts
}

func (n *networkInterface) status() ec2types.NetworkInterfaceStatus {
	if n.attachment == nil {
		return ec2types.NetworkInterfaceStatusAvailable
	}
	return ec2types.NetworkInterfaceStatusInUse
}

func (r *request) describeInterface(n *networkInterface) ec2types.NetworkInterface {
	d := ec2types.NetworkInterface{
		NetworkInterfaceId: &n.id, SubnetId: &n.subnet.id, VpcId: &n.subnet.vpc.id, AvailabilityZone: &n.subnet.zone,
		Description: awssdk.String(n.description), Groups: groupIdentifiers(n.groups), InterfaceType: n.kind, MacAddress: awssdk.String(n.mac.String()),
		OwnerId: &r.account, PrivateIpAddress: awssdk.String(n.primary.String()), PrivateDnsName: awssdk.String(r.privateDNS(n.primary)),
		RequesterManaged: awssdk.Bool(n.service != ""), SourceDestCheck: awssdk.Bool(n.sourceDestCheck), Status: n.status(), TagSet: tagList(n.tags),
	}
	if n.service != "" {
		d.RequesterId = &n.service
	}
	for i, text := range n.addressTexts() {
		d.PrivateIpAddresses = append(d.PrivateIpAddresses, ec2types.NetworkInterfacePrivateIpAddress{
			Primary: awssdk.Bool(i == 0), PrivateIpAddress: awssdk.String(text),
		})
	}
	for _, p := range n.prefixes {
		d.Ipv4Prefixes = append(d.Ipv4Prefixes, ec2types.Ipv4PrefixSpecification{Ipv4Prefix: awssdk.String(p.String())})
	}
	if n.public.IsValid() {
		d.Association = &ec2types.NetworkInterfaceAssociation{PublicIp: awssdk.String(n.public.String()), IpOwnerId: awssdk.String("amazon")}
	}
	if a := n.attachment; a != nil {
		d.Attachment = &ec2types.NetworkInterfaceAttachment{
			AttachmentId: &a.id, AttachTime: &a.since, DeleteOnTermination: awssdk.Bool(a.deleteOnTermination),
			DeviceIndex: awssdk.Int32(a.index), NetworkCardIndex: awssdk.Int32(a.card), Status: a.status, InstanceOwnerId: &r.account,
		}
		if a.instance != nil {
			d.Attachment.InstanceId = &a.instance.id
		} else {
			d.Attachment.InstanceOwnerId = &n.service
		}
	}
	return d
}
