// SPDX-License-Identifier: Apache-2.0

package provisioning_test

import (
	"bytes"
	"context"
	"flag"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/provisioning"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

const cluster = "test"

// endpoint of another EC2 than the simulator: its VPC calls must do too.
var endpoint = flag.String("ec2-endpoint", "", "URL of an EC2 API that is not the simulator's, such as moto's server; its account fills up")

// world is a cluster and the account of the team that ran out of addresses: a /21 VPC, a node subnet in each of three zones that a route
// table of their own routes, and EC2NodeClass default in them. A test creates the PodNetwork.
type world struct {
	*testing.T
	client.Client
	cloud      *aws.Cloud
	ec2        http.Handler // the account
	api        *ec2.Client  // the test's; the controller's is counted
	clock      *clocktesting.FakeClock
	recorder   events.Recorder
	controller *provisioning.Controller
	calls      *calls
	vpc, table string
	nodes      map[string]string // by zone
}

// calls of EC2 by the controller.
type calls struct {
	mu     sync.Mutex
	counts map[string]int
	total  int
	// cut is called with the number of a call, before and after it took effect. When it returns true, the caller hears nothing more.
	cut func(n int, after bool) bool
}

func (c *calls) serve(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		form, _ := url.ParseQuery(string(body))
		c.mu.Lock()
		c.total++
		n, cut := c.total, c.cut
		c.counts[form.Get("Action")]++
		c.mu.Unlock()
		if cut != nil && cut(n, false) {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		reply := httptest.NewRecorder()
		next.ServeHTTP(reply, r)
		if cut != nil && cut(n, true) {
			panic(http.ErrAbortHandler)
		}
		maps.Copy(rw.Header(), reply.Header())
		rw.WriteHeader(reply.Code)
		_, _ = rw.Write(reply.Body.Bytes())
	})
}

// since returns how often each action was called, and starts anew.
func (c *calls) since() (counts map[string]int, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts, total = c.counts, c.total
	c.counts, c.total = map[string]int{}, 0
	return counts, total
}

func newWorld(t *testing.T, config *rest.Config, latency aws.Profile) *world {
	t.Helper()
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	w := &world{
		T: t, Client: c, cloud: aws.New(aws.Options{Seed: 1, Latency: latency}), clock: clocktesting.NewFakeClock(time.Now()), nodes: map[string]string{},
		calls: &calls{counts: map[string]int{}},
	}
	t.Cleanup(w.clear)
	w.ec2 = w.cloud.Handler()
	if *endpoint != "" {
		target, err := url.Parse(*endpoint)
		require.NoError(t, err)
		w.ec2 = httputil.NewSingleHostReverseProxy(target)
	}
	w.api = w.connect(w.ec2)
	broadcaster := record.NewBroadcaster()
	t.Cleanup(broadcaster.Shutdown)
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: kubernetes.NewForConfigOrDie(config).CoreV1().Events("")})
	w.recorder = events.NewRecorder(broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "dovetail"}))
	w.restart()

	out, err := w.api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String("10.0.0.0/21")})
	require.NoError(t, err)
	w.vpc = *out.Vpc.VpcId
	w.table = w.routeTable()
	for i, zone := range []string{"us-east-1a", "us-east-1b", "us-east-1c"} {
		w.nodes[zone] = w.nodeSubnet(zone, "10.0."+string(rune('0'+i))+".0/24")
	}
	w.nodeClass("us-east-1a", "us-east-1b", "us-east-1c")
	return w
}

func (w *world) connect(handler http.Handler) *ec2.Client {
	server := httptest.NewServer(handler)
	w.Cleanup(server.Close)
	return ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
}

// restart the controller: it forgets all.
func (w *world) restart() {
	w.controller = provisioning.NewController(provisioning.Params{
		Client: w.Client, EC2: w.connect(w.calls.serve(w.ec2)), Cluster: cluster, Recorder: w.recorder, Clock: w.clock,
	})
}

// clear leaves the cluster to the next test as it was.
func (w *world) clear() {
	ctx := context.Background() // the test's own has ended
	networks := &v1alpha1.PodNetworkList{}
	require.NoError(w, w.List(ctx, networks))
	for _, network := range networks.Items {
		network.Finalizers = nil
		require.NoError(w, client.IgnoreNotFound(w.Update(ctx, &network)))
	}
	for _, object := range []client.Object{&v1alpha1.PodNetwork{}, &eniconfig.ENIConfig{}, &ec2nodeclass.EC2NodeClass{}} {
		require.NoError(w, w.DeleteAllOf(ctx, object))
	}
	require.NoError(w, w.DeleteAllOf(ctx, &corev1.Event{}, client.InNamespace(metav1.NamespaceDefault)))
}

func (w *world) routeTable() string {
	out, err := w.api.CreateRouteTable(w.Context(), &ec2.CreateRouteTableInput{VpcId: &w.vpc})
	require.NoError(w, err)
	return *out.RouteTable.RouteTableId
}

// subnet that somebody makes, once all of EC2 knows it.
func (w *world) subnet(zone, cidr string) string {
	w.Helper()
	out, err := w.api.CreateSubnet(w.Context(), &ec2.CreateSubnetInput{VpcId: &w.vpc, AvailabilityZone: &zone, CidrBlock: &cidr})
	require.NoError(w, err)
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		_, err := w.api.DescribeSubnets(w.Context(), &ec2.DescribeSubnetsInput{SubnetIds: []string{*out.Subnet.SubnetId}})
		assert.NoError(c, err)
	}, time.Minute, time.Millisecond)
	return *out.Subnet.SubnetId
}

func (w *world) nodeSubnet(zone, cidr string) string {
	w.Helper()
	id := w.subnet(zone, cidr)
	_, err := w.api.AssociateRouteTable(w.Context(), &ec2.AssociateRouteTableInput{RouteTableId: &w.table, SubnetId: &id})
	require.NoError(w, err)
	return id
}

func (w *world) associate(cidr string) {
	w.Helper()
	_, err := w.api.AssociateVpcCidrBlock(w.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: &w.vpc, CidrBlock: &cidr})
	require.NoError(w, err)
	require.Eventually(w, func() bool { return slices.Contains(w.blocks(), cidr+" associated") }, time.Minute, time.Millisecond)
}

// nodeClass default launches in these zones, as upstream's controller finds their subnets.
func (w *world) nodeClass(zones ...string) {
	w.Helper()
	nodeClass := &ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := w.Get(w.Context(), client.ObjectKeyFromObject(nodeClass), nodeClass); err != nil {
		nodeClass.Spec = ec2nodeclass.EC2NodeClassSpec{
			AMISelectorTerms:           []ec2nodeclass.AMISelectorTerm{{Alias: "al2023@latest"}},
			SubnetSelectorTerms:        []ec2nodeclass.SubnetSelectorTerm{{Tags: map[string]string{"karpenter.sh/discovery": "test"}}},
			SecurityGroupSelectorTerms: []ec2nodeclass.SecurityGroupSelectorTerm{{Tags: map[string]string{"karpenter.sh/discovery": "test"}}},
			Role:                       "node",
		}
		require.NoError(w, w.Create(w.Context(), nodeClass))
	}
	nodeClass.Status.Subnets = nil
	for _, zone := range zones {
		nodeClass.Status.Subnets = append(nodeClass.Status.Subnets, ec2nodeclass.Subnet{ID: w.nodes[zone], Zone: zone})
	}
	require.NoError(w, w.Client.Status().Update(w.Context(), nodeClass))
}

// declare PodNetwork default.
func (w *world) declare(change ...func(*v1alpha1.PodNetwork)) {
	w.Helper()
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.PodNetworkSpec{
		Provision: &v1alpha1.Provision{CIDRs: []string{"100.64.0.0/16"}},
	}}
	for _, f := range change {
		f(network)
	}
	require.NoError(w, w.Create(w.Context(), network))
}

func (w *world) network() *v1alpha1.PodNetwork {
	w.Helper()
	network := &v1alpha1.PodNetwork{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: "default"}, network))
	return network
}

func (w *world) change(change func(*v1alpha1.PodNetwork)) {
	w.Helper()
	network := w.network()
	change(network)
	require.NoError(w, w.Update(w.Context(), network))
}

// round of the controller, a time after the one before.
func (w *world) round(later time.Duration) (reconcile.Result, error) {
	w.Helper()
	w.clock.Step(later)
	return w.controller.Reconcile(w.Context(), w.network())
}

// settle runs rounds until the condition stands and the controller would rest, and returns it. Time is the controller's own; EC2 has a moment of real
// time for what it does by itself.
func (w *world) settle() status.Condition {
	w.Helper()
	var later time.Duration
	for range 60 {
		result, err := w.round(later)
		require.NoError(w, err)
		if result.RequeueAfter >= time.Minute {
			return w.condition()
		}
		later = result.RequeueAfter
		time.Sleep(10 * time.Millisecond)
	}
	require.FailNow(w, "it never came to rest", "%+v", w.condition())
	return status.Condition{}
}

func (w *world) condition() status.Condition {
	for _, c := range w.network().Status.Conditions {
		if c.Type == v1alpha1.ConditionProvisioned {
			return c
		}
	}
	return status.Condition{}
}

// blocks of the VPC with their states, but for those that are gone: EC2 may show them for a while.
func (w *world) blocks() (blocks []string) {
	out, err := w.api.DescribeVpcs(w.Context(), &ec2.DescribeVpcsInput{VpcIds: []string{w.vpc}})
	require.NoError(w, err)
	for _, b := range out.Vpcs[0].CidrBlockAssociationSet {
		if b.CidrBlockState.State != ec2types.VpcCidrBlockStateCodeDisassociated {
			blocks = append(blocks, *b.CidrBlock+" "+string(b.CidrBlockState.State))
		}
	}
	return blocks
}

// pods returns the subnets besides the node subnets: zone, CIDR, route table and reservations.
func (w *world) pods() (subnets []string) {
	w.Helper()
	out, err := w.api.DescribeSubnets(w.Context(), &ec2.DescribeSubnetsInput{Filters: w.ofVPC()})
	require.NoError(w, err)
	tables := w.tables()
	for _, s := range out.Subnets {
		if slices.Contains(slices.Collect(maps.Values(w.nodes)), *s.SubnetId) {
			continue
		}
		line := *s.AvailabilityZone + " " + *s.CidrBlock
		if tables[*s.SubnetId] == w.table {
			line += " routed"
		}
		reservations, err := w.api.GetSubnetCidrReservations(w.Context(), &ec2.GetSubnetCidrReservationsInput{SubnetId: s.SubnetId})
		require.NoError(w, err)
		for _, r := range reservations.SubnetIpv4CidrReservations {
			line += " " + *r.Cidr
		}
		subnets = append(subnets, line)
	}
	slices.Sort(subnets)
	return subnets
}

func (w *world) ofVPC() []ec2types.Filter {
	return []ec2types.Filter{{Name: awssdk.String("vpc-id"), Values: []string{w.vpc}}}
}

// tables returns the associations of subnets with route tables.
func (w *world) tables() map[string]string {
	w.Helper()
	out, err := w.api.DescribeRouteTables(w.Context(), &ec2.DescribeRouteTablesInput{Filters: w.ofVPC()})
	require.NoError(w, err)
	tables := map[string]string{}
	for _, table := range out.RouteTables {
		for _, a := range table.Associations {
			if a.SubnetId != nil {
				require.NotContains(w, tables, *a.SubnetId)
				tables[*a.SubnetId] = *table.RouteTableId
			}
		}
	}
	return tables
}

// configs returns the ENIConfigs and the CIDRs of their subnets.
func (w *world) configs() map[string]string {
	w.Helper()
	list := &eniconfig.ENIConfigList{}
	require.NoError(w, w.List(w.Context(), list))
	out, err := w.api.DescribeSubnets(w.Context(), &ec2.DescribeSubnetsInput{Filters: w.ofVPC()})
	require.NoError(w, err)
	configs := map[string]string{}
	for _, config := range list.Items {
		configs[config.Name] = "none"
		for _, s := range out.Subnets {
			if *s.SubnetId == config.Spec.Subnet {
				configs[config.Name] = *s.AvailabilityZone + " " + *s.CidrBlock
			}
		}
	}
	return configs
}

func (w *world) awaitEvent(kind, reason string) {
	w.Helper()
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		list := &corev1.EventList{}
		assert.NoError(c, w.List(w.Context(), list))
		assert.True(c, slices.ContainsFunc(list.Items, func(e corev1.Event) bool { return e.Type == kind && e.Reason == reason }), "%s %s", kind, reason)
	}, time.Minute, 20*time.Millisecond)
}
