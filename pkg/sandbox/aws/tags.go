// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"slices"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// maxTags is EC2's limit for one resource, tags of AWS not counted.
const maxTags = 50

// tagMap turns tags of a request into a map, with EC2's rules for keys.
func tagMap(tags []ec2types.Tag) (map[string]string, error) {
	m := map[string]string{}
	for _, tag := range tags {
		key, value := awssdk.ToString(tag.Key), awssdk.ToString(tag.Value)
		switch {
		case key == "" || len(key) > 127:
			return nil, clientError("InvalidParameterValue", "Tag key '%s' must have between 1 and 127 characters", key)
		case len(value) > 255:
			return nil, clientError("InvalidParameterValue", "Tag value exceeds the maximum length of 255 characters")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return nil, clientError("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		}
		if _, twice := m[key]; twice {
			return nil, clientError("InvalidParameterValue", "Duplicate tag key '%s' specified.", key)
		}
		m[key] = value
	}
	return m, nil
}

var errTooManyTags = clientError("TagLimitExceeded", "More than %d tags are specified", maxTags)

// launchTags are the types that RunInstances and fleets tag. Volumes and the request of a spot instance have no tags here.
var launchTags = []ec2types.ResourceType{
	ec2types.ResourceTypeInstance, ec2types.ResourceTypeVolume, ec2types.ResourceTypeNetworkInterface, ec2types.ResourceTypeSpotInstancesRequest,
}

// tagsFor returns the tags that specifications give to resources of a type. They are all checked; the action also takes tags for others.
func tagsFor(specs []ec2types.TagSpecification, resource ec2types.ResourceType, others ...ec2types.ResourceType) (map[string]string, error) {
	result := map[string]string{}
	for _, spec := range specs {
		if spec.ResourceType != resource && !slices.Contains(others, spec.ResourceType) {
			return nil, clientError("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", spec.ResourceType)
		}
		tags, err := tagMap(spec.Tags)
		if err != nil {
			return nil, err
		}
		if spec.ResourceType == resource {
			result = tags
		}
	}
	if len(result) > maxTags {
		return nil, errTooManyTags
	}
	return result, nil
}

// tagList is the reverse of tagMap, sorted by key.
func tagList(tags map[string]string) []ec2types.Tag {
	var list []ec2types.Tag
	for _, key := range sortedKeys(tags) {
		list = append(list, ec2types.Tag{Key: awssdk.String(key), Value: awssdk.String(tags[key])})
	}
	return list
}

// tagsOf finds the tags of a resource of any kind.
func (r *request) tagsOf(id string) (map[string]string, error) {
	for _, t := range r.taggables() {
		if t.prefix == idPrefix(id) {
			if tags := t.tags(id); tags != nil {
				return tags, nil
			}
		}
	}
	for _, k := range taggableKinds {
		if k.prefix == idPrefix(id) {
			return nil, k.missing(id)
		}
	}
	return nil, clientError("InvalidID", "The ID '%s' is not valid", id)
}

func (r *request) createTags(in *ec2.CreateTagsInput) (*ec2.CreateTagsOutput, error) {
	if len(in.Resources) == 0 {
		return nil, missingParameter("resourceIdSet")
	}
	if len(in.Tags) == 0 {
		return nil, missingParameter("tagSet")
	}
	added, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	for _, id := range in.Resources {
		tags, err := r.tagsOf(id)
		if err != nil {
			return nil, err
		}
		count := len(tags)
		for key := range added {
			if _, there := tags[key]; !there {
				count++
			}
		}
		if count > maxTags {
			return nil, clientError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
		}
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	for _, id := range in.Resources {
		tags, err := r.tagsOf(id)
		if err != nil {
			return nil, err
		}
		for key, value := range added {
			tags[key] = value
		}
	}
	return &ec2.CreateTagsOutput{}, nil
}

func (r *request) deleteTags(in *ec2.DeleteTagsInput) (*ec2.DeleteTagsOutput, error) {
	for _, id := range in.Resources {
		if _, err := r.tagsOf(id); err != nil {
			return nil, err
		}
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	for _, id := range in.Resources {
		tags, err := r.tagsOf(id)
		if err != nil {
			return nil, err
		}
		if len(in.Tags) == 0 {
			for key := range tags {
				if !strings.HasPrefix(key, "aws:") {
					delete(tags, key)
				}
			}
		}
		for _, tag := range in.Tags {
			key := awssdk.ToString(tag.Key)
			// A tag given with a value is deleted only if it has that value.
			if tag.Value == nil || *tag.Value == tags[key] {
				delete(tags, key)
			}
		}
	}
	return &ec2.DeleteTagsOutput{}, nil
}
