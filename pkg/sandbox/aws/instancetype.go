// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"sync"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// typeInfos are all types of the table, decoded once: a caller that lists them pages through.
var typeInfos = sync.OnceValue(func() []ec2types.InstanceTypeInfo {
	var infos []ec2types.InstanceTypeInfo
	for _, name := range instancetypes.Names() {
		info, _ := instancetypes.Info(name)
		infos = append(infos, info)
	}
	return infos
})

// offeredTypes are those that some zone of the Region has.
func (c *Cloud) offeredTypes() []ec2types.InstanceTypeInfo {
	if c.offered == nil {
		c.offered = slices.DeleteFunc(slices.Clone(typeInfos()), func(info ec2types.InstanceTypeInfo) bool {
			return len(c.zonesOffering(string(info.InstanceType))) == 0
		})
	}
	return c.offered
}

func (r *request) describeInstanceTypes(in *ec2.DescribeInstanceTypesInput) (*ec2.DescribeInstanceTypesOutput, error) {
	if len(in.InstanceTypes) > 0 && in.MaxResults != nil {
		return nil, clientError("InvalidParameterCombination", "The parameter InstanceTypes cannot be used with the parameter MaxResults")
	}
	for _, name := range in.InstanceTypes {
		if len(r.zonesOffering(string(name))) == 0 {
			return nil, clientError("InvalidInstanceType", "The following supplied instance types do not exist: [%s]", name)
		}
	}
	infos := r.offeredTypes()
	if len(in.InstanceTypes) > 0 {
		infos = slices.DeleteFunc(slices.Clone(infos), func(info ec2types.InstanceTypeInfo) bool {
			return !slices.Contains(in.InstanceTypes, info.InstanceType)
		})
	}
	describe := func(info ec2types.InstanceTypeInfo) ec2types.InstanceTypeInfo { return info }
	described, next, err := filterPage(infos, in.Filters, instanceTypeAttributes, describe, in.NextToken, in.MaxResults, 5, 100)
	return &ec2.DescribeInstanceTypesOutput{InstanceTypes: described, NextToken: next}, err
}

func instanceTypeAttributes(info ec2types.InstanceTypeInfo) attributes {
	return func(name string) ([]string, bool) {
		switch name {
		case "instance-type":
			return []string{string(info.InstanceType)}, true
		case "processor-info.supported-architecture":
			return texts(info.ProcessorInfo.SupportedArchitectures), true
		case "supported-virtualization-type":
			return texts(info.SupportedVirtualizationTypes), true
		case "supported-usage-class":
			return texts(info.SupportedUsageClasses), true
		case "bare-metal":
			return []string{strconv.FormatBool(awssdk.ToBool(info.BareMetal))}, true
		case "current-generation":
			return []string{strconv.FormatBool(awssdk.ToBool(info.CurrentGeneration))}, true
		case "burstable-performance-supported":
			return []string{strconv.FormatBool(awssdk.ToBool(info.BurstablePerformanceSupported))}, true
		case "hypervisor":
			return []string{string(info.Hypervisor)}, true
		case "vcpu-info.default-vcpus":
			return []string{strconv.Itoa(int(*info.VCpuInfo.DefaultVCpus))}, true
		case "memory-info.size-in-mib":
			return []string{strconv.Itoa(int(*info.MemoryInfo.SizeInMiB))}, true
		case "network-info.maximum-network-interfaces":
			return []string{strconv.Itoa(int(*info.NetworkInfo.MaximumNetworkInterfaces))}, true
		case "network-info.ipv4-addresses-per-interface":
			return []string{strconv.Itoa(int(*info.NetworkInfo.Ipv4AddressesPerInterface))}, true
		}
		return nil, false
	}
}

func texts[T ~string](values []T) []string {
	list := make([]string, len(values))
	for i, value := range values {
		list[i] = string(value)
	}
	return list
}

// zonesOffering returns the Region's zones with the type. The table is of us-east-1; other Regions offer alike by letter.
func (c *Cloud) zonesOffering(name string) []string {
	letters := instancetypes.ZoneLetters(name)
	return slices.DeleteFunc(c.zones(), func(zone string) bool { return !strings.Contains(letters, zone[len(zone)-1:]) })
}

type offering struct{ instanceType, zone string }

func (r *request) describeOfferings(in *ec2.DescribeInstanceTypeOfferingsInput) (*ec2.DescribeInstanceTypeOfferingsOutput, error) {
	location := in.LocationType
	switch location {
	case "":
		location = ec2types.LocationTypeRegion
	case ec2types.LocationTypeRegion, ec2types.LocationTypeAvailabilityZone, ec2types.LocationTypeAvailabilityZoneId:
	default:
		return nil, notSimulated("offerings by %s", location)
	}
	var offerings []offering
	for _, name := range instancetypes.Names() {
		zones := r.zonesOffering(name)
		if location == ec2types.LocationTypeRegion && len(zones) > 0 {
			zones = []string{r.region}
		}
		for _, zone := range zones {
			if location == ec2types.LocationTypeAvailabilityZoneId {
				zone = r.zoneID(zone)
			}
			offerings = append(offerings, offering{name, zone})
		}
	}
	of := func(o offering) attributes {
		return func(name string) ([]string, bool) {
			switch name {
			case "instance-type":
				return []string{o.instanceType}, true
			case "location":
				return []string{o.zone}, true
			}
			return nil, false
		}
	}
	describe := func(o offering) ec2types.InstanceTypeOffering {
		return ec2types.InstanceTypeOffering{InstanceType: ec2types.InstanceType(o.instanceType), Location: awssdk.String(o.zone), LocationType: location}
	}
	described, next, err := filterPage(offerings, in.Filters, of, describe, in.NextToken, in.MaxResults, 5, 1000)
	return &ec2.DescribeInstanceTypeOfferingsOutput{InstanceTypeOfferings: described, NextToken: next}, err
}

func (r *request) describeZones(in *ec2.DescribeAvailabilityZonesInput) (*ec2.DescribeAvailabilityZonesOutput, error) {
	zones := r.zones()
	for _, name := range in.ZoneNames {
		if !r.hasZone(name) {
			return nil, clientError("InvalidParameterValue", "Invalid availability zone: [%s]", name)
		}
	}
	if len(in.ZoneNames) > 0 {
		zones = in.ZoneNames
	}
	of := func(zone string) attributes {
		return func(name string) ([]string, bool) {
			switch name {
			case "zone-name":
				return []string{zone}, true
			case "zone-id":
				return []string{r.zoneID(zone)}, true
			case "region-name":
				return []string{r.region}, true
			case "state":
				return []string{"available"}, true
			case "zone-type":
				return []string{"availability-zone"}, true
			case "opt-in-status":
				return []string{"opt-in-not-required"}, true
			}
			return nil, false
		}
	}
	describe := func(zone string) ec2types.AvailabilityZone {
		return ec2types.AvailabilityZone{
			ZoneName: awssdk.String(zone), ZoneId: awssdk.String(r.zoneID(zone)), RegionName: &r.region, GroupName: &r.region, NetworkBorderGroup: &r.region,
			State: ec2types.AvailabilityZoneStateAvailable, ZoneType: awssdk.String("availability-zone"),
			OptInStatus: ec2types.AvailabilityZoneOptInStatusOptInNotRequired,
		}
	}
	described, _, err := filterPage(zones, in.Filters, of, describe, nil, nil, 1, 1000)
	return &ec2.DescribeAvailabilityZonesOutput{AvailabilityZones: described}, err
}

// spotPrice is not AWS's: 30 to 45 % of the on-demand price, the same for a type and zone every time.
func spotPrice(instanceType, zone string) float64 {
	price, _ := instancetypes.Price(instanceType)
	sum := fnv.New32a()
	fmt.Fprint(sum, instanceType, zone)
	return price * (0.30 + float64(sum.Sum32()%1500)/10000)
}

// describeSpotPrices answers the present price of each pool: there is no history.
func (r *request) describeSpotPrices(in *ec2.DescribeSpotPriceHistoryInput) (*ec2.DescribeSpotPriceHistoryOutput, error) {
	const product = ec2types.RIProductDescriptionLinuxUnix
	asked := len(in.ProductDescriptions) == 0 || slices.Contains(in.ProductDescriptions, string(product)) ||
		slices.Contains(in.ProductDescriptions, "Linux/UNIX (Amazon VPC)")
	var offerings []offering
	for _, info := range typeInfos() {
		name := string(info.InstanceType)
		if !asked || len(in.InstanceTypes) > 0 && !slices.Contains(in.InstanceTypes, info.InstanceType) ||
			!slices.Contains(info.SupportedUsageClasses, ec2types.UsageClassTypeSpot) || spotPrice(name, "") == 0 {
			continue
		}
		for _, zone := range r.zonesOffering(name) {
			if in.AvailabilityZone == nil || *in.AvailabilityZone == zone {
				offerings = append(offerings, offering{name, zone})
			}
		}
	}
	of := func(o offering) attributes {
		return func(name string) ([]string, bool) {
			switch name {
			case "instance-type":
				return []string{o.instanceType}, true
			case "availability-zone":
				return []string{o.zone}, true
			case "product-description":
				return []string{string(product)}, true
			}
			return nil, false
		}
	}
	describe := func(o offering) ec2types.SpotPrice {
		return ec2types.SpotPrice{
			InstanceType: ec2types.InstanceType(o.instanceType), AvailabilityZone: awssdk.String(o.zone), ProductDescription: product,
			SpotPrice: awssdk.String(strconv.FormatFloat(spotPrice(o.instanceType, o.zone), 'f', 6, 64)), Timestamp: &r.now,
		}
	}
	described, next, err := filterPage(offerings, in.Filters, of, describe, in.NextToken, in.MaxResults, 1, 2000)
	return &ec2.DescribeSpotPriceHistoryOutput{SpotPriceHistory: described, NextToken: next}, err
}
