// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// session is what a token of IMDSv2 stands for.
type session struct {
	instance string
	expires  time.Time
}

const (
	tokenHeader = "X-aws-ec2-metadata-token"
	ttlHeader   = "X-aws-ec2-metadata-token-ttl-seconds"
	maxTTL      = 21600 // seconds
)

// IMDS serves the instance metadata service, version 2, and version 1 for instances
// whose options say that tokens are optional. instanceOf tells which instance a client address
// belongs to; a request of no instance is answered 404.
func (c *Cloud) IMDS(instanceOf func(netip.Addr) (instanceID string, ok bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		remote, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, "no client address", http.StatusBadRequest)
			return
		}
		id, ok := instanceOf(remote.Addr().Unmap())
		c.mu.Lock()
		defer c.mu.Unlock()
		i := c.instances.get(id)
		if !ok || i == nil || i.state == ec2types.InstanceStateNameTerminated {
			http.NotFound(w, r)
			return
		}
		if c.failMetadata(w, i) {
			return
		}
		if i.metadata.disabled {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if r.URL.Path == "/latest/api/token" {
			c.startSession(w, r, i)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		_, withToken := r.Header[http.CanonicalHeaderKey(tokenHeader)]
		if i.metadata.tokensOptional && !withToken {
			c.serveMetadata(w, r, i)
			return
		}
		if s, ok := c.sessions[r.Header.Get(tokenHeader)]; !ok || s.instance != i.id || time.Now().After(s.expires) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		c.serveMetadata(w, r, i)
	})
}

func (c *Cloud) startSession(w http.ResponseWriter, r *http.Request, i *instance) {
	if r.Method != http.MethodPut {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if r.Header.Get("X-Forwarded-For") != "" { // an open proxy, not the instance
		w.WriteHeader(http.StatusForbidden)
		return
	}
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || ttl < 1 || ttl > maxTTL {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	now := time.Now()
	for token, s := range c.sessions {
		if now.After(s.expires) {
			delete(c.sessions, token)
		}
	}
	token := sessionPrefix + uuid(c.random)
	c.sessions[token] = session{instance: i.id, expires: now.Add(time.Duration(ttl) * time.Second)}
	w.Header().Set(ttlHeader, strconv.Itoa(ttl))
	fmt.Fprint(w, token)
}

// serveMetadata answers a leaf with its value and a directory with its entries.
func (c *Cloud) serveMetadata(w http.ResponseWriter, r *http.Request, i *instance) {
	name := strings.TrimPrefix(r.URL.Path, "/latest/")
	tree := c.metadata(i)
	value, ok := tree[strings.TrimSuffix(name, "/")]
	if !ok {
		value, ok = list(tree, strings.TrimSuffix(name, "/")+"/")
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	fmt.Fprint(w, value)
}

func list(tree map[string]string, directory string) (string, bool) {
	var entries []string
	for _, name := range sortedKeys(tree) {
		rest, ok := strings.CutPrefix(name, directory)
		if !ok {
			continue
		}
		if slash := strings.IndexByte(rest, '/'); slash >= 0 {
			rest = rest[:slash+1]
		}
		if !slices.Contains(entries, rest) {
			entries = append(entries, rest)
		}
	}
	return strings.Join(entries, "\n"), len(entries) > 0
}

// metadata returns the leaves below /latest/. What an instance does not have, it has no leaf for.
func (c *Cloud) metadata(i *instance) map[string]string {
	p := i.primary
	tree := map[string]string{}
	set := func(name, value string) { tree["meta-data/"+name] = value }
	set("ami-id", i.image.id)
	set("ami-launch-index", strconv.Itoa(i.index))
	set("hostname", c.privateDNS(i.privateIP))
	set("instance-id", i.id)
	set("instance-life-cycle", i.lifecycle())
	set("instance-type", string(i.info.InstanceType))
	set("local-hostname", c.privateDNS(i.privateIP))
	set("local-ipv4", i.privateIP.String())
	set("mac", p.mac.String())
	set("reservation-id", i.reservation)
	set("security-groups", strings.Join(groupNames(p.groups), "\n"))
	set("services/domain", "amazonaws.com")
	set("services/partition", "aws")
	set("placement/availability-zone", i.subnet.zone)
	set("placement/availability-zone-id", c.zoneID(i.subnet.zone))
	set("placement/region", c.region)
	if p.public.IsValid() {
		set("public-ipv4", p.public.String())
	}
	if i.profile != nil {
		set("iam/info", document(map[string]any{
			"Code": "Success", "LastUpdated": i.launchTime, "InstanceProfileArn": i.profile.arn, "InstanceProfileId": i.profile.id,
		}))
		if i.profile.role != nil {
			set("iam/security-credentials/"+i.profile.role.name, roleCredentials(i))
		}
	}
	if !i.interruption.IsZero() {
		at := i.interruption.Format(time.RFC3339)
		set("spot/instance-action", document(map[string]any{"action": "terminate", "time": at}))
		set("spot/termination-time", at)
	}
	if !i.rebalance.IsZero() {
		set("events/recommendations/rebalance", document(map[string]any{"noticeTime": i.rebalance.Format(time.RFC3339)}))
	}
	for _, n := range i.interfaces {
		if n.listed {
			c.interfaceMetadata(n, tree)
		}
	}
	tree["dynamic/instance-identity/document"] = document(map[string]any{
		"accountId": c.account, "architecture": i.image.architecture, "availabilityZone": i.subnet.zone, "imageId": i.image.id,
		"instanceId": i.id, "instanceType": i.info.InstanceType, "pendingTime": i.launchTime, "privateIp": i.privateIP.String(),
		"region": c.region, "version": "2017-09-30",
	})
	if len(i.userData) > 0 {
		tree["user-data"] = string(i.userData)
	}
	return tree
}

// interfaceMetadata tells of secondary addresses and prefixes as IMDS knows them, which is later than EC2 does.
func (c *Cloud) interfaceMetadata(n *networkInterface, tree map[string]string) {
	set := func(name, value string) { tree["meta-data/network/interfaces/macs/"+n.mac.String()+"/"+name] = value }
	addresses := []string{n.primary.String()}
	for _, addr := range n.shown.addresses {
		addresses = append(addresses, addr.String())
	}
	set("device-number", strconv.Itoa(int(n.attachment.index)))
	set("network-card", strconv.Itoa(int(n.attachment.card)))
	set("interface-id", n.id)
	set("local-hostname", c.privateDNS(n.primary))
	set("local-ipv4s", strings.Join(addresses, "\n"))
	set("mac", n.mac.String())
	set("owner-id", c.account)
	set("security-group-ids", strings.Join(groupIDs(n.groups), "\n"))
	set("security-groups", strings.Join(groupNames(n.groups), "\n"))
	set("subnet-id", n.subnet.id)
	set("subnet-ipv4-cidr-block", n.subnet.space.cidr.String())
	set("vpc-id", n.subnet.vpc.id)
	set("vpc-ipv4-cidr-block", n.subnet.vpc.blocks[0].cidr.String())
	set("vpc-ipv4-cidr-blocks", joined(n.subnet.vpc.associated()))
	if len(n.shown.prefixes) > 0 {
		set("ipv4-prefix", joined(n.shown.prefixes))
	}
	if n.public.IsValid() {
		set("public-ipv4s", n.public.String())
	}
}

func groupNames(groups []*securityGroup) []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return names
}

func joined(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, "\n")
}

// roleTokenPrefix and an instance's id are the session token of its role's credentials.
const roleTokenPrefix = "sandbox-"

// roleCredentials are good for the simulator, which takes any; they differ from instance to instance.
func roleCredentials(i *instance) string {
	digits := strings.ToUpper(strings.TrimPrefix(i.id, "i-"))
	return document(map[string]any{
		"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": time.Now().UTC().Format(time.RFC3339),
		"AccessKeyId": "ASIA" + digits[:16], "SecretAccessKey": "sandbox" + digits + "sandbox", "Token": roleTokenPrefix + i.id,
		"Expiration": time.Now().UTC().Add(6 * time.Hour).Format(time.RFC3339),
	})
}

func document(fields map[string]any) string {
	text, err := json.MarshalIndent(fields, "", "  ")
	if err != nil {
		return "" // not reached: the fields are strings and times
	}
	return string(text)
}
