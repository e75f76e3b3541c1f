// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// maxTemplates is the default quota in a Region.
const maxTemplates = 5000

// launchTemplate has one version: CreateLaunchTemplateVersion is not simulated.
type launchTemplate struct {
	id, name string
	data     *ec2types.RequestLaunchTemplateData
	created  time.Time
	tags     map[string]string
}

// createTemplate does not look into the data, as EC2 does not: what is wrong with it shows in a launch. Only the size of
// the user data is checked.
func (r *request) createTemplate(in *ec2.CreateLaunchTemplateInput) (*ec2.CreateLaunchTemplateOutput, error) {
	name := awssdk.ToString(in.LaunchTemplateName)
	if len(name) < 3 || len(name) > 128 {
		return nil, clientError("InvalidLaunchTemplateName.MalformedException", "A launch template name must be between 3 and 128 characters: '%s'", name)
	}
	if in.LaunchTemplateData == nil {
		return nil, missingParameter("LaunchTemplateData")
	}
	if r.templateByName(name) != nil {
		return nil, clientError("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
	}
	if len(r.templates.order) >= maxTemplates {
		return nil, clientError("LaunchTemplateLimitExceeded", "You have reached the maximum number of launch templates: %d", maxTemplates)
	}
	if _, err := decodeUserData(awssdk.ToString(in.LaunchTemplateData.UserData)); err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeLaunchTemplate)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t := &launchTemplate{id: r.ids.next("lt"), name: name, data: in.LaunchTemplateData, created: r.now.UTC().Truncate(time.Second), tags: tags}
	r.templates.add(t.id, t)
	description := r.describeTemplate(t)
	return &ec2.CreateLaunchTemplateOutput{LaunchTemplate: &description}, nil
}

func (r *request) templateByName(name string) *launchTemplate {
	for _, t := range r.templates.all() {
		if t.name == name {
			return t
		}
	}
	return nil
}

func errTemplateName() error {
	return clientError("InvalidLaunchTemplateName.NotFoundException", "At least one of the launch templates specified in the request does not exist.")
}

// template finds a template by id or by name, and checks its version, which is 1, $Latest or $Default.
func (r *request) template(id, name, version *string) (*launchTemplate, string, error) {
	var t *launchTemplate
	switch {
	case id != nil && name != nil:
		return nil, "", clientError("InvalidParameterCombination", "A launch template must be specified by id or by name, not by both")
	case id != nil:
		if t = r.templates.get(*id); t == nil {
			return nil, "", kindTemplate.missing(*id)
		}
	case name != nil:
		if t = r.templateByName(*name); t == nil {
			return nil, "", errTemplateName()
		}
	default:
		return nil, "", missingParameter("LaunchTemplateId")
	}
	switch v := awssdk.ToString(version); v {
	case "", "$Latest", "$Default", "1":
		return t, "1", nil
	default:
		return nil, "", clientError("InvalidLaunchTemplateId.VersionNotFound", "Could not find launch template version %s of %s", v, t.id)
	}
}

func (r *request) deleteTemplate(in *ec2.DeleteLaunchTemplateInput) (*ec2.DeleteLaunchTemplateOutput, error) {
	t, _, err := r.template(in.LaunchTemplateId, in.LaunchTemplateName, nil)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	r.templates.remove(t.id)
	description := r.describeTemplate(t)
	return &ec2.DeleteLaunchTemplateOutput{LaunchTemplate: &description}, nil
}

func (r *request) describeTemplates(in *ec2.DescribeLaunchTemplatesInput) (*ec2.DescribeLaunchTemplatesOutput, error) {
	templates, err := r.templates.pick(kindTemplate, in.LaunchTemplateIds)
	if err != nil {
		return nil, err
	}
	if len(in.LaunchTemplateNames) > 0 {
		templates = nil
		for _, name := range in.LaunchTemplateNames {
			t := r.templateByName(name)
			if t == nil {
				return nil, errTemplateName()
			}
			templates = append(templates, t)
		}
	}
	of := func(t *launchTemplate) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "launch-template-name":
				return []string{t.name}, true
			case "create-time":
				return []string{t.created.Format(timestampFormat)}, true
			}
			return nil, false
		}).with(t.tags)
	}
	described, next, err := filterPage(templates, in.Filters, of, r.describeTemplate, in.NextToken, in.MaxResults, 1, 200)
	return &ec2.DescribeLaunchTemplatesOutput{LaunchTemplates: described, NextToken: next}, err
}

func (r *request) describeTemplate(t *launchTemplate) ec2types.LaunchTemplate {
	return ec2types.LaunchTemplate{
		LaunchTemplateId: &t.id, LaunchTemplateName: &t.name, CreateTime: &t.created, CreatedBy: awssdk.String(r.arn("iam", "user/sandbox")),
		DefaultVersionNumber: awssdk.Int64(1), LatestVersionNumber: awssdk.Int64(1), Tags: tagList(t.tags),
	}
}

// launch turns a template's data into a launch.
func (t *launchTemplate) launch(version string) (launch, error) {
	d := t.data
	l := launch{
		imageID: awssdk.ToString(d.ImageId), instanceType: string(d.InstanceType), userData: awssdk.ToString(d.UserData),
		groups:     d.SecurityGroupIds,
		systemTags: map[string]string{"aws:ec2launchtemplate:id": t.id, "aws:ec2launchtemplate:version": version},
	}
	if d.IamInstanceProfile != nil {
		l.profileName, l.profileARN = awssdk.ToString(d.IamInstanceProfile.Name), awssdk.ToString(d.IamInstanceProfile.Arn)
	}
	if p := d.Placement; p != nil {
		l.zone, l.tenancy = awssdk.ToString(p.AvailabilityZone), p.Tenancy
		if p.GroupId != nil {
			return l, kindPlacement.missing(*p.GroupId) // there are none
		}
	}
	if s := d.CapacityReservationSpecification; s != nil && s.CapacityReservationTarget != nil {
		return l, kindCapacity.missing(awssdk.ToString(s.CapacityReservationTarget.CapacityReservationId)) // there are none
	}
	if m := d.InstanceMarketOptions; m != nil {
		if m.MarketType != ec2types.MarketTypeSpot {
			return l, notSimulated("the market type %s", m.MarketType)
		}
		l.spot = true
	}
	for _, n := range d.NetworkInterfaces {
		l.interfaces = append(l.interfaces, launchInterface{
			card: awssdk.ToInt32(n.NetworkCardIndex), index: awssdk.ToInt32(n.DeviceIndex), subnetID: awssdk.ToString(n.SubnetId),
			groups: n.Groups, description: awssdk.ToString(n.Description), kind: awssdk.ToString(n.InterfaceType),
			deleteOnTermination: n.DeleteOnTermination, public: n.AssociatePublicIpAddress,
			addresses: addressParameters{
				address: n.PrivateIpAddress, addresses: n.PrivateIpAddresses, count: n.SecondaryPrivateIpAddressCount,
				prefixCount: n.Ipv4PrefixCount, prefixes: prefixTexts(n.Ipv4Prefixes),
			},
		})
	}
	for _, spec := range d.TagSpecifications {
		tags, err := tagMap(spec.Tags)
		if err != nil {
			return l, err
		}
		switch spec.ResourceType {
		case ec2types.ResourceTypeInstance:
			l.instanceTags = tags
		case ec2types.ResourceTypeNetworkInterface:
			l.interfaceTags = tags
		}
	}
	return l, nil
}
