// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"
	"strconv"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// maxVersions is the default quota of a template.
const maxVersions = 10000

type launchTemplate struct {
	id, name       string
	versions       []*templateVersion // oldest first, never none
	latest         int64              // the last number given: numbers are not used again
	defaultVersion int64
	created        time.Time
	tags           map[string]string
}

// templateVersion never changes.
type templateVersion struct {
	number      int64
	description *string
	data        *ec2types.RequestLaunchTemplateData
	created     time.Time
}

// add makes the next version of data.
func (t *launchTemplate) add(data *ec2types.RequestLaunchTemplateData, description *string, now time.Time) *templateVersion {
	t.latest++
	v := &templateVersion{number: t.latest, description: description, data: data, created: now.UTC().Truncate(time.Second)}
	t.versions = append(t.versions, v)
	return v
}

// numbered returns a version by its number, nil when there is none.
func (t *launchTemplate) numbered(number int64) *templateVersion {
	at := slices.IndexFunc(t.versions, func(v *templateVersion) bool { return v.number == number })
	if at < 0 {
		return nil
	}
	return t.versions[at]
}

// version finds a version by number, $Latest or $Default; "" is the default version.
func (t *launchTemplate) version(text string) (*templateVersion, error) {
	switch text {
	case "", "$Default":
		return t.numbered(t.defaultVersion), nil
	case "$Latest":
		return t.versions[len(t.versions)-1], nil
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, clientError("InvalidParameterValue", "Invalid launch template version: either '$Default', '$Latest', or a numeric version are allowed.")
	}
	if v := t.numbered(number); v != nil {
		return v, nil
	}
	return nil, clientError("InvalidLaunchTemplateId.VersionNotFound", "Could not find the specified version %s for the launch template with ID %s.", text, t.id)
}

// createTemplate does not look into the data, as EC2 does not: what is wrong with it shows in a launch. Only the size of
// the user data is checked.
func (r *request) createTemplate(in *ec2.CreateLaunchTemplateInput) (*ec2.CreateLaunchTemplateOutput, error) {
	name := awssdk.ToString(in.LaunchTemplateName)
	if len(name) < 3 || len(name) > 128 {
		return nil, clientError("InvalidLaunchTemplateName.MalformedException", "A launch template name must be between 3 and 128 characters: '%s'", name)
	}
	if r.templateByName(name) != nil {
		return nil, clientError("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
	}
	if len(r.templates.order) >= r.quotas.LaunchTemplates {
		return nil, clientError("LaunchTemplateLimitExceeded", "You have reached the maximum number of launch templates: %d", r.quotas.LaunchTemplates)
	}
	if err := checkTemplateData(in.LaunchTemplateData); err != nil {
		return nil, err
	}
	tags, err := tagsFor(in.TagSpecifications, ec2types.ResourceTypeLaunchTemplate)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t := &launchTemplate{id: r.ids.next("lt"), name: name, defaultVersion: 1, created: r.now.UTC().Truncate(time.Second), tags: tags}
	t.add(in.LaunchTemplateData, in.VersionDescription, r.now)
	r.templates.add(t.id, t)
	description := r.describeTemplate(t)
	return &ec2.CreateLaunchTemplateOutput{LaunchTemplate: &description}, nil
}

func checkTemplateData(data *ec2types.RequestLaunchTemplateData) error {
	if data == nil {
		return missingParameter("LaunchTemplateData")
	}
	_, err := decodeUserData(awssdk.ToString(data.UserData))
	return err
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

// template finds a template by id or by name.
func (r *request) template(id, name *string) (*launchTemplate, error) {
	switch {
	case id != nil && name != nil:
		return nil, clientError("InvalidParameterCombination", "A launch template must be specified by id or by name, not by both")
	case id != nil:
		if t := r.templates.get(*id); t != nil {
			return t, nil
		}
		return nil, kindTemplate.missing(*id)
	case name != nil:
		if t := r.templateByName(*name); t != nil {
			return t, nil
		}
		return nil, errTemplateName()
	}
	return nil, missingParameter("LaunchTemplateId")
}

func (r *request) modifyTemplate(in *ec2.ModifyLaunchTemplateInput) (*ec2.ModifyLaunchTemplateOutput, error) {
	t, err := r.template(in.LaunchTemplateId, in.LaunchTemplateName)
	if err != nil {
		return nil, err
	}
	text := awssdk.ToString(in.DefaultVersion)
	if text == "" {
		return nil, missingParameter("SetDefaultVersion")
	}
	v, err := t.version(text)
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	t.defaultVersion = v.number
	description := r.describeTemplate(t)
	return &ec2.ModifyLaunchTemplateOutput{LaunchTemplate: &description}, nil
}

func (r *request) deleteTemplate(in *ec2.DeleteLaunchTemplateInput) (*ec2.DeleteLaunchTemplateOutput, error) {
	t, err := r.template(in.LaunchTemplateId, in.LaunchTemplateName)
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
		LaunchTemplateId: &t.id, LaunchTemplateName: &t.name, CreateTime: &t.created, CreatedBy: r.caller(),
		DefaultVersionNumber: awssdk.Int64(t.defaultVersion), LatestVersionNumber: awssdk.Int64(t.versions[len(t.versions)-1].number), Tags: tagList(t.tags),
	}
}

// caller is whom the account says it serves: signatures are not checked.
func (c *Cloud) caller() *string { return awssdk.String(c.arn("iam", "user/sandbox")) }
