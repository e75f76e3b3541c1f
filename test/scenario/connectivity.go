// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	corev1 "k8s.io/api/core/v1"
)

// What a user is told of the sandbox: its cluster, and its hosts on the internet and in a peered VPC.
const (
	clusterName  = "dovetail-sandbox"
	internetHost = "203.0.113.80"
	peerHost     = "192.168.0.80"
)

// Ports of the scenario's listeners.
const (
	podPort  = 8080
	nodePort = 18080 // no program of a node listens there
)

// Probe is one connection that was tried with real packets.
type Probe struct {
	// Path says from what to what: "pod to pod, same node".
	Path string
	// From and To are addresses, or a URL.
	From, To string
	// Saw is who the other side said it talks to, Want who it should be.
	Saw, Want string
	// Err is why there was no answer.
	Err error
}

// Check returns what is wrong with the connection.
func (p Probe) Check() error {
	switch {
	case p.Err != nil:
		return fmt.Errorf("%s: %s to %s: %w", p.Path, p.From, p.To, p.Err)
	case p.Saw != p.Want:
		return fmt.Errorf("%s: %s to %s: the other side saw %q, not %q", p.Path, p.From, p.To, p.Saw, p.Want)
	}
	return nil
}

// Paths of a connectivity matrix.
const (
	pathSameNode       = "pod to pod, same node"
	pathOtherNode      = "pod to pod, other node, same zone"
	pathOtherZone      = "pod to pod, other zone"
	pathOwnNodeToPod   = "node to pod, same node"
	pathOtherNodeToPod = "node to pod, other zone"
	pathPodToNode      = "pod to node, other zone"
	pathAPIServer      = "pod to API server (TLS)"
	pathInternet       = "pod to internet: seen by the host"
	pathTranslated     = "pod to internet: seen by the NAT gateway"
	pathPeered         = "pod to peered VPC"
)

// CheckProbes joins what is wrong with any of them.
func CheckProbes(probes []Probe) error {
	var problems []error
	for _, probe := range probes {
		problems = append(problems, probe.Check())
	}
	return errors.Join(problems...)
}

// CheckMatrix checks the probes, and that each path was tried.
func CheckMatrix(probes []Probe) error {
	problems := []error{CheckProbes(probes)}
	for _, path := range []string{
		pathSameNode, pathOtherNode, pathOtherZone, pathOwnNodeToPod, pathOtherNodeToPod, pathPodToNode, pathAPIServer, pathInternet, pathTranslated, pathPeered,
	} {
		if !slices.ContainsFunc(probes, func(probe Probe) bool { return probe.Path == path }) {
			problems = append(problems, fmt.Errorf("%s: not tried, because the pods do not lie so", path))
		}
	}
	return errors.Join(problems...)
}

// site is a node with pods of the workload on it, at least one. The first dials, the last listens.
type site struct {
	node Node
	pods []*corev1.Pod
}

func (s site) dialler() *corev1.Pod  { return s.pods[0] }
func (s site) listener() *corev1.Pod { return s.pods[len(s.pods)-1] }

// Connectivity tries, from one pod of every node: a pod on the same node, on another node of the zone where there is one,
// in another zone; another node; from the node a pod of its own and of another node; the API server; the internet; and a
// peered VPC. Every pod that is connected to must see the pod's or the node's own address; the internet must see the NAT
// gateway's, and the NAT gateway and the peered VPC, which is in no block of the pod's VPC, the node's.
func (s *Sandbox) Connectivity(ctx context.Context, workload Workload, nodes []Node) ([]Probe, error) {
	sites, err := s.sites(ctx, workload, nodes)
	if err != nil {
		return nil, err
	}
	return s.connectivity(ctx, sites)
}

func (s *Sandbox) connectivity(ctx context.Context, sites []site) ([]Probe, error) {
	if len(sites) < 2 {
		return nil, fmt.Errorf("the workload runs on %d nodes: nothing to connect", len(sites))
	}
	api, err := s.apiServer(ctx)
	if err != nil {
		return nil, err
	}
	public, err := s.natAddress(ctx)
	if err != nil {
		return nil, err
	}
	stop, err := s.listenEverywhere(ctx, sites)
	defer stop()
	if err != nil {
		return nil, err
	}
	var probes []Probe
	for _, from := range sites {
		probes = append(probes, s.probesInVPC(ctx, from, sites)...)
		probes = append(probes, s.probeAPIServer(ctx, from, api))
		internet, err := s.probeInternet(ctx, from, public)
		if err != nil {
			return nil, err
		}
		probes = append(probes, internet...)
		probes = append(probes, s.probePeer(ctx, from))
	}
	return probes, nil
}

// sites groups the workload by node.
func (s *Sandbox) sites(ctx context.Context, workload Workload, nodes []Node) ([]site, error) {
	pods, err := s.workloadPods(ctx, workload)
	if err != nil {
		return nil, err
	}
	var sites []site
	for _, node := range nodes {
		on := site{node: node}
		for _, pod := range pods {
			if pod.Spec.NodeName == node.Name {
				on.pods = append(on.pods, pod)
			}
		}
		if len(on.pods) > 0 {
			sites = append(sites, on)
		}
	}
	return sites, nil
}

// listenEverywhere starts a listener in one pod of each site and on each node.
func (s *Sandbox) listenEverywhere(ctx context.Context, sites []site) (func(), error) {
	var listeners []*background
	stop := func() {
		for _, l := range listeners {
			_, _ = l.stop() // the dialler got all it has to say
		}
	}
	for _, at := range sites {
		for _, place := range []struct {
			kind, where string
			port        int
		}{
			{"--pod", namespace + "/" + at.listener().Name, podPort},
			{"--instance", at.node.InstanceID, nodePort},
		} {
			l, _, err := s.start(ctx, place.kind, place.where, "listen", fmt.Sprintf("0.0.0.0:%d", place.port))
			if err != nil {
				return stop, err
			}
			listeners = append(listeners, l)
		}
	}
	return stop, nil
}

func (s *Sandbox) probesInVPC(ctx context.Context, from site, sites []site) []Probe {
	probes := []Probe{s.dialFromNode(ctx, pathOwnNodeToPod, from.node, from.listener().Status.PodIP)}
	if len(from.pods) > 1 {
		probes = append(probes, s.dialFromPod(ctx, pathSameNode, from.dialler(), from.listener().Status.PodIP, podPort))
	}
	sameZone := slices.IndexFunc(sites, func(to site) bool {
		return to.node.Name != from.node.Name && to.node.Zone == from.node.Zone
	})
	if sameZone >= 0 {
		probes = append(probes, s.dialFromPod(ctx, pathOtherNode, from.dialler(), sites[sameZone].listener().Status.PodIP, podPort))
	}
	otherZone := slices.IndexFunc(sites, func(to site) bool { return to.node.Zone != from.node.Zone })
	if otherZone >= 0 {
		to := sites[otherZone]
		probes = append(probes,
			s.dialFromPod(ctx, pathOtherZone, from.dialler(), to.listener().Status.PodIP, podPort),
			s.dialFromNode(ctx, pathOtherNodeToPod, from.node, to.listener().Status.PodIP),
			s.dialFromPod(ctx, pathPodToNode, from.dialler(), to.node.Address.String(), nodePort))
	}
	return probes
}

func (s *Sandbox) dialFromPod(ctx context.Context, path string, pod *corev1.Pod, to string, port int) Probe {
	addr := to + ":" + strconv.Itoa(port)
	saw, err := s.InPod(ctx, pod.Name, s.netprobe("dial", addr)...)
	return Probe{Path: path, From: pod.Status.PodIP, To: addr, Saw: strings.TrimSpace(saw), Want: pod.Status.PodIP, Err: err}
}

func (s *Sandbox) dialFromNode(ctx context.Context, path string, node Node, to string) Probe {
	addr := to + ":" + strconv.Itoa(podPort)
	saw, err := s.OnNode(ctx, node.InstanceID, s.netprobe("dial", addr)...)
	return Probe{Path: path, From: node.Address.String(), To: addr, Saw: strings.TrimSpace(saw), Want: node.Address.String(), Err: err}
}

// apiServer is the cluster as EKS describes it.
type apiServer struct{ endpoint, ca, version string }

func (s *Sandbox) apiServer(ctx context.Context) (apiServer, error) {
	out, err := s.eks.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: aws.String(clusterName)})
	if err != nil {
		return apiServer{}, fmt.Errorf("describing the cluster: %w", err)
	}
	if out.Cluster.CertificateAuthority == nil {
		return apiServer{}, errors.New("EKS tells no certificate authority of the cluster")
	}
	return apiServer{
		endpoint: aws.ToString(out.Cluster.Endpoint),
		ca:       aws.ToString(out.Cluster.CertificateAuthority.Data),
		version:  aws.ToString(out.Cluster.Version),
	}, nil
}

// probeAPIServer asks the API server for its version over TLS, which the pod verifies with the cluster's authority.
func (s *Sandbox) probeAPIServer(ctx context.Context, from site, api apiServer) Probe {
	pod, url := from.dialler(), api.endpoint+"/version"
	probe := Probe{Path: pathAPIServer, From: pod.Status.PodIP, To: url, Want: api.version}
	if _, err := base64.StdEncoding.DecodeString(api.ca); err != nil {
		probe.Err = fmt.Errorf("the cluster's authority: %w", err)
		return probe
	}
	out, err := s.InPod(ctx, pod.Name, s.netprobe("get", "-ca", api.ca, url)...)
	if err != nil {
		probe.Err = err
		return probe
	}
	var version struct{ Major, Minor string }
	probe.Err = json.Unmarshal([]byte(out), &version)
	probe.Saw = version.Major + "." + strings.TrimSuffix(version.Minor, "+")
	return probe
}

// natAddress returns the public address of the VPC's NAT gateway.
func (s *Sandbox) natAddress(ctx context.Context) (string, error) {
	out, err := s.EC2.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{})
	if err != nil {
		return "", fmt.Errorf("listing NAT gateways: %w", err)
	}
	if len(out.NatGateways) != 1 || len(out.NatGateways[0].NatGatewayAddresses) != 1 {
		return "", fmt.Errorf("want one NAT gateway with one address, have %d gateways", len(out.NatGateways))
	}
	return aws.ToString(out.NatGateways[0].NatGatewayAddresses[0].PublicIp), nil
}

// probePeer asks the host in the peered VPC who it talks to.
func (s *Sandbox) probePeer(ctx context.Context, from site) Probe {
	pod := from.dialler()
	url := "http://" + peerHost + "/"
	saw, err := s.InPod(ctx, pod.Name, s.netprobe("get", url)...)
	return Probe{Path: pathPeered, From: pod.Status.PodIP, To: url, Saw: strings.TrimSpace(saw), Want: from.node.Address.String(), Err: err}
}

// probeInternet asks the internet host who it talks to, then the NAT gateway whom it translated for that.
func (s *Sandbox) probeInternet(ctx context.Context, from site, public string) ([]Probe, error) {
	before, err := s.Translations(ctx)
	if err != nil {
		return nil, err
	}
	pod := from.dialler()
	url := "http://" + internetHost + "/"
	saw, err := s.InPod(ctx, pod.Name, s.netprobe("get", url)...)
	reached := Probe{Path: pathInternet, From: pod.Status.PodIP, To: url, Saw: strings.TrimSpace(saw), Want: public, Err: err}
	if err != nil {
		return []Probe{reached}, nil //nolint:nilerr // the probe carries the error
	}
	after, err := s.Translations(ctx)
	if err != nil {
		return nil, err
	}
	var sources []string
	for _, t := range after {
		if t.Destination.String() == internetHost && !slices.Contains(before, t) {
			sources = append(sources, t.Source.String())
		}
	}
	translated := Probe{
		Path: pathTranslated, From: pod.Status.PodIP, To: internetHost,
		Saw: strings.Join(sources, " "), Want: from.node.Address.String(),
	}
	return []Probe{reached, translated}, nil
}
