// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// launch is all that a launch template, fleet overrides and RunInstances say together about new instances.
type launch struct {
	instanceType, imageID string
	userData              string // base64
	profileName           string
	profileARN            string
	subnetID, zone        string
	groups                []string
	interfaces            []launchInterface
	tenancy               ec2types.Tenancy
	spot                  bool
	metadata              metadataRequest
	placement             placement
	reservation           reservationUse
	instanceTags          map[string]string
	interfaceTags         map[string]string
	systemTags            map[string]string // aws:...
}

// launchInterface is an interface made by a launch.
type launchInterface struct {
	card, index         int32
	subnetID            string
	groups              []string
	description         string
	kind                string
	addresses           addressParameters
	deleteOnTermination *bool
	public              *bool
}

// launchPlan is a launch found good: what is left to go wrong is that a subnet is full.
type launchPlan struct {
	info         ec2types.InstanceTypeInfo
	image        *image
	userData     []byte
	profile      *instanceProfile
	interfaces   []interfaceSpec
	attachments  []attachment // of interfaces, in the same order
	zone         string
	tenancy      ec2types.Tenancy
	spot         bool
	metadata     metadataOptions
	group        *placementGroup
	partition    int32 // 0: any
	reservation  reservationUse
	instanceTags map[string]string
}

// maxUserData is EC2's limit, in bytes before base64.
const maxUserData = 16384

func decodeUserData(text string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, clientError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")
	}
	if len(data) > maxUserData {
		return nil, clientError("InvalidUserData.Malformed", "User data is limited to %d bytes", maxUserData)
	}
	return data, nil
}

// plan checks a launch against everything that EC2 checks it against.
func (r *request) plan(l launch) (*launchPlan, error) {
	p := &launchPlan{tenancy: l.tenancy, spot: l.spot, reservation: l.reservation, instanceTags: merge(l.instanceTags, l.systemTags)}
	if p.tenancy == "" {
		p.tenancy = ec2types.TenancyDefault
	}
	var err error
	if p.userData, err = decodeUserData(l.userData); err != nil {
		return nil, err
	}
	if err := r.planMachine(l, p); err != nil {
		return nil, err
	}
	if p.profile, err = r.profileFor(l); err != nil {
		return nil, err
	}
	if err := r.planInterfaces(l, p); err != nil {
		return nil, err
	}
	if l.zone != "" && l.zone != p.zone {
		return nil, clientError("InvalidParameterCombination", "The availability zone %s is not the one of the subnet, %s", l.zone, p.zone)
	}
	if letters := instancetypes.ZoneLetters(l.instanceType); !strings.Contains(letters, p.zone[len(p.zone)-1:]) {
		return nil, r.errNotOffered(l.instanceType, p.zone)
	}
	if p.metadata, err = defaultMetadataOptions().apply(l.metadata); err != nil {
		return nil, err
	}
	if p.group, err = r.placementGroupOf(l.placement); err != nil {
		return nil, err
	}
	if err := r.checkPlacement(p, l.placement); err != nil {
		return nil, err
	}
	if err := r.checkReservation(p); err != nil {
		return nil, err
	}
	if len(l.instanceTags) > maxTags || len(l.interfaceTags) > maxTags {
		return nil, errTooManyTags // of the template and the request together
	}
	return p, nil
}

func (r *request) planMachine(l launch, p *launchPlan) error {
	if l.imageID == "" {
		return missingParameter("ImageId")
	}
	if p.image = r.image(l.imageID); p.image == nil {
		return kindImage.missing(l.imageID)
	}
	if l.instanceType == "" {
		return missingParameter("InstanceType")
	}
	info, ok := instancetypes.Info(l.instanceType)
	if !ok {
		return clientError("InvalidParameterValue", "Invalid value '%s' for InstanceType.", l.instanceType)
	}
	p.info = info
	if !slices.Contains(info.ProcessorInfo.SupportedArchitectures, ec2types.ArchitectureType(p.image.architecture)) {
		return clientError("InvalidParameterValue",
			"The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.",
			info.ProcessorInfo.SupportedArchitectures[0], p.image.architecture)
	}
	if l.spot && !slices.Contains(info.SupportedUsageClasses, ec2types.UsageClassTypeSpot) {
		return clientError("Unsupported", "The instance type %s is not supported for Spot", l.instanceType)
	}
	return nil
}

func (r *request) profileFor(l launch) (*instanceProfile, error) {
	switch {
	case l.profileName != "":
		if profile := r.profiles[l.profileName]; profile != nil {
			return profile, nil
		}
		return nil, clientError("InvalidParameterValue",
			"Value (%s) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", l.profileName)
	case l.profileARN != "":
		for _, profile := range r.profiles {
			if profile.arn == l.profileARN {
				return profile, nil
			}
		}
		return nil, clientError("InvalidParameterValue",
			"Value (%s) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN", l.profileARN)
	}
	return nil, nil
}

var errInstanceLevelSubnet = clientError("InvalidParameterCombination",
	"Network interfaces and an instance-level subnet ID may not be specified on the same request")

func (r *request) planInterfaces(l launch, p *launchPlan) error {
	interfaces, err := l.withPrimary()
	if err != nil {
		return err
	}
	g := geometryOf(p.info)
	counts, efas := map[int32]int{}, 0
	seen := map[[2]int32]bool{}
	for _, li := range interfaces {
		slot := [2]int32{li.card, li.index}
		if seen[slot] {
			return clientError("InvalidParameterValue", "Each network interface requires a unique device index.")
		}
		seen[slot] = true
		counts[li.card]++
		spec, err := r.planInterface(l, li, len(interfaces))
		if err != nil {
			return err
		}
		if p.zone == "" {
			p.zone = spec.subnet.zone // the primary is the first
		}
		if spec.subnet.zone != p.zone {
			return errOtherZone
		}
		if len(p.interfaces) > 0 && spec.subnet.vpc != p.interfaces[0].subnet.vpc {
			return notSimulated("interfaces of several VPCs on one instance")
		}
		if err := g.admits(counts[li.card], li.card, spec.slots(), len(spec.want.prefixes)+spec.want.prefixCount > 0); err != nil {
			return err
		}
		if spec.kind == ec2types.NetworkInterfaceTypeEfa {
			efas++
		}
		p.interfaces = append(p.interfaces, spec)
		p.attachments = append(p.attachments, attachment{
			card: li.card, index: li.index, deleteOnTermination: li.deleteOnTermination == nil || *li.deleteOnTermination,
		})
	}
	return g.admitsEFAs(efas)
}

// withPrimary returns the interfaces with the primary one first, and the instance's subnet and groups in it.
func (l launch) withPrimary() ([]launchInterface, error) {
	if len(l.interfaces) == 0 {
		if l.subnetID == "" {
			return nil, clientError("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
		}
		return []launchInterface{{subnetID: l.subnetID, groups: l.groups}}, nil
	}
	if len(l.groups) > 0 {
		return nil, clientError("InvalidParameterCombination",
			"Network interfaces and an instance-level security groups may not be specified on the same request")
	}
	interfaces := slices.Clone(l.interfaces)
	slices.SortStableFunc(interfaces, func(a, b launchInterface) int {
		if a.card != b.card {
			return int(a.card - b.card)
		}
		return int(a.index - b.index)
	})
	if interfaces[0].card != 0 || interfaces[0].index != 0 {
		return nil, clientError("InvalidParameterCombination", "A launch with network interfaces must specify one with device index 0")
	}
	for i := range interfaces {
		switch {
		case l.subnetID != "" && interfaces[i].subnetID != "":
			return nil, errInstanceLevelSubnet
		case interfaces[i].subnetID == "" && l.subnetID == "":
			return nil, clientError("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
		case interfaces[i].subnetID == "":
			interfaces[i].subnetID = l.subnetID
		}
	}
	return interfaces, nil
}

func (r *request) planInterface(l launch, li launchInterface, count int) (interfaceSpec, error) {
	spec := interfaceSpec{
		kind: ec2types.NetworkInterfaceType(li.kind), description: li.description, tags: merge(l.interfaceTags),
	}
	switch spec.kind {
	case "", ec2types.NetworkInterfaceTypeInterface, ec2types.NetworkInterfaceTypeEfa:
	default:
		return spec, notSimulated("interfaces of type %s", li.kind)
	}
	var err error
	if spec.subnet, err = r.subnet("subnetId", &li.subnetID); err != nil {
		return spec, err
	}
	if spec.groups, err = r.groupsFor(spec.subnet, li.groups); err != nil {
		return spec, err
	}
	if spec.primary, spec.want, err = li.addresses.parse(); err != nil {
		return spec, err
	}
	if awssdk.ToBool(li.public) && count > 1 {
		return spec, clientError("InvalidParameterCombination",
			"The associatePublicIPAddress parameter cannot be specified when launching with multiple network interfaces.")
	}
	// With several interfaces an instance gets no public address, whatever its subnet says.
	spec.public = count == 1 && (awssdk.ToBool(li.public) || li.public == nil && spec.subnet.publicAddress)
	return spec, nil
}

// start makes one instance of a plan, or nothing.
func (r *request) start(p *launchPlan, reservation string, index int) (*instance, error) {
	partition, err := r.joinGroup(p)
	if err != nil {
		return nil, err
	}
	reserved, err := r.takeRoom(p)
	if err != nil {
		return nil, err
	}
	now := r.now.UTC().Truncate(time.Second)
	i := &instance{
		info: p.info, image: p.image, metadata: p.metadata, group: p.group, partition: partition, reservation: reservation, launchTime: now, index: index,
		profile: p.profile, userData: p.userData, tenancy: p.tenancy, tags: merge(p.instanceTags),
		visibleAt: r.now.Add(r.latency.Propagation.draw(r.random)),
	}
	for k, spec := range p.interfaces {
		spec.tags = merge(spec.tags)
		n, err := r.allocate(spec)
		if err != nil {
			for _, made := range i.interfaces {
				r.free(made)
			}
			r.returnRoom(p, reserved)
			return nil, err
		}
		a := p.attachments[k]
		a.id, a.instance, a.since, a.status = r.ids.implicit("eni-attach"), i, now, ec2types.AttachmentStatusAttached
		n.attachment = &a
		n.publish()
		i.interfaces = append(i.interfaces, n)
	}
	i.id = r.ids.next("i")
	r.launched++
	i.order = r.launched
	i.primary = i.interfaces[0]
	i.subnet, i.privateIP = i.primary.subnet, i.primary.primary
	if p.spot {
		i.spotRequest = r.ids.implicit("sir")
	}
	i.capacity = reserved
	r.instances.add(i.id, i)
	i.state = ec2types.InstanceStateNamePending // boot tells it, once the caller keeps the instance
	return i, nil
}

// takeRoom finds room for an instance: in a capacity reservation, which is returned, or in its pool.
func (r *request) takeRoom(p *launchPlan) (*capacityReservation, error) {
	if err := r.checkVCPUs(p); err != nil {
		return nil, err
	}
	reserved, err := r.reservationFor(p)
	if err != nil {
		return nil, err
	}
	if reserved == nil {
		return nil, r.takeCapacity(p.pool(), 1)
	}
	reserved.used++
	return reserved, nil
}

// returnRoom is the reverse of takeRoom.
func (r *request) returnRoom(p *launchPlan, reserved *capacityReservation) {
	if reserved != nil {
		reserved.used--
		return
	}
	r.returnCapacity(p.pool(), 1)
}

// merge copies maps of tags; later ones win.
func merge(maps ...map[string]string) map[string]string {
	merged := map[string]string{}
	for _, m := range maps {
		for key, value := range m {
			merged[key] = value
		}
	}
	return merged
}
