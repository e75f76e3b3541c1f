// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/http"
	"net/netip"
)

// Options of a Cloud.
type Options struct {
	Region    string  // default us-east-1
	AccountID string  // 12 digits; default 123456789012
	Latency   Profile // default: everything is immediate, no request limits
	Seed      int64   // of ids, MACs, addresses and latencies
}

// Cluster is the EKS cluster that DescribeCluster tells of.
type Cluster struct {
	Name        string
	Endpoint    string // https://...
	CA          []byte // PEM
	Version     string // "1.35"
	ServiceCIDR netip.Prefix
	VPCID       string
	SubnetIDs   []string
	GroupID     string // the cluster security group
}

// Cloud is one simulated account in one Region.
type Cloud struct{}

// New returns an account without a VPC.
func New(opts Options) *Cloud { return &Cloud{} }

// Handler serves every service on one endpoint. It tells them apart as they are addressed: the credential
// scope of the signature for the Query protocol, X-Amz-Target for JSON, the path for EKS.
func (c *Cloud) Handler() http.Handler { return http.NotFoundHandler() }

// IMDS serves the instance metadata service, version 2. instanceOf tells which instance a client address
// belongs to; a request of no instance is answered 404.
func (c *Cloud) IMDS(instanceOf func(netip.Addr) (instanceID string, ok bool)) http.Handler {
	return http.NotFoundHandler()
}

// Snapshot returns the present state.
func (c *Cloud) Snapshot() Snapshot { return Snapshot{} }

// Changed returns a channel of its own for each caller, which holds one token after any number of changes to what
// Snapshot shows. The simulator never waits for a reader. The first token is there at once.
func (c *Cloud) Changed() <-chan struct{} { return nil }

// SetCluster replaces the cluster of that name.
func (c *Cloud) SetCluster(cl Cluster) {}

// ReserveIDs hands out these ids, in order, to the next resources of each id's kind (the part before the first
// dash), so that manifests can name them.
func (c *Cloud) ReserveIDs(ids []string) {}

// CreateRole makes an IAM role that EC2 may assume, with the policies of no interest.
func (c *Cloud) CreateRole(name string) {}

// CreateQueue makes an SQS queue.
func (c *Cloud) CreateQueue(name string) {}

// AttachToService makes an available interface one that an AWS service owns: in use, with an attachment
// that no one else may detach. EKS reaches a VPC with such interfaces.
func (c *Cloud) AttachToService(interfaceID, service string) error { return nil }

// Pool is where instances come from. Lifecycle is "on-demand" or "spot".
type Pool struct{ InstanceType, Zone, Lifecycle string }

// SetCapacity lets a pool launch n more instances, then answer InsufficientInstanceCapacity; n < 0 lifts the limit.
func (c *Cloud) SetCapacity(p Pool, n int) {}

// Fault is an error that calls of Action answer instead of what they would.
type Fault struct {
	Action        string // EC2 action
	Code, Message string
	Status        int  // HTTP; default 400
	Times         int  // how many calls; default 1
	AfterEffect   bool // the call does its work and the reply is lost: an error after the fact
}

// Inject adds a fault.
func (c *Cloud) Inject(f Fault) {}
