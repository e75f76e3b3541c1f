// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Cluster is an EKS cluster that DescribeCluster tells of.
type Cluster struct {
	Name        string
	Endpoint    string       // https://...
	CA          []byte       // PEM
	Version     string       // "1.35"
	ServiceCIDR netip.Prefix // its family is the cluster's
	VPCID       string
	SubnetIDs   []string
	GroupID     string // the cluster security group
}

// SetCluster adds the cluster, or replaces the one of that name.
func (c *Cloud) SetCluster(cluster Cluster) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clusters[cluster.Name] = cluster
}

type clusterReply struct {
	Cluster clusterDescription `json:"cluster"`
}

type clusterDescription struct {
	Name            string `json:"name"`
	ARN             string `json:"arn"`
	Version         string `json:"version"`
	Endpoint        string `json:"endpoint"`
	Status          string `json:"status"`
	PlatformVersion string `json:"platformVersion"`
	Authority       struct {
		Data string `json:"data"` // PEM in base64
	} `json:"certificateAuthority"`
	Network struct {
		ServiceIPv4CIDR string `json:"serviceIpv4Cidr,omitempty"`
		ServiceIPv6CIDR string `json:"serviceIpv6Cidr,omitempty"`
		IPFamily        string `json:"ipFamily"`
	} `json:"kubernetesNetworkConfig"`
	VPC struct {
		VPCID                 string   `json:"vpcId,omitempty"`
		SubnetIDs             []string `json:"subnetIds"`
		SecurityGroupIDs      []string `json:"securityGroupIds"`
		GroupID               string   `json:"clusterSecurityGroupId,omitempty"`
		EndpointPublicAccess  bool     `json:"endpointPublicAccess"`
		EndpointPrivateAccess bool     `json:"endpointPrivateAccess"`
	} `json:"resourcesVpcConfig"`
	Tags map[string]string `json:"tags"`
}

// eksCall is a request of EKS by its path.
type eksCall struct {
	action           string // "" for one that is not simulated
	cluster, profile string
}

// eksCallOf a request: the actions are told apart by method and path.
func eksCallOf(r *http.Request) eksCall {
	rest, ok := strings.CutPrefix(r.URL.Path, "/clusters/")
	parts := strings.Split(rest, "/")
	if !ok || slices.Contains(parts, "") {
		return eksCall{}
	}
	switch profiles := len(parts) > 1 && parts[1] == "fargate-profiles"; {
	case len(parts) == 1 && r.Method == http.MethodGet:
		return eksCall{action: "DescribeCluster", cluster: parts[0]}
	case profiles && len(parts) == 2:
		return eksCall{action: map[string]string{http.MethodGet: "ListFargateProfiles", http.MethodPost: "CreateFargateProfile"}[r.Method], cluster: parts[0]}
	case profiles && len(parts) == 3:
		return eksCall{action: map[string]string{http.MethodGet: "DescribeFargateProfile", http.MethodDelete: "DeleteFargateProfile"}[r.Method], cluster: parts[0], profile: parts[2]}
	}
	return eksCall{}
}

// serveEKS serves clusters, and their Fargate profiles.
func (c *Cloud) serveEKS(w http.ResponseWriter, r *http.Request) {
	call := eksCallOf(r)
	if call.action == "" || r.URL.RawQuery != "" && call.action != "ListFargateProfiles" {
		writeJSONError(w, clientError("InvalidRequestException", "The sandbox does not simulate %s %s of EKS", r.Method, r.URL.RequestURI()))
		return
	}
	body, err := readBody(r)
	var out any
	if err == nil {
		out, err = c.callEKS(call, sessionToken(r), r.URL.Query(), body)
	}
	if err != nil {
		writeJSONError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (c *Cloud) callEKS(call eksCall, token string, query url.Values, body []byte) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	resource := "cluster/" + call.cluster
	if call.profile != "" {
		resource = "fargateprofile/" + call.cluster + "/" + call.profile
	}
	if err := c.authorizeService(token, "eks:"+call.action, c.arn("eks", resource)); err != nil {
		return nil, err
	}
	cluster, ok := c.clusters[call.cluster]
	if !ok {
		return nil, statusError(http.StatusNotFound, "ResourceNotFoundException", "No cluster found for name: %s.", call.cluster)
	}
	switch call.action {
	case "ListFargateProfiles":
		return c.listFargateProfiles(cluster, query)
	case "CreateFargateProfile":
		return c.createFargateProfile(cluster, body)
	case "DeleteFargateProfile":
		return c.deleteFargateProfile(cluster, call.profile)
	case "DescribeFargateProfile":
		p, err := c.oneProfile(cluster, call.profile)
		if err != nil {
			return nil, err
		}
		return c.describeProfile(cluster.Name, p), nil
	}
	return c.describeCluster(cluster), nil
}

func (c *Cloud) describeCluster(cluster Cluster) clusterReply {
	d := clusterDescription{
		Name: cluster.Name, ARN: c.arn("eks", "cluster/"+cluster.Name), Version: cluster.Version, Endpoint: cluster.Endpoint, Status: "ACTIVE",
		PlatformVersion: "eks.1", Tags: map[string]string{},
	}
	d.Authority.Data = base64.StdEncoding.EncodeToString(cluster.CA)
	d.Network.IPFamily = "ipv4"
	switch cidr := cluster.ServiceCIDR; {
	case !cidr.IsValid():
	case cidr.Addr().Is6():
		d.Network.IPFamily, d.Network.ServiceIPv6CIDR = "ipv6", cidr.String()
	default:
		d.Network.ServiceIPv4CIDR = cidr.String()
	}
	d.VPC.VPCID, d.VPC.SubnetIDs, d.VPC.GroupID, d.VPC.EndpointPrivateAccess = cluster.VPCID, cluster.SubnetIDs, cluster.GroupID, true
	d.VPC.SecurityGroupIDs = []string{}
	return clusterReply{Cluster: d}
}
