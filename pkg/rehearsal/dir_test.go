// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis"
)

func TestMain(m *testing.M) {
	apis.Register(scheme.Scheme)
	os.Exit(m.Run())
}

func small(t *testing.T) *Cluster {
	t.Helper()
	c, err := FromDir("testdata/small")
	require.NoError(t, err)
	require.NoError(t, c.Check())
	return c
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

func TestADirectoryIsReadWithoutWhatIsSecret(t *testing.T) {
	c := small(t)
	require.Len(t, c.Nodes, 10)
	require.Len(t, c.Budgets, 1)
	require.Equal(t, 40+19+1+10, c.Pods())
	require.Len(t, c.NodePools[0].Spec.Disruption.Budgets, 1, "without the one with a schedule")
	notes := c.Simplified()
	require.Contains(t, notes, "left out: Secret")
	require.Contains(t, notes, "EC2NodeClass default: without user data")
	require.Contains(t, notes, "StatefulSet shop/queue: without its volumes, and the zones that these lie in")

	web := c.Workloads[2].(*appsv1.Deployment)
	require.Equal(t, "web", web.Name)
	require.Len(t, web.Spec.Template.Spec.Containers, 1)
	want := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("150m"), corev1.ResourceMemory: resource.MustParse("96Mi")}
	require.Empty(t, cmp.Diff(want, web.Spec.Template.Spec.Containers[0].Resources.Requests), "what is limited only is asked for as well")
	require.Len(t, web.Spec.Template.Spec.TopologySpreadConstraints, 1)

	dir := t.TempDir()
	require.NoError(t, c.Write(dir, false))
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Len(t, files, 8)
	for _, file := range files {
		content := read(t, file)
		for _, secret := range []string{"secret", "example.com", "--password", "ami-", "nodes-of-production", "Secret"} {
			require.NotContains(t, content, secret, file)
		}
	}

	again, err := FromDir(dir)
	require.NoError(t, err)
	require.Empty(t, again.Simplified(), "what was taken is taken whole")
	require.NoError(t, again.Check())
	second := t.TempDir()
	require.NoError(t, again.Write(second, false))
	for _, file := range files {
		require.Equal(t, read(t, file), read(t, filepath.Join(second, filepath.Base(file))))
	}
	require.ErrorContains(t, c.Write(dir, false), "--force overwrites it")
	require.NoError(t, c.Write(dir, true))
}

func TestAMistakeInADirectoryIsNamedWithItsFileAndObject(t *testing.T) {
	const vpc = "cidrs: [10.0.0.0/24]\nsubnets: [{id: subnet-1, zone: us-east-1a, cidr: 10.0.0.0/24}]\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"no shape of the VPC": {map[string]string{"a.yaml": "{}"}, []string{"has no vpc.yaml", "--write DIR"}},
		"no YAML":             {map[string]string{"vpc.yaml": vpc, "a.yaml": "a: [b"}, []string{"a.yaml: "}},
		"a wrong type":        {map[string]string{"vpc.yaml": vpc, "b/a.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {replicas: many}\n"}, []string{"b/a.yaml: Deployment shop/web: ", "replicas"}},
		"another API version": {map[string]string{"vpc.yaml": vpc, "a.yml": "apiVersion: karpenter.sh/v1beta1\nkind: NodePool\nmetadata: {name: old}\n"}, []string{"a.yml: NodePool old: karpenter.sh/v1beta1 is not"}},
		"no kind":             {map[string]string{"vpc.yaml": vpc, "a.json": `{"metadata": {"name": "x"}}`}, []string{`a.json: an object "x" has no kind`}},
		"no name":             {map[string]string{"vpc.yaml": vpc, "a.yaml": "apiVersion: v1\nkind: Pod\n"}, []string{"a.yaml: Pod has no name"}},
		"a typo in vpc.yaml":  {map[string]string{"vpc.yaml": "cidr: 10.0.0.0/24\n"}, []string{"vpc.yaml: ", `unknown field "cidr"`}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range test.files {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o750))
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600))
			}
			_, err := FromDir(dir)
			for _, want := range test.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
	_, err := FromDir("testdata/none")
	require.Error(t, err)
}

func TestAnUnknownFieldIsSaidAndLeftOut(t *testing.T) {
	c := &Cluster{}
	path := filepath.Join(t.TempDir(), "a.yaml")
	require.NoError(t, os.WriteFile(path, []byte("apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {name: web}\n  spec: {replica: 3, selector: {}}\n"), 0o600))
	require.NoError(t, c.readFile(path))
	require.Len(t, c.Workloads, 1)
	require.Contains(t, c.Simplified()[0], `unknown field "replica"`)
}

func TestAChangeIsWhatAPersonApplies(t *testing.T) {
	change, err := ReadChange("testdata/small.yaml")
	require.NoError(t, err)
	require.Equal(t, []string{"ENIConfig eu-west-1a", "ENIConfig eu-west-1b", "ENIConfig eu-west-1c", "PodNetwork default", "NodeMigration old"},
		lo.Map(change.Objects(), func(o client.Object, _ int) string { return nameOf(o) }))
	_, err = ReadChange("testdata/small/workloads.yaml")
	require.ErrorContains(t, err, "more than a change is made of")
	empty := filepath.Join(t.TempDir(), "empty.yaml")
	require.NoError(t, os.WriteFile(empty, []byte("# nothing\n"), 0o600))
	_, err = ReadChange(empty)
	require.ErrorContains(t, err, "nothing to rehearse")
}
