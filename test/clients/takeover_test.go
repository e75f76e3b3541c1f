// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

const takeoverPage = "../../docs/from-karpenter-chart.md"

// TestDovetailTakesOverFromKarpentersChart runs the commands of the page, as they are, on a cluster with upstream's controller and
// nodes that it launched.
func TestDovetailTakesOverFromKarpentersChart(t *testing.T) {
	programs := binDir()
	require.FileExists(t, filepath.Join(programs, "upstream-controller"), "make test-clients builds it")
	s, dir := newBareSandbox(t, programs)
	startNetwork(t, s)
	u := upstream{Sandbox: s, aws: cli{endpoint: variable(s, "AWS_ENDPOINT_URL"), env: environment(t)}}
	commands := newPage(t, u, dir)
	var workload scenario.Workload
	var before objects

	check(t, "upstream's controller launches nodes", func(t *testing.T) {
		installUpstream(t, s, dir, "upstream-controller")
		require.NoError(t, s.Remember(t.Context()))
		_, err := s.Apply(t.Context())
		require.NoError(t, err)
		workload, err = s.Workload(t.Context())
		require.NoError(t, err)
		u.running(t, workload)
		u.claims(t, "be initialized", func(claims []karpenter.NodeClaim) bool { return len(claims) > 0 && allInitialized(claims) })
		before = u.objects(t)
	})
	check(t, "Dovetail's chart is not installed beside it", func(t *testing.T) {
		out, err := commands.try(t, "5. Start Dovetail's controller")
		require.Error(t, err)
		require.Contains(t, out, "Karpenter's own controller runs in namespace kube-system, and two must never run at a time: kubectl -n kube-system scale deployment karpenter --replicas 0")
		require.Empty(t, u.pods(t, "app.kubernetes.io/component=controller"))
	})
	check(t, "its controller stops, and its definitions are another chart's", func(t *testing.T) {
		commands.run(t, "2. Keep the definitions")
		commands.run(t, "3. Stop upstream's controller")
		require.Empty(t, u.pods(t, "app.kubernetes.io/name=karpenter"))
		commands.run(t, "4. Take the definitions over")
		require.Equal(t, "dovetail-crd", u.owner(t, "nodepools.karpenter.sh"))
	})
	check(t, "Dovetail's goes on with what is there", func(t *testing.T) {
		commands.run(t, "5. Start Dovetail's controller")
		require.Empty(t, u.pods(t, "app.kubernetes.io/name=karpenter"), "never two")
		require.Len(t, u.pods(t, "app.kubernetes.io/component=controller"), 1)
		workload.Replicas += 3 // a node's worth
		u.scale(t, workload)
		u.running(t, workload)
		claims := u.claims(t, "be one more", func(claims []karpenter.NodeClaim) bool {
			return len(claims) == len(before.claims)+1 && allInitialized(claims)
		})
		for _, claim := range claims {
			require.False(t, claim.StatusConditions().IsTrue(karpenter.ConditionTypeDrifted), claim.Name)
		}
		before.remain(t, u.objects(t))
		u.compare(t, claims)
	})
	check(t, "upstream's charts go, and nothing else", func(t *testing.T) {
		with := u.objects(t)
		commands.run(t, "6. Remove upstream's charts")
		after := u.objects(t)
		before.remain(t, after)
		require.Equal(t, with, after)
		require.Equal(t, "dovetail-crd", u.owner(t, "nodeclaims.karpenter.sh"))
	})
	check(t, "Dovetail's controller ends the nodes that upstream's launched", func(t *testing.T) {
		left, _, err := s.ScaleToZero(t.Context(), workload, nil)
		require.NoError(t, err)
		require.True(t, left.None(), left.String())
		require.NoError(t, s.Delete(t.Context()))
	})
}

// page is the commands of documentation, each section's by its heading.
type page struct {
	sections map[string]string
	env      []string
	dir      string
}

var codeBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// newPage reads the page, and makes the folder and the values that it speaks of.
func newPage(t *testing.T, u upstream, dir string) page {
	t.Helper()
	kubectl, err := exec.LookPath("kubectl")
	require.NoError(t, err, "the page's commands need kubectl")
	p := page{sections: map[string]string{}, dir: t.TempDir()}
	p.env = append(u.Env(), "HOME="+dir, "HELM_CACHE_HOME="+dir+"/helm", "HELM_CONFIG_HOME="+dir+"/helm", "HELM_DATA_HOME="+dir+"/helm",
		"PATH="+strings.Join([]string{filepath.Join(binDir(), "tools"), filepath.Dir(kubectl), "/usr/bin", "/bin"}, ":"))
	charts, err := filepath.Abs("../../charts")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(charts, filepath.Join(p.dir, "charts")))

	content, err := os.ReadFile(takeoverPage)
	require.NoError(t, err)
	// The registry is not at hand: upstream's chart is in its Go module.
	from, to := `oci://public.ecr.aws/karpenter/karpenter-crd --version "$KARPENTER_VERSION"`, filepath.Join(binDir(), "upstream-charts", "karpenter-crd")
	require.Equal(t, 1, strings.Count(string(content), from))
	for _, section := range strings.Split(strings.Replace(string(content), from, to, 1), "\n## ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		for _, block := range codeBlock.FindAllStringSubmatch(text, -1) {
			p.sections[heading] += block[1]
		}
	}

	printed, err := u.Dovetail(t.Context(), "values")
	require.NoError(t, err)
	values := map[string]any{}
	require.NoError(t, yaml.Unmarshal([]byte(printed), &values))
	settings := values["settings"].(map[string]any)
	settings["interruptionQueue"], settings["eksControlPlane"] = settings["clusterName"], true // as upstream's
	content, err = yaml.Marshal(values)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(p.dir, "dovetail.yaml"), content, 0o600))
	return p
}

// run the commands of a section.
func (p page) run(t *testing.T, heading string) {
	t.Helper()
	out, err := p.try(t, heading)
	require.NoError(t, err, out)
	t.Log(out)
}

func (p page) try(t *testing.T, heading string) (string, error) {
	t.Helper()
	require.NotEmpty(t, p.sections[heading], "the page has no commands below %q", heading)
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", p.sections[heading])
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// objects that must stay the same, by UID.
type objects struct{ claims, classes, pools, nodes, pods map[types.UID]string }

func (u upstream) objects(t *testing.T) objects {
	t.Helper()
	list := func(kind, group, namespace string) map[types.UID]string {
		all := &metav1.PartialObjectMetadataList{TypeMeta: metav1.TypeMeta{Kind: kind + "List", APIVersion: group}}
		require.NoError(t, u.Kube.List(t.Context(), all, client.InNamespace(namespace)))
		found := map[types.UID]string{}
		for _, object := range all.Items {
			found[object.UID] = object.Name
		}
		return found
	}
	return objects{
		claims: list("NodeClaim", "karpenter.sh/v1", ""), pools: list("NodePool", "karpenter.sh/v1", ""),
		classes: list("EC2NodeClass", "karpenter.k8s.aws/v1", ""), nodes: list("Node", "v1", ""), pods: list("Pod", "v1", "default"),
	}
}

// remain requires that all of them are still there.
func (o objects) remain(t *testing.T, now objects) {
	t.Helper()
	for what, pair := range map[string][2]map[types.UID]string{
		"node claims": {o.claims, now.claims}, "node classes": {o.classes, now.classes}, "node pools": {o.pools, now.pools},
		"nodes": {o.nodes, now.nodes}, "pods": {o.pods, now.pods},
	} {
		require.NotEmpty(t, pair[0], what)
		require.Subset(t, slices.Collect(maps.Keys(pair[1])), slices.Collect(maps.Keys(pair[0])), what)
	}
}

func (u upstream) pods(t *testing.T, selector string) []corev1.Pod {
	t.Helper()
	labels, err := metav1.ParseToLabelSelector(selector)
	require.NoError(t, err)
	matching, err := metav1.LabelSelectorAsSelector(labels)
	require.NoError(t, err)
	var pods corev1.PodList
	require.NoError(t, u.Kube.List(t.Context(), &pods, client.InNamespace(systemNamespace), client.MatchingLabelsSelector{Selector: matching}))
	return pods.Items
}

// owner is the release that a definition belongs to.
func (u upstream) owner(t *testing.T, definition string) string {
	t.Helper()
	found := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{Kind: "CustomResourceDefinition", APIVersion: apiextensionsv1.SchemeGroupVersion.String()}}
	require.NoError(t, u.Kube.Get(t.Context(), client.ObjectKey{Name: definition}, found))
	return found.Annotations["meta.helm.sh/release-name"]
}
