// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// Node classes of the world are named after how their pods get addresses.
const (
	withoutNetwork  = "none"
	oneENIConfig    = "one"
	threeENIConfigs = "three"
	static          = "static"
	flexible        = "flexible"
)

var nodeClasses = []string{withoutNetwork, oneENIConfig, threeENIConfigs, static, flexible}

// world is a simulated account and an API server with objects as controllers leave them: none runs, so that what is measured runs
// alone. On it are two assemblies of providers.
type world struct {
	client.Client
	account            *account
	upstream, dovetail *side
}

func newWorld(t *testing.T) *world {
	t.Helper()
	config := chartstest.StartAPIServer(t)
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	w := &world{Client: c, account: newAccount(t, simulator.Profile{})}
	for _, name := range nodeClasses {
		w.nodeClass(t, name)
	}
	for name, subnet := range w.account.podSubnets {
		require.NoError(t, w.Create(t.Context(), eniConfig(name, subnet)))
	}
	w.network(t, oneENIConfig, v1alpha1.PodNetworkSpec{}, zones)
	w.network(t, threeENIConfigs, v1alpha1.PodNetworkSpec{ENIConfigs: v1alpha1.ENIConfigs{NodeLabel: v1alpha1.LabelENIConfig}},
		slices.DeleteFunc(slices.Sorted(maps.Keys(w.account.podSubnets)), func(name string) bool { return slices.Contains(zones, name) }))
	w.network(t, static, v1alpha1.PodNetworkSpec{Addressing: v1alpha1.Addressing{Allocation: v1alpha1.AllocationStatic}}, zones)
	w.network(t, flexible, v1alpha1.PodNetworkSpec{InstanceTypes: v1alpha1.Flexible}, zones)
	setEnvironment(t, kubeconfig(t, config))
	w.upstream, w.dovetail = newUpstream(t, w.account), newDovetail(t, w.account)
	return w
}

func (w *world) nodeClass(t *testing.T, name string) {
	t.Helper()
	images, err := w.account.ec2.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: aws.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(t, err)
	class := nodeClass(name, w.account)
	require.NoError(t, w.Create(t.Context(), class))
	class.Status = ec2nodeclass.EC2NodeClassStatus{
		Subnets: w.account.nodeSubnets, InstanceProfile: role, SecurityGroups: []ec2nodeclass.SecurityGroup{{ID: w.account.group}},
		AMIs: []ec2nodeclass.AMI{{ID: *images.Images[0].ImageId, Requirements: []corev1.NodeSelectorRequirement{
			{Key: corev1.LabelArchStable, Operator: corev1.NodeSelectorOpIn, Values: []string{karpv1.ArchitectureAmd64}},
		}}},
	}
	for _, condition := range class.StatusConditions().List() {
		if condition.Type != "Ready" {
			class.StatusConditions().SetTrue(condition.Type)
		}
	}
	require.NoError(t, w.Status().Update(t.Context(), class))
}

func nodeClass(name string, a *account) *ec2nodeclass.EC2NodeClass {
	class := &ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"bench": name}}, Spec: ec2nodeclass.EC2NodeClassSpec{
		AMISelectorTerms: []ec2nodeclass.AMISelectorTerm{{Alias: "al2023@latest"}}, Role: role,
		SecurityGroupSelectorTerms: []ec2nodeclass.SecurityGroupSelectorTerm{{ID: a.group}},
	}}
	for _, s := range a.nodeSubnets {
		class.Spec.SubnetSelectorTerms = append(class.Spec.SubnetSelectorTerms, ec2nodeclass.SubnetSelectorTerm{ID: s.ID})
	}
	return class
}

func eniConfig(name string, subnet podSubnet) *eniconfig.ENIConfig {
	return &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: eniconfig.ENIConfigSpec{Subnet: subnet.id}}
}

// network serves the node class of its name.
func (w *world) network(t *testing.T, name string, spec v1alpha1.PodNetworkSpec, eniConfigs []string) {
	t.Helper()
	spec.NodeClassSelector = metav1.LabelSelector{MatchLabels: map[string]string{"bench": name}}
	n := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	require.NoError(t, w.Create(t.Context(), n))
	for _, eniConfig := range eniConfigs {
		subnet := w.account.podSubnets[eniConfig]
		n.Status.Zones = append(n.Status.Zones, v1alpha1.ZoneStatus{Zone: subnet.zone, ENIConfig: eniConfig, Subnet: subnet.id})
	}
	require.NoError(t, w.Status().Update(t.Context(), n))
}

// kubeconfig writes what a controller's process reads.
func kubeconfig(t *testing.T, config *rest.Config) string {
	t.Helper()
	c := clientcmdapi.NewConfig()
	c.Clusters["bench"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	c.AuthInfos["bench"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken}
	c.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	c.CurrentContext = "bench"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(*c, file))
	return file
}

// environment of a controller: what the charts set, and ports that are free.
func environment(kubeconfig string) map[string]string {
	return map[string]string{
		"KUBECONFIG": kubeconfig, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench",
		"CLUSTER_NAME": cluster, "CLUSTER_ENDPOINT": "https://10.0.0.9", "DISABLE_LEADER_ELECTION": "true",
		"METRICS_PORT": "0", "HEALTH_PROBE_PORT": "0", "LOG_LEVEL": "error",
	}
}

// setEnvironment makes this process look like a controller's to core's operator, which reads the command line itself.
func setEnvironment(t *testing.T, kubeconfig string) {
	t.Helper()
	for key, value := range environment(kubeconfig) {
		t.Setenv(key, value)
	}
	args := os.Args
	os.Args = args[:1]
	t.Cleanup(func() { os.Args = args })
}

// nodePool of a node class.
func nodePool(nodeClass string) *karpv1.NodePool {
	return &karpv1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: nodeClass},
		Spec: karpv1.NodePoolSpec{Template: karpv1.NodeClaimTemplate{Spec: karpv1.NodeClaimTemplateSpec{
			NodeClassRef: classRef(nodeClass), Requirements: requirements(), ExpireAfter: karpv1.MustParseNillableDuration("Never"),
		}}},
	}
}

// requirements as in our examples: x86, on demand, hundreds of instance types.
func requirements() []karpv1.NodeSelectorRequirementWithMinValues {
	require := func(key string, operator corev1.NodeSelectorOperator, values ...string) karpv1.NodeSelectorRequirementWithMinValues {
		return karpv1.NodeSelectorRequirementWithMinValues{Key: key, Operator: operator, Values: values}
	}
	return []karpv1.NodeSelectorRequirementWithMinValues{
		require(corev1.LabelOSStable, corev1.NodeSelectorOpIn, "linux"),
		require(corev1.LabelArchStable, corev1.NodeSelectorOpIn, karpv1.ArchitectureAmd64),
		require(karpv1.CapacityTypeLabelKey, corev1.NodeSelectorOpIn, karpv1.CapacityTypeOnDemand),
		require(ec2nodeclass.LabelInstanceCategory, corev1.NodeSelectorOpIn, "c", "m", "r"),
		require(ec2nodeclass.LabelInstanceGeneration, corev1.NodeSelectorOpGt, "4"),
	}
}

func classRef(name string) *karpv1.NodeClassReference {
	return &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: name}
}

func describe(class string) string {
	return map[string]string{
		withoutNetwork: "Dovetail, no PodNetwork", oneENIConfig: "Dovetail, 1 ENIConfig a zone", threeENIConfigs: "Dovetail, 3 ENIConfigs a zone",
		static: "Dovetail, 1 ENIConfig a zone, static", flexible: "Dovetail, 1 ENIConfig a zone, Flexible",
	}[class]
}
