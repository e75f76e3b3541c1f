// SPDX-License-Identifier: Apache-2.0

// Package status is what a node agent says of itself, on its socket, to whoever asks: the document, the client, and its form
// for people. It imports nothing of the agent, so that a command line does not carry one.
package status

import (
	"net/netip"
	"time"
)

const (
	// Version of the document. A reader that finds a greater one may miss something; fields are added only.
	Version = 1
	// Path of the document on the socket: GET, and nothing else.
	Path = "/v1/status"
	// DefaultSocket of the agent.
	DefaultSocket = "/run/dovetail/agent.sock"
)

// Status of a node's pod network.
type Status struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"`
	Node    string    `json:"node"`
	// Source of the addresses: Dynamic (from EC2 while the node runs) or Static (all came with the launch); empty until the
	// agent has chosen.
	Source string `json:"source,omitempty"`
	// Ready is the node's condition PodNetworkReady.
	Ready     Condition `json:"ready"`
	Addresses Addresses `json:"addresses"`
	// Targets of warmth, where Source is Dynamic.
	Targets *Targets `json:"targets,omitempty"`
	ENIs    []ENI    `json:"enis"`
	// Strays are leases of addresses that no ENI has.
	Strays []Lease `json:"strays,omitempty"`
	Kernel Kernel  `json:"kernel"`
	// Errors are the last ones, newest first.
	Errors []Error `json:"errors"`
	// BackoffUntil is when EC2 is asked again after a refusal.
	BackoffUntil *time.Time `json:"backoffUntil,omitempty"`
	// Incomplete says what of this could not be read.
	Incomplete []string `json:"incomplete,omitempty"`
}

// Condition in the words of Kubernetes.
type Condition struct {
	Status  string `json:"status"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// Addresses of pods, counted.
type Addresses struct {
	Total   int `json:"total"`
	Leased  int `json:"leased"`
	Cooling int `json:"cooling"`
	Free    int `json:"free"`
	// Returning: free, and no pod gets it any more: it is being given back.
	Returning int `json:"returning"`
	// Waiting pods have none.
	Waiting int `json:"waiting"`
}

// Count the addresses of a prefix too.
func (a *Addresses) Count(p Prefix) {
	size := 1 << (p.Prefix.Addr().BitLen() - p.Prefix.Bits())
	free := size - len(p.Leases) - len(p.Cooling)
	a.Total += size
	a.Leased += len(p.Leases)
	a.Cooling += len(p.Cooling)
	if p.Returning {
		a.Returning += free
	} else {
		a.Free += free
	}
}

// Targets as in the PodNetwork.
type Targets struct {
	Prefix    int `json:"prefix"`
	IP        int `json:"ip"`
	MinimumIP int `json:"minimumIP"`
	ENI       int `json:"eni"`
}

// ENI that carries pods.
type ENI struct {
	ID          string `json:"id"`
	MAC         string `json:"mac"`
	DeviceIndex int    `json:"deviceIndex"`
	RouteTable  int    `json:"routeTable"`
	Subnet      string `json:"subnet"`
	// PrimaryAddress is the ENI's own, of which no pod lives.
	PrimaryAddress netip.Addr `json:"primaryAddress"`
	// AwaitsLink: the guest has no link of this MAC address yet.
	AwaitsLink bool     `json:"awaitsLink,omitempty"`
	Prefixes   []Prefix `json:"prefixes"`
}

// Prefix is a delegated /28, or a single address as a /32.
type Prefix struct {
	Prefix netip.Prefix `json:"prefix"`
	// Returning: it is being given back.
	Returning bool         `json:"returning,omitempty"`
	Leases    []Lease      `json:"leases"`
	Cooling   []netip.Addr `json:"cooling"`
}

// Lease of an address.
type Lease struct {
	Address     netip.Addr `json:"address"`
	Pod         string     `json:"pod"` // namespace/name
	ContainerID string     `json:"containerID"`
	IfName      string     `json:"ifName"`
	Since       time.Time  `json:"since"`
}

// Kernel as it was found.
type Kernel struct {
	// Rules of the agent's priorities.
	Rules []string `json:"rules"`
	// Routes of the ENIs' tables, and of pods.
	Routes    []string `json:"routes"`
	PodRoutes []string `json:"podRoutes"`
	// Differences from what the agent wants; it repairs them.
	Differences []Difference `json:"differences"`
}

// Difference between the kernel and what the agent wants.
type Difference struct {
	Kind   string `json:"kind"` // link, address, sysctl, route, rule, nftables
	Object string `json:"object"`
	// Unwanted objects are there; others are missing, or other than wanted.
	Unwanted bool `json:"unwanted,omitempty"`
}

// Error that has happened, as often as Count says, one after the other.
type Error struct {
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Count   int       `json:"count"`
}
