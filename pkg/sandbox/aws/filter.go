// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// attributes returns a resource's values under a filter name; ok is false for a name the simulator does not know.
type attributes func(name string) (values []string, ok bool)

// with adds the filters on tags that every taggable resource has.
func (a attributes) with(tags map[string]string) attributes {
	return func(name string) ([]string, bool) {
		if key, ok := strings.CutPrefix(name, "tag:"); ok {
			if value, ok := tags[key]; ok {
				return []string{value}, true
			}
			return nil, true
		}
		if name == "tag-key" {
			return sortedKeys(tags), true
		}
		return a(name)
	}
}

// checkFilters refuses filters that the action does not have, whether or not there is anything to filter. Those of EC2 that are not
// simulated are told apart from those that EC2 does not know either.
func checkFilters(action string, form url.Values) error {
	for _, key := range sortedKeys(form) {
		rest, isFilter := strings.CutPrefix(key, "Filter.")
		if _, field, _ := strings.Cut(rest, "."); !isFilter || field != "Name" {
			continue
		}
		full := form.Get(key)
		name := full
		if strings.HasPrefix(name, "tag:") {
			name = "tag:"
		}
		switch {
		case slices.Contains(strings.Fields(simulatedFilters[action]), name):
		case slices.Contains(strings.Fields(otherFilters[action]), name):
			return notSimulated("the filter %s of %s", full, action)
		default:
			return clientError("InvalidParameterValue", "The filter '%s' is invalid", full)
		}
	}
	return nil
}

// matches tells whether every filter has a value that one of the resource's values matches. In a value * stands for
// any text and ? for one character.
func matches(filters []ec2types.Filter, of attributes) (bool, error) {
	all := true
	for _, f := range filters {
		name := awssdk.ToString(f.Name)
		values, ok := of(name)
		if !ok {
			return false, clientError("InvalidParameterValue", "The filter '%s' is invalid", name)
		}
		if len(f.Values) == 0 {
			return false, clientError("InvalidParameterValue", "The filter '%s' has no values", name)
		}
		all = all && anyMatches(f.Values, values)
	}
	return all, nil
}

func anyMatches(patterns, values []string) bool {
	for _, pattern := range patterns {
		for _, value := range values {
			if wildcard(pattern, value) {
				return true
			}
		}
	}
	return false
}

func wildcard(pattern, value string) bool {
	for pattern != "" {
		switch {
		case pattern[0] == '*':
			for i := range len(value) + 1 {
				if wildcard(pattern[1:], value[i:]) {
					return true
				}
			}
			return false
		case value == "" || pattern[0] != '?' && pattern[0] != value[0]:
			return false
		}
		pattern, value = pattern[1:], value[1:]
	}
	return value == ""
}

// page is the part of a list that one reply carries. The token is the offset of the next, in base64: a caller
// that changes its filters between pages gets what EC2's callers get, no promise.
func page[T any](items []T, token *string, maxResults *int32, low, high int32) ([]T, *string, error) {
	size := high
	if maxResults != nil {
		if *maxResults < low || *maxResults > high {
			return nil, nil, clientError("InvalidParameterValue",
				"Value ( %d ) for parameter maxResults is invalid. Expecting a value between %d and %d.", *maxResults, low, high)
		}
		size = *maxResults
	}
	start := 0
	if awssdk.ToString(token) != "" {
		text, err := base64.StdEncoding.DecodeString(*token)
		if err == nil {
			start, err = strconv.Atoi(string(text))
		}
		if err != nil || start < 0 {
			return nil, nil, clientError("InvalidNextToken", "The token '%s' is invalid", *token)
		}
	}
	start = min(start, len(items))
	end := min(start+int(size), len(items))
	if end == len(items) {
		return items[start:end], nil, nil
	}
	next := base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(end)))
	return items[start:end], &next, nil
}

// filterPage keeps the resources that filters match, describes them and cuts a page.
func filterPage[T, D any](items []T, filters []ec2types.Filter, of func(T) attributes, describe func(T) D,
	token *string, maxResults *int32, low, high int32,
) ([]D, *string, error) {
	kept := []T{}
	for _, item := range items {
		ok, err := matches(filters, of(item))
		if err != nil {
			return nil, nil, err
		}
		if ok {
			kept = append(kept, item)
		}
	}
	cut, next, err := page(kept, token, maxResults, low, high)
	if err != nil {
		return nil, nil, err
	}
	described := make([]D, len(cut))
	for i, item := range cut {
		described[i] = describe(item)
	}
	return described, next, nil
}
