// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/base64"
	"net/http"
	"net/netip"
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

// serveEKS serves DescribeCluster: GET /clusters/NAME.
func (c *Cloud) serveEKS(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, "/clusters/")
	if !ok || name == "" || strings.Contains(name, "/") || r.Method != http.MethodGet || r.URL.RawQuery != "" {
		writeJSONError(w, clientError("InvalidRequestException", "The sandbox does not simulate %s %s of EKS", r.Method, r.URL.RequestURI()))
		return
	}
	c.mu.Lock()
	cluster, ok := c.clusters[name]
	err := c.authorizeService(sessionToken(r), "eks:DescribeCluster", c.arn("eks", "cluster/"+name))
	c.mu.Unlock()
	if err != nil {
		writeJSONError(w, err)
		return
	}
	if !ok {
		writeJSONError(w, statusError(http.StatusNotFound, "ResourceNotFoundException", "No cluster found for name: %s.", name))
		return
	}
	d := clusterDescription{
		Name: name, ARN: c.arn("eks", "cluster/"+name), Version: cluster.Version, Endpoint: cluster.Endpoint, Status: "ACTIVE",
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
	writeJSON(w, http.StatusOK, clusterReply{Cluster: d})
}
