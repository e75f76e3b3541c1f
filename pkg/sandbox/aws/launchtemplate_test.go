// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// addVersion makes a version of a template and returns its number.
func (w *world) addVersion(name string, source *string, data *ec2types.RequestLaunchTemplateData) int64 {
	w.Helper()
	out, err := w.ec2.CreateLaunchTemplateVersion(w.ctx(), &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateName: &name, SourceVersion: source, LaunchTemplateData: data,
	})
	require.NoError(w, err)
	return *out.LaunchTemplateVersion.VersionNumber
}

// launchedType starts an instance of a version and returns its type.
func (w *world) launchedType(name, version string) (ec2types.InstanceType, error) {
	out, err := w.ec2.RunInstances(w.ctx(), &ec2.RunInstancesInput{
		MinCount: ptr[int32](1), MaxCount: ptr[int32](1), SubnetId: ptr(testNodes),
		LaunchTemplate: &ec2types.LaunchTemplateSpecification{LaunchTemplateName: &name, Version: &version},
	})
	if err != nil {
		return "", err
	}
	return out.Instances[0].InstanceType, nil
}

func TestAVersionIsLaunchedByNumberAsLatestAndAsDefault(t *testing.T) {
	w := newWorld(t)
	w.template(&ec2.CreateLaunchTemplateInput{LaunchTemplateName: ptr("nodes"), LaunchTemplateData: &ec2types.RequestLaunchTemplateData{
		ImageId: &w.image, InstanceType: "m5.large",
	}})
	require.Equal(t, int64(2), w.addVersion("nodes", ptr("1"), &ec2types.RequestLaunchTemplateData{InstanceType: "c5.large"}))
	require.Equal(t, int64(3), w.addVersion("nodes", ptr("$Latest"), &ec2types.RequestLaunchTemplateData{InstanceType: "r5.large"}))
	_, err := w.ec2.ModifyLaunchTemplate(t.Context(), &ec2.ModifyLaunchTemplateInput{LaunchTemplateName: ptr("nodes"), DefaultVersion: ptr("2")})
	require.NoError(t, err)
	for version, instanceType := range map[string]ec2types.InstanceType{
		"1": "m5.large", "2": "c5.large", "3": "r5.large", "$Latest": "r5.large", "$Default": "c5.large", "": "c5.large",
	} {
		got, err := w.launchedType("nodes", version)
		require.NoError(t, err)
		require.Equal(t, instanceType, got, "version %q", version)
	}
	_, err = w.launchedType("nodes", "4")
	requireError(t, err, "InvalidLaunchTemplateId.VersionNotFound", "version 4")

	in := fleet("nodes", 1, w.on("m5.large", testNodes, "a"))
	in.LaunchTemplateConfigs[0].LaunchTemplateSpecification.Version = ptr("2")
	out, err := w.ec2.CreateFleet(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "2", *out.Instances[0].LaunchTemplateAndOverrides.LaunchTemplateSpecification.Version)
	described, err := w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: out.Instances[0].InstanceIds})
	require.NoError(t, err)
	require.Contains(t, described.Reservations[0].Instances[0].Tags, ec2types.Tag{Key: ptr("aws:ec2launchtemplate:version"), Value: ptr("2")})
	in.LaunchTemplateConfigs[0].LaunchTemplateSpecification.Version, in.ClientToken = ptr("9"), nil
	_, err = w.ec2.CreateFleet(t.Context(), in)
	requireError(t, err, "InvalidLaunchTemplateId.VersionNotFound", "version 9")
	in.LaunchTemplateConfigs[0].LaunchTemplateSpecification.Version, in.ClientToken = nil, nil
	_, err = w.ec2.CreateFleet(t.Context(), in)
	requireError(t, err, "MissingParameter", "Version")
}

func TestAVersionInheritsWhatItDoesNotSay(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("nodes", primaryOnly()))
	w.addVersion("nodes", ptr("$Default"), &ec2types.RequestLaunchTemplateData{UserData: encoded("other data")})
	w.addVersion("nodes", nil, &ec2types.RequestLaunchTemplateData{UserData: encoded("alone")})
	out, err := w.ec2.DescribeLaunchTemplateVersions(t.Context(), &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: ptr("nodes")})
	require.NoError(t, err)
	require.Len(t, out.LaunchTemplateVersions, 3)
	alone, heir, first := out.LaunchTemplateVersions[0], out.LaunchTemplateVersions[1], out.LaunchTemplateVersions[2]
	require.Equal(t, []int64{3, 2, 1}, []int64{*alone.VersionNumber, *heir.VersionNumber, *first.VersionNumber})
	require.True(t, *first.DefaultVersion)
	require.False(t, *heir.DefaultVersion)
	require.Equal(t, *encoded("other data"), *heir.LaunchTemplateData.UserData)
	require.Equal(t, first.LaunchTemplateData.NetworkInterfaces, heir.LaunchTemplateData.NetworkInterfaces)
	require.Equal(t, []string{testGroup}, heir.LaunchTemplateData.NetworkInterfaces[0].Groups)
	require.Nil(t, alone.LaunchTemplateData.ImageId)
}

func TestVersionsAreDescribedInEveryWay(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"one", "two"} {
		w.template(w.karpenterTemplate(name, primaryOnly()))
		for range 4 {
			w.addVersion(name, nil, &ec2types.RequestLaunchTemplateData{InstanceType: "m5.large"})
		}
	}
	describe := func(in *ec2.DescribeLaunchTemplateVersionsInput) (numbers []int64, err error) {
		paginator := ec2.NewDescribeLaunchTemplateVersionsPaginator(w.ec2, in)
		for paginator.HasMorePages() {
			page, err := paginator.NextPage(t.Context())
			if err != nil {
				return nil, err
			}
			for _, v := range page.LaunchTemplateVersions {
				numbers = append(numbers, *v.VersionNumber)
			}
		}
		return numbers, nil
	}
	for _, c := range []struct {
		in   ec2.DescribeLaunchTemplateVersionsInput
		want []int64
		code string
	}{
		{in: ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: ptr("one"), MaxResults: ptr[int32](2)}, want: []int64{5, 4, 3, 2, 1}},
		{in: ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: ptr("one"), MinVersion: ptr("2"), MaxVersion: ptr("4")}, want: []int64{4, 3, 2}},
		{in: ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: ptr("one"), Versions: []string{"2", "$Latest", "$Default"}}, want: []int64{2, 5, 1}},
		{in: ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest", "$Default"}}, want: []int64{5, 1, 5, 1}},
		{
			in: ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: ptr("one"), Filters: []ec2types.Filter{
				{Name: ptr("instance-type"), Values: []string{"m5.*"}}, {Name: ptr("is-default-version"), Values: []string{"false"}},
			}},
			want: []int64{5, 4, 3, 2},
		},
		{in: ec2.DescribeLaunchTemplateVersionsInput{}, code: "MissingParameter"},
		{in: ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"1"}}, code: "InvalidParameterValue"},
		{in: ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: ptr("none"), Versions: []string{"1"}}, code: "InvalidLaunchTemplateName.NotFoundException"},
		{in: ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: ptr("one"), Versions: []string{"8"}}, code: "InvalidLaunchTemplateId.VersionNotFound"},
		{in: ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateName: ptr("one"), Versions: []string{"x"}}, code: "InvalidParameterValue"},
	} {
		got, err := describe(&c.in)
		if c.code != "" {
			requireError(t, err, c.code, "")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
}

func TestTheDefaultVersionIsNotDeletedAndNoNumberIsUsedTwice(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("nodes", primaryOnly()))
	w.addVersion("nodes", nil, &ec2types.RequestLaunchTemplateData{InstanceType: "m5.large"})
	w.addVersion("nodes", nil, &ec2types.RequestLaunchTemplateData{InstanceType: "c5.large"})
	_, err := w.ec2.DeleteLaunchTemplateVersions(t.Context(), &ec2.DeleteLaunchTemplateVersionsInput{
		LaunchTemplateName: ptr("nodes"), Versions: []string{"3"}, DryRun: ptr(true),
	})
	requireError(t, err, "DryRunOperation", "")
	out, err := w.ec2.DeleteLaunchTemplateVersions(t.Context(), &ec2.DeleteLaunchTemplateVersionsInput{
		LaunchTemplateName: ptr("nodes"), Versions: []string{"1", "3", "7"},
	})
	require.NoError(t, err)
	require.Len(t, out.SuccessfullyDeletedLaunchTemplateVersions, 1)
	require.Equal(t, int64(3), *out.SuccessfullyDeletedLaunchTemplateVersions[0].VersionNumber)
	require.Len(t, out.UnsuccessfullyDeletedLaunchTemplateVersions, 2)
	require.Equal(t, ec2types.LaunchTemplateErrorCodeLaunchTemplateVersionDoesNotExist,
		out.UnsuccessfullyDeletedLaunchTemplateVersions[1].ResponseError.Code)
	got, err := w.launchedType("nodes", "$Latest")
	requireError(t, err, "MissingParameter", "ImageId") // of version 2, which has none: templates are checked at launch
	require.Empty(t, got)
	require.Equal(t, int64(4), w.addVersion("nodes", nil, &ec2types.RequestLaunchTemplateData{InstanceType: "m5.large"}))
	described, err := w.ec2.DescribeLaunchTemplates(t.Context(), &ec2.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{"nodes"}})
	require.NoError(t, err)
	require.Equal(t, int64(4), *described.LaunchTemplates[0].LatestVersionNumber)
	require.Equal(t, int64(1), *described.LaunchTemplates[0].DefaultVersionNumber)
}

func TestAnUnsimulatedLaunchParameterIsRefusedInAVersionToo(t *testing.T) {
	w := newWorld(t)
	w.template(w.karpenterTemplate("nodes", primaryOnly()))
	_, err := w.ec2.CreateLaunchTemplateVersion(t.Context(), &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateName: ptr("nodes"), LaunchTemplateData: &ec2types.RequestLaunchTemplateData{KernelId: ptr("aki-1")},
	})
	requireError(t, err, "UnsupportedOperation", "LaunchTemplateData.KernelId")
	_, err = w.ec2.CreateLaunchTemplateVersion(t.Context(), &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateName: ptr("nodes"), LaunchTemplateData: &ec2types.RequestLaunchTemplateData{UserData: encoded(strings.Repeat("x", maxUserData+1))},
	})
	requireError(t, err, "InvalidUserData.Malformed", "16384")
}

// A field of a request that has no like in the reply would be lost silently.
func TestLaunchTemplateDataIsDescribedAsItWasGiven(t *testing.T) {
	var asked ec2types.RequestLaunchTemplateData
	n := 0
	fill(reflect.ValueOf(&asked).Elem(), &n, 0)
	var told ec2types.ResponseLaunchTemplateData
	reshape(reflect.ValueOf(&told).Elem(), reflect.ValueOf(&asked).Elem())
	var again ec2types.RequestLaunchTemplateData
	reshape(reflect.ValueOf(&again).Elem(), reflect.ValueOf(&told).Elem())
	require.Equal(t, asked, again)
}
