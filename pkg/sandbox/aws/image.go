// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sync"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// image is an EKS node image of the catalogue. AWS owns them all.
type image struct {
	id, name     string
	architecture ec2types.ArchitectureValues
	created      string
	parameters   []string // SSM parameters whose value is the id
}

// release is a dated build of every variant: the EKS AMIs' version and Bottlerocket's.
type release struct{ eks, bottlerocket, created string }

// releases are the builds in the catalogue, newest first; the aliases "recommended" and "latest" are the first one.
var releases = []release{
	{"20260805", "1.62.0", "2026-08-05T18:00:00.000Z"},
	{"20260609", "1.59.0", "2026-06-09T18:00:00.000Z"},
}

// Kubernetes minor versions in the catalogue. EKS publishes no Amazon Linux 2 image from 1.33 on.
const (
	oldestMinor  = 29
	newestMinor  = 36
	lastAL2Minor = 32
)

// catalogue makes the images once. Ids are made of names, so they are the same in every account, as public images' are.
var catalogue = sync.OnceValue(func() []*image {
	var images []*image
	for minor := oldestMinor; minor <= newestMinor; minor++ {
		version := fmt.Sprintf("1.%d", minor)
		for i, r := range releases {
			images = append(images, al2023(version, r, i == 0)...)
			images = append(images, bottlerocket(version, r, i == 0)...)
			if minor <= lastAL2Minor {
				images = append(images, al2(version, r, i == 0)...)
			}
		}
	}
	return images
})

func newImage(name, architecture, created string, parameters ...string) *image {
	sum := fnv.New64a()
	fmt.Fprint(sum, name)
	return &image{
		id: fmt.Sprintf("ami-0%016x", sum.Sum64()), name: name, architecture: ec2types.ArchitectureValues(architecture), created: created,
		parameters: parameters,
	}
}

func al2023(version string, r release, latest bool) []*image {
	var images []*image
	for _, v := range []struct{ arch, variant string }{
		{"x86_64", "standard"}, {"x86_64", "nvidia"}, {"x86_64", "neuron"}, {"arm64", "standard"}, {"arm64", "nvidia"},
	} {
		name := fmt.Sprintf("amazon-eks-node-al2023-%s-%s-%s-v%s", v.arch, v.variant, version, r.eks)
		path := fmt.Sprintf("/aws/service/eks/optimized-ami/%s/amazon-linux-2023/%s/%s/%%s/image_id", version, v.arch, v.variant)
		images = append(images, newImage(name, v.arch, r.created, parameters(path, name, "recommended", latest)...))
	}
	return images
}

func al2(version string, r release, latest bool) []*image {
	var images []*image
	for _, v := range []struct{ arch, path, name string }{
		{"x86_64", "amazon-linux-2", "amazon-eks-node"}, {"arm64", "amazon-linux-2-arm64", "amazon-eks-arm64-node"},
		{"x86_64", "amazon-linux-2-gpu", "amazon-eks-gpu-node"},
	} {
		name := fmt.Sprintf("%s-%s-v%s", v.name, version, r.eks)
		path := fmt.Sprintf("/aws/service/eks/optimized-ami/%s/%s/%%s/image_id", version, v.path)
		images = append(images, newImage(name, v.arch, r.created, parameters(path, name, "recommended", latest)...))
	}
	return images
}

func bottlerocket(version string, r release, latest bool) []*image {
	var images []*image
	for _, arch := range []string{"x86_64", "arm64"} {
		for _, variant := range []string{"aws-k8s-" + version, "aws-k8s-" + version + "-nvidia"} {
			name := fmt.Sprintf("bottlerocket-%s-%s-v%s-4e2d1f0a", variant, arch, r.bottlerocket)
			path := fmt.Sprintf("/aws/service/bottlerocket/%s/%s/%%s/image_id", variant, arch)
			images = append(images, newImage(name, arch, r.created, parameters(path, r.bottlerocket, "latest", latest)...))
		}
	}
	return images
}

func parameters(path, dated, alias string, latest bool) []string {
	list := []string{fmt.Sprintf(path, dated)}
	if latest {
		list = append(list, fmt.Sprintf(path, alias))
	}
	return list
}

func (c *Cloud) image(id string) *image {
	for _, i := range catalogue() {
		if i.id == id {
			return i
		}
	}
	return nil
}

// imageOwner is the account of EKS's images in us-east-1.
const imageOwner = "602401143452"

func (r *request) describeImages(in *ec2.DescribeImagesInput) (*ec2.DescribeImagesOutput, error) {
	images := slices.Clone(catalogue())
	if len(in.ImageIds) > 0 {
		images = nil
		for _, id := range in.ImageIds {
			i := r.image(id)
			if i == nil {
				return nil, kindImage.missing(id)
			}
			images = append(images, i)
		}
	}
	if len(in.Owners) > 0 && !slices.Contains(in.Owners, "amazon") && !slices.Contains(in.Owners, imageOwner) {
		images = nil
	}
	of := func(i *image) attributes {
		return attributes(func(name string) ([]string, bool) {
			switch name {
			case "image-id":
				return []string{i.id}, true
			case "name":
				return []string{i.name}, true
			case "state":
				return []string{"available"}, true
			case "architecture":
				return []string{string(i.architecture)}, true
			case "owner-id":
				return []string{imageOwner}, true
			case "owner-alias":
				return []string{"amazon"}, true
			case "is-public":
				return []string{"true"}, true
			case "creation-date":
				return []string{i.created}, true
			}
			return nil, false
		}).with(nil)
	}
	described, next, err := filterPage(images, in.Filters, of, describeImage, in.NextToken, in.MaxResults, 1, 1000)
	return &ec2.DescribeImagesOutput{Images: described, NextToken: next}, err
}

func describeImage(i *image) ec2types.Image {
	return ec2types.Image{
		ImageId: &i.id, Name: &i.name, Architecture: i.architecture, CreationDate: &i.created, State: ec2types.ImageStateAvailable,
		OwnerId: awssdk.String(imageOwner), ImageOwnerAlias: awssdk.String("amazon"), ImageLocation: awssdk.String("amazon/" + i.name),
		Public: awssdk.Bool(true), ImageType: ec2types.ImageTypeValuesMachine, Hypervisor: ec2types.HypervisorTypeXen, EnaSupport: awssdk.Bool(true),
		VirtualizationType: ec2types.VirtualizationTypeHvm, RootDeviceType: ec2types.DeviceTypeEbs, RootDeviceName: awssdk.String("/dev/xvda"), ImdsSupport: ec2types.ImdsSupportValuesV20,
	}
}

// parameter returns the image id that an SSM parameter names.
func parameter(name string) (string, bool) {
	for _, i := range catalogue() {
		if slices.Contains(i.parameters, name) {
			return i.id, true
		}
	}
	return "", false
}
