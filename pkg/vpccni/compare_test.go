// SPDX-License-Identifier: Apache-2.0

package vpccni_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/vpccni"
)

func network(change ...func(*v1alpha1.PodNetworkSpec)) *v1alpha1.PodNetwork {
	n := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	n.Spec.Agent = v1alpha1.AgentVPCCNI
	for _, f := range change {
		f(&n.Spec)
	}
	return n
}

// fitting is the least that aws-node must be told for a PodNetwork of defaults.
func fitting(change map[string]string) vpccni.Environment {
	values := map[string]string{
		"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true", "ENI_CONFIG_LABEL_DEF": "topology.kubernetes.io/zone",
		"ENABLE_PREFIX_DELEGATION": "true", "WARM_PREFIX_TARGET": "1",
	}
	maps.Copy(values, change)
	maps.DeleteFunc(values, func(_, value string) bool { return value == unset })
	return vpccni.Environment{Values: values}
}

const unset = "(unset)"

func TestCompare(t *testing.T) {
	type spec = v1alpha1.PodNetworkSpec
	warm := func(w v1alpha1.Warm) func(*spec) { return func(s *spec) { s.Addressing.Warm = &w } }
	singles := func(s *spec) { s.Addressing.PrefixDelegation = v1alpha1.Disabled }
	excluding := func(cidrs ...string) func(*spec) { return func(s *spec) { s.SNAT.ExcludeCIDRs = cidrs } }
	fatally := func(variable string) string { return variable + "!" }
	for name, test := range map[string]struct {
		environment map[string]string
		network     *v1alpha1.PodNetwork
		reserved    int
		differs     []string // variables; with a ! those that are fatal
	}{
		"as it must be": {nil, network(), 0, nil},
		"as it is installed by default": {
			map[string]string{"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "false", "ENI_CONFIG_LABEL_DEF": unset, "ENABLE_PREFIX_DELEGATION": "false", "WARM_ENI_TARGET": "1"}, network(), 0,
			[]string{"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG!", "ENI_CONFIG_LABEL_DEF!", "ENABLE_PREFIX_DELEGATION!"},
		},
		"booleans are read as Go reads them":          {map[string]string{"ENABLE_PREFIX_DELEGATION": "T", "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "1"}, network(), 0, nil},
		"a boolean that is none means the default":    {map[string]string{"ENABLE_PREFIX_DELEGATION": "yes"}, network(), 0, []string{fatally("ENABLE_PREFIX_DELEGATION")}},
		"an empty label means aws-node's own":         {map[string]string{"ENI_CONFIG_LABEL_DEF": ""}, network(), 0, []string{fatally("ENI_CONFIG_LABEL_DEF")}},
		"aws-node's own label, unset":                 {map[string]string{"ENI_CONFIG_LABEL_DEF": unset}, network(func(s *spec) { s.ENIConfigs.NodeLabel = v1alpha1.LabelENIConfig }), 0, nil},
		"prefixes that the network does not want":     {nil, network(singles), 0, []string{"ENABLE_PREFIX_DELEGATION"}},
		"single addresses need no warm prefix":        {map[string]string{"ENABLE_PREFIX_DELEGATION": "false", "WARM_PREFIX_TARGET": unset}, network(singles), 0, nil},
		"single addresses keep one ENI warm":          {map[string]string{"ENABLE_PREFIX_DELEGATION": "false", "WARM_ENI_TARGET": "0"}, network(singles), 0, []string{"WARM_ENI_TARGET"}},
		"as many ENIs as asked for":                   {map[string]string{"ENABLE_PREFIX_DELEGATION": "false", "WARM_ENI_TARGET": "2"}, network(singles, warm(v1alpha1.Warm{ENITarget: lo.ToPtr[int32](2)})), 0, nil},
		"with prefixes no ENI target is looked at":    {map[string]string{"WARM_ENI_TARGET": "7"}, network(), 0, nil},
		"without the manifest's default no prefix":    {map[string]string{"WARM_PREFIX_TARGET": unset}, network(), 0, []string{"WARM_PREFIX_TARGET"}},
		"another warm prefix target":                  {nil, network(warm(v1alpha1.Warm{PrefixTarget: lo.ToPtr[int32](2)})), 0, []string{"WARM_PREFIX_TARGET"}},
		"an address target wins over prefixes":        {map[string]string{"WARM_IP_TARGET": "5"}, network(), 0, []string{"WARM_IP_TARGET"}},
		"address targets as asked for":                {map[string]string{"WARM_IP_TARGET": "5", "MINIMUM_IP_TARGET": "16", "WARM_PREFIX_TARGET": "9"}, network(warm(v1alpha1.Warm{IPTarget: lo.ToPtr[int32](5), MinimumIPTarget: lo.ToPtr[int32](16)})), 0, nil},
		"address targets that are missing":            {nil, network(warm(v1alpha1.Warm{IPTarget: lo.ToPtr[int32](5), MinimumIPTarget: lo.ToPtr[int32](16)})), 0, []string{"WARM_IP_TARGET", "MINIMUM_IP_TARGET"}},
		"a negative target means the default":         {map[string]string{"WARM_IP_TARGET": "-1"}, network(), 0, nil},
		"another cooldown":                            {map[string]string{"IP_COOLDOWN_PERIOD": "60"}, network(), 0, []string{"IP_COOLDOWN_PERIOD"}},
		"a cooldown of parts of a second, rounded up": {map[string]string{"IP_COOLDOWN_PERIOD": "2"}, network(func(s *spec) { s.Addressing.Cooldown = &metav1.Duration{Duration: 1500 * time.Millisecond} }), 0, nil},
		"translation by somebody else":                {map[string]string{"AWS_VPC_K8S_CNI_EXTERNALSNAT": "true"}, network(), 0, []string{"AWS_VPC_K8S_CNI_EXTERNALSNAT"}},
		"no translation, and nothing to exclude":      {map[string]string{"AWS_VPC_K8S_CNI_EXTERNALSNAT": "true", "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "none"}, network(excluding("10.0.0.0/8"), func(s *spec) { s.SNAT.Policy = v1alpha1.SNATNone }), 0, nil},
		"excluded CIDRs in another order":             {map[string]string{"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": " 192.168.0.0/16,10.1.2.3/8,10.0.0.0/8"}, network(excluding("10.0.0.0/8", "192.168.0.0/16")), 0, nil},
		"excluded CIDRs, one missing":                 {map[string]string{"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "10.0.0.0/8"}, network(excluding("10.0.0.0/8", "192.168.0.0/16")), 0, []string{"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"}},
		"excluded CIDRs, one too many":                {map[string]string{"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "10.0.0.0/8"}, network(), 0, []string{"AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"}},
		"ports at random, in whatever way":            {map[string]string{"AWS_VPC_K8S_CNI_RANDOMIZESNAT": "hashrandom"}, network(), 0, nil},
		"ports in sequence":                           {map[string]string{"AWS_VPC_K8S_CNI_RANDOMIZESNAT": "none"}, network(), 0, []string{"AWS_VPC_K8S_CNI_RANDOMIZESNAT"}},
		"ports in sequence, as asked for":             {map[string]string{"AWS_VPC_K8S_CNI_RANDOMIZESNAT": "none"}, network(func(s *spec) { s.SNAT.RandomizePorts = lo.ToPtr(false) }), 0, nil},
		"security groups for pods take an ENI":        {map[string]string{"ENABLE_POD_ENI": "true"}, network(), 0, []string{"ENABLE_POD_ENI"}},
		"security groups for pods, reserved for":      {map[string]string{"ENABLE_POD_ENI": "true"}, network(), 1, nil},
		"fewer ENIs than max-pods counts":             {map[string]string{"MAX_ENI": "2"}, network(), 0, []string{"MAX_ENI"}},
		"no ENI for pods":                             {map[string]string{"MAX_ENI": "1"}, network(), 0, []string{fatally("MAX_ENI")}},
		"a MAX_ENI that aws-node does not take":       {map[string]string{"MAX_ENI": "0"}, network(), 0, nil},
		"IPv6":                                        {map[string]string{"ENABLE_IPv6": "true"}, network(), 0, []string{fatally("ENABLE_IPv6")}},
		"nobody attaches ENIs":                        {map[string]string{"ENABLE_IMDS_ONLY_MODE": "true", "DISABLE_NETWORK_RESOURCE_PROVISIONING": "true"}, network(), 0, []string{fatally("DISABLE_NETWORK_RESOURCE_PROVISIONING"), fatally("ENABLE_IMDS_ONLY_MODE")}},
		"variables that do not bear on the network":   {map[string]string{"AWS_VPC_K8S_CNI_LOGLEVEL": "DEBUG", "ENABLE_SUBNET_DISCOVERY": "true"}, network(), 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			environment := fitting(test.environment)
			comparison := vpccni.Compare(environment, test.network, test.reserved)
			require.Equal(t, test.differs, lo.Ternary(len(comparison.Differences) == 0, nil, lo.Map(comparison.Differences, func(d vpccni.Difference, _ int) string {
				return lo.Ternary(d.Fatal, fatally(d.Variable), d.Variable)
			})), "%v", comparison.Differences)
			require.Empty(t, comparison.Unseen)

			for _, d := range comparison.Differences { // what the message says to do ends them
				environment.Values[d.Variable] = d.Must
				if d.Must == "" {
					delete(environment.Values, d.Variable)
				}
			}
			require.Empty(t, vpccni.Compare(environment, test.network, test.reserved).Differences)
		})
	}
}

func TestADifferenceSaysWhatIsAndWhatToDo(t *testing.T) {
	differences := vpccni.Compare(fitting(map[string]string{"ENABLE_PREFIX_DELEGATION": unset, "MAX_ENI": "4"}), network(), 0).Differences
	require.Equal(t, `ENABLE_PREFIX_DELEGATION is unset (which means "false") and must be "true": spec.addressing.prefixDelegation, from which max-pods is computed; `+
		`MAX_ENI is "4" and must not be set: max-pods counts all ENIs of an instance type; to have fewer pods on a node set spec.maxPods.limit; `+
		`to change: kubectl -n kube-system set env daemonset aws-node -c aws-node ENABLE_PREFIX_DELEGATION=true MAX_ENI-`, vpccni.Describe(differences))
}

func TestWhatCannotBeSeenIsSaidAndNotTakenForADefault(t *testing.T) {
	environment := vpccni.EnvironmentOf(corev1.Container{Env: []corev1.EnvVar{
		{Name: "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", Value: "false"},
		{Name: "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", Value: "true"}, // the last counts
		{Name: "ENI_CONFIG_LABEL_DEF", Value: "topology.kubernetes.io/zone"},
		{Name: "WARM_PREFIX_TARGET", Value: "1"},
		{Name: "ENABLE_PREFIX_DELEGATION", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "amazon-vpc-cni"}, Key: "prefixes",
		}}},
		{Name: "MY_NODE_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
	}})
	comparison := vpccni.Compare(environment, network(), 0)
	require.Empty(t, comparison.Differences)
	require.Equal(t, []string{"ENABLE_PREFIX_DELEGATION (key prefixes of ConfigMap amazon-vpc-cni)"}, comparison.Unseen)

	environment = vpccni.EnvironmentOf(corev1.Container{
		Env:     []corev1.EnvVar{{Name: "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG", Value: "false"}},
		EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cni"}}}},
	})
	comparison = vpccni.Compare(environment, network(), 0)
	require.Len(t, comparison.Differences, 1, "what is written in the DaemonSet wins over envFrom")
	require.Contains(t, comparison.Unseen, "ENABLE_PREFIX_DELEGATION (ConfigMap cni)")
}

func TestTheDocumentationTellsOfEachVariable(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "vpc-cni.md"))
	require.NoError(t, err)
	for _, prefixes := range []v1alpha1.Toggle{v1alpha1.Enabled, v1alpha1.Disabled} {
		n := network(func(s *v1alpha1.PodNetworkSpec) { s.Addressing.PrefixDelegation = prefixes })
		for _, unseen := range vpccni.Compare(vpccni.Environment{Sources: []string{"elsewhere"}}, n, 0).Unseen {
			name, _, _ := strings.Cut(unseen, " ")
			require.Contains(t, string(page), "`"+name+"`")
		}
	}
}
