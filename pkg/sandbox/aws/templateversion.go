// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"errors"
	"reflect"
	"slices"
	"strconv"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func (r *request) createTemplateVersion(in *ec2.CreateLaunchTemplateVersionInput) (*ec2.CreateLaunchTemplateVersionOutput, error) {
	t, err := r.template(in.LaunchTemplateId, in.LaunchTemplateName)
	if err != nil {
		return nil, err
	}
	if err := checkTemplateData(in.LaunchTemplateData); err != nil {
		return nil, err
	}
	data := in.LaunchTemplateData
	if in.SourceVersion != nil {
		source, err := t.version(*in.SourceVersion)
		if err != nil {
			return nil, err
		}
		data = inherit(data, source.data)
	}
	if len(t.versions) >= maxVersions {
		return nil, clientError("VersionLimitExceeded", "You have reached the maximum number of versions of the launch template: %d", maxVersions)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	description := r.describeTemplateVersion(t, t.add(data, in.VersionDescription, r.now))
	return &ec2.CreateLaunchTemplateVersionOutput{LaunchTemplateVersion: &description}, nil
}

// inherit lays data over the launch parameters of its source version. What data says replaces the whole parameter: a list of
// interfaces, the placement.
func inherit(data, source *ec2types.RequestLaunchTemplateData) *ec2types.RequestLaunchTemplateData {
	merged := *source
	from, to := reflect.ValueOf(*data), reflect.ValueOf(&merged).Elem()
	for i := range from.NumField() {
		if from.Type().Field(i).IsExported() && !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return &merged
}

// maxVersionsInRequest is the number of versions that one DeleteLaunchTemplateVersions takes.
const maxVersionsInRequest = 200

// deleteTemplateVersions answers 200 with what could not be deleted beside what was.
func (r *request) deleteTemplateVersions(in *ec2.DeleteLaunchTemplateVersionsInput) (*ec2.DeleteLaunchTemplateVersionsOutput, error) {
	t, err := r.template(in.LaunchTemplateId, in.LaunchTemplateName)
	if err != nil {
		return nil, err
	}
	if len(in.Versions) == 0 {
		return nil, missingParameter("LaunchTemplateVersion")
	}
	if len(in.Versions) > maxVersionsInRequest {
		return nil, clientError("InvalidParameterValue", "Up to %d launch template versions can be deleted in a request", maxVersionsInRequest)
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	out := &ec2.DeleteLaunchTemplateVersionsOutput{}
	for _, text := range in.Versions {
		number, err := t.deleteVersion(text)
		if err != nil {
			out.UnsuccessfullyDeletedLaunchTemplateVersions = append(out.UnsuccessfullyDeletedLaunchTemplateVersions,
				ec2types.DeleteLaunchTemplateVersionsResponseErrorItem{
					LaunchTemplateId: &t.id, LaunchTemplateName: &t.name, VersionNumber: &number, ResponseError: err,
				})
			continue
		}
		out.SuccessfullyDeletedLaunchTemplateVersions = append(out.SuccessfullyDeletedLaunchTemplateVersions,
			ec2types.DeleteLaunchTemplateVersionsResponseSuccessItem{LaunchTemplateId: &t.id, LaunchTemplateName: &t.name, VersionNumber: &number})
	}
	return out, nil
}

// deleteVersion takes numbers only. The default version stays: a template without one would have none to launch.
func (t *launchTemplate) deleteVersion(text string) (int64, *ec2types.ResponseError) {
	refuse := func(code ec2types.LaunchTemplateErrorCode, message string) *ec2types.ResponseError {
		return &ec2types.ResponseError{Code: code, Message: &message}
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || t.numbered(number) == nil {
		return number, refuse(ec2types.LaunchTemplateErrorCodeLaunchTemplateVersionDoesNotExist, "The specified launch template version does not exist.")
	}
	if number == t.defaultVersion {
		return number, refuse(ec2types.LaunchTemplateErrorCodeUnexpectedError,
			"The default version of a launch template cannot be deleted: make another version the default, or delete the launch template.")
	}
	t.versions = slices.DeleteFunc(t.versions, func(v *templateVersion) bool { return v.number == number })
	return number, nil
}

// versionOf is a version with the template they are of.
type versionOf struct {
	template *launchTemplate
	version  *templateVersion
}

func (r *request) describeTemplateVersions(in *ec2.DescribeLaunchTemplateVersionsInput) (*ec2.DescribeLaunchTemplateVersionsOutput, error) {
	versions, err := r.versionsAsked(in)
	if err != nil {
		return nil, err
	}
	of := func(v versionOf) attributes { return v.attribute }
	describe := func(v versionOf) ec2types.LaunchTemplateVersion {
		return r.describeTemplateVersion(v.template, v.version)
	}
	described, next, err := filterPage(versions, in.Filters, of, describe, in.NextToken, in.MaxResults, 1, 200)
	return &ec2.DescribeLaunchTemplateVersionsOutput{LaunchTemplateVersions: described, NextToken: next}, err
}

// versionsAsked are those of one template, newest first, or the latest and default ones of every template.
func (r *request) versionsAsked(in *ec2.DescribeLaunchTemplateVersionsInput) ([]versionOf, error) {
	if in.LaunchTemplateId == nil && in.LaunchTemplateName == nil {
		return r.versionsOfAll(in)
	}
	t, err := r.template(in.LaunchTemplateId, in.LaunchTemplateName)
	if err != nil {
		return nil, err
	}
	if len(in.Versions) > 0 && (in.MinVersion != nil || in.MaxVersion != nil) {
		return nil, clientError("InvalidParameterCombination", "Versions cannot be used with MinVersion or MaxVersion")
	}
	var asked []versionOf
	if len(in.Versions) > 0 {
		for _, text := range in.Versions {
			v, err := t.version(text)
			if err != nil {
				return nil, err
			}
			asked = append(asked, versionOf{t, v})
		}
		return asked, nil
	}
	low, errLow := parseBound(in.MinVersion, 1)
	high, errHigh := parseBound(in.MaxVersion, t.latest)
	if err := errors.Join(errLow, errHigh); err != nil {
		return nil, err
	}
	for _, v := range slices.Backward(t.versions) {
		if low <= v.number && v.number <= high {
			asked = append(asked, versionOf{t, v})
		}
	}
	return asked, nil
}

func parseBound(text *string, absent int64) (int64, error) {
	if text == nil {
		return absent, nil
	}
	number, err := strconv.ParseInt(*text, 10, 64)
	if err != nil {
		return 0, invalidValue(*text, "LaunchTemplateVersion")
	}
	return number, nil
}

func (r *request) versionsOfAll(in *ec2.DescribeLaunchTemplateVersionsInput) ([]versionOf, error) {
	if len(in.Versions) == 0 || in.MinVersion != nil || in.MaxVersion != nil {
		return nil, missingParameter("LaunchTemplateId")
	}
	var asked []versionOf
	for _, t := range r.templates.all() {
		seen := map[int64]bool{}
		for _, text := range in.Versions {
			if text != "$Latest" && text != "$Default" {
				return nil, clientError("InvalidParameterValue", "Without a launch template, versions are '$Latest' and '$Default' only, not '%s'", text)
			}
			v, err := t.version(text)
			if err != nil {
				return nil, err
			}
			if !seen[v.number] {
				asked = append(asked, versionOf{t, v})
			}
			seen[v.number] = true
		}
	}
	return asked, nil
}

func (v versionOf) attribute(name string) (values []string, ok bool) {
	d := v.version.data
	switch name {
	case "create-time":
		return []string{v.version.created.Format(timestampFormat)}, true
	case "is-default-version":
		return []string{strconv.FormatBool(v.version.number == v.template.defaultVersion)}, true
	case "image-id":
		return []string{awssdk.ToString(d.ImageId)}, true
	case "instance-type":
		return []string{string(d.InstanceType)}, true
	case "iam-instance-profile":
		if d.IamInstanceProfile != nil {
			values = append(values, awssdk.ToString(d.IamInstanceProfile.Arn))
		}
		return values, true
	case "http-tokens":
		if d.MetadataOptions != nil {
			values = append(values, string(d.MetadataOptions.HttpTokens))
		}
		return values, true
	case "network-card-index":
		for _, n := range d.NetworkInterfaces {
			values = append(values, strconv.Itoa(int(awssdk.ToInt32(n.NetworkCardIndex))))
		}
		return values, true
	}
	return nil, false
}

func (r *request) describeTemplateVersion(t *launchTemplate, v *templateVersion) ec2types.LaunchTemplateVersion {
	data := &ec2types.ResponseLaunchTemplateData{}
	reshape(reflect.ValueOf(data).Elem(), reflect.ValueOf(v.data).Elem())
	return ec2types.LaunchTemplateVersion{
		LaunchTemplateId: &t.id, LaunchTemplateName: &t.name, VersionNumber: &v.number, VersionDescription: v.description,
		DefaultVersion: awssdk.Bool(v.number == t.defaultVersion), CreateTime: &v.created, CreatedBy: r.caller(), LaunchTemplateData: data,
	}
}

// reshape copies a value of the SDK's types for requests into the like type for replies, which has fields of the same names.
func reshape(to, from reflect.Value) {
	switch from.Kind() {
	case reflect.Pointer:
		if !from.IsNil() {
			to.Set(reflect.New(to.Type().Elem()))
			reshape(to.Elem(), from.Elem())
		}
	case reflect.Slice:
		if !from.IsNil() {
			to.Set(reflect.MakeSlice(to.Type(), from.Len(), from.Len()))
		}
		for i := range from.Len() {
			reshape(to.Index(i), from.Index(i))
		}
	case reflect.Struct:
		if from.Type() == to.Type() {
			to.Set(from)
			return
		}
		for i := range from.NumField() {
			if field := to.FieldByName(from.Type().Field(i).Name); field.IsValid() && field.CanSet() {
				reshape(field, from.Field(i))
			}
		}
	default:
		to.Set(from.Convert(to.Type()))
	}
}
