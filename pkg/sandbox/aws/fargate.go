// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// fargateProfile of a cluster. Pods do not run on Fargate here: a profile is there to be read.
type fargateProfile struct {
	fargateSpec
	status string // CREATING, ACTIVE, DELETING
}

// fargateSpec is what a profile is made of.
type fargateSpec struct {
	Name      string            `json:"fargateProfileName"`
	Role      string            `json:"podExecutionRoleArn"`
	Subnets   []string          `json:"subnets"`
	Selectors []fargateSelector `json:"selectors"`
	Tags      map[string]string `json:"tags"`
}

type fargateSelector struct {
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Quotas of "Amazon EKS service quotas".
const (
	fargateProfiles  = 10
	fargateSelectors = 5
	fargateLabels    = 5
)

type createFargateProfile struct {
	fargateSpec
	ClientRequestToken string `json:"clientRequestToken"`
}

type fargateDescription struct {
	fargateSpec
	ARN     string `json:"fargateProfileArn"`
	Cluster string `json:"clusterName"`
	Status  string `json:"status"`
}

type fargateReply struct {
	Profile fargateDescription `json:"fargateProfile"`
}

func (c *Cloud) describeProfile(cluster string, p *fargateProfile) fargateReply {
	return fargateReply{fargateDescription{fargateSpec: p.fargateSpec, ARN: c.arn("eks", "fargateprofile/"+cluster+"/"+p.Name), Cluster: cluster, Status: p.status}}
}

func (c *Cloud) createFargateProfile(cluster Cluster, body []byte) (any, error) {
	var in createFargateProfile
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields() // a member without effect is refused
	if err := decoder.Decode(&in); err != nil {
		return nil, clientError("InvalidParameterException", "%v", err)
	}
	if err := c.checkProfile(cluster, in); err != nil {
		return nil, err
	}
	p := &fargateProfile{fargateSpec: in.fargateSpec, status: "CREATING"}
	c.fargate[cluster.Name] = append(c.fargate[cluster.Name], p)
	reply := c.describeProfile(cluster.Name, p)
	c.after(c.latency.Associate, func() {
		if p.status == "CREATING" {
			p.status = "ACTIVE"
		}
	})
	return reply, nil
}

// checkProfile by the rules of CreateFargateProfile and "Fargate profile components": subnets of the cluster's VPC without a route to an
// internet gateway, and selectors with a namespace.
func (c *Cloud) checkProfile(cluster Cluster, in createFargateProfile) error {
	switch profiles := c.fargate[cluster.Name]; {
	case in.Name == "" || len(in.Name) > 100:
		return clientError("InvalidParameterException", "fargateProfileName: 1 to 100 characters")
	case in.Role == "":
		return clientError("InvalidParameterException", "podExecutionRoleArn is required")
	case len(in.Selectors) == 0 || len(in.Selectors) > fargateSelectors:
		return clientError("InvalidParameterException", "A Fargate profile has 1 to %d selectors", fargateSelectors)
	case slices.ContainsFunc(in.Selectors, func(s fargateSelector) bool { return s.Namespace == "" || len(s.Labels) > fargateLabels }):
		return clientError("InvalidParameterException", "A selector has a namespace, and at most %d labels", fargateLabels)
	case len(in.Subnets) == 0:
		return clientError("InvalidParameterException", "subnets are required")
	case slices.ContainsFunc(profiles, func(p *fargateProfile) bool { return p.Name == in.Name }):
		return statusError(http.StatusConflict, "ResourceInUseException", "A Fargate Profile already exists with this name in this cluster.")
	case len(profiles) >= fargateProfiles:
		return clientError("ResourceLimitExceededException", "Fargate profile limit exceeded")
	case slices.ContainsFunc(profiles, func(p *fargateProfile) bool { return p.status != "ACTIVE" }):
		return clientError("InvalidRequestException", "Cannot create Fargate Profile %s because cluster %s currently has another Fargate profile that is being created or deleted", in.Name, cluster.Name)
	}
	for _, id := range in.Subnets {
		s := c.subnets.get(id)
		if s == nil || cluster.VPCID != "" && s.vpc.id != cluster.VPCID {
			return clientError("InvalidParameterException", "The subnet ID '%s' does not exist in the cluster's VPC", id)
		}
		public := slices.ContainsFunc(s.routeTable().routes, func(r route) bool { return idPrefix(r.target) == "igw" })
		if public {
			return clientError("InvalidParameterException", "Subnet %s provided in Fargate Profile is not a private subnet", id)
		}
	}
	return nil
}

func (c *Cloud) listFargateProfiles(cluster Cluster, query url.Values) (any, error) {
	for key := range query {
		if key != "maxResults" && key != "nextToken" {
			return nil, clientError("InvalidRequestException", "The sandbox does not simulate the parameter %s of ListFargateProfiles", key)
		}
	}
	names := []string{}
	for _, p := range c.fargate[cluster.Name] {
		names = append(names, p.Name)
	}
	var most *int32
	if text := query.Get("maxResults"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, clientError("InvalidParameterException", "maxResults: %v", err)
		}
		size := int32(n)
		most = &size
	}
	token := query.Get("nextToken")
	cut, next, err := page(names, &token, most, 1, 100)
	if err != nil {
		return nil, clientError("InvalidParameterException", "%v", err)
	}
	return struct {
		Names []string `json:"fargateProfileNames"`
		Next  *string  `json:"nextToken,omitempty"`
	}{cut, next}, nil
}

func (c *Cloud) oneProfile(cluster Cluster, name string) (*fargateProfile, error) {
	for _, p := range c.fargate[cluster.Name] {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, statusError(http.StatusNotFound, "ResourceNotFoundException", "No Fargate Profile found with name: %s.", name)
}

func (c *Cloud) deleteFargateProfile(cluster Cluster, name string) (any, error) {
	p, err := c.oneProfile(cluster, name)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(c.fargate[cluster.Name], func(other *fargateProfile) bool { return other.status == "DELETING" }) {
		return nil, clientError("InvalidRequestException", "Cannot delete Fargate Profile %s: another one of the cluster is being deleted", name)
	}
	p.status = "DELETING"
	c.after(c.latency.Associate, func() {
		c.fargate[cluster.Name] = slices.DeleteFunc(c.fargate[cluster.Name], func(other *fargateProfile) bool { return other == p })
	})
	return c.describeProfile(cluster.Name, p), nil
}
