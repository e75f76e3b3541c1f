// SPDX-License-Identifier: Apache-2.0

package awsnode

import (
	_ "embed"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

//go:embed daemonset.yaml
var daemonSet string

// PolicyName of what the role of a node with aws-node may do: any node may make any ENI.
const PolicyName = "AmazonEKS_CNI_Policy"

// Policy is AWS's managed policy of this name.
//
//go:embed policy.json
var Policy string

// Image is the last element of the image's repository.
const Image = "aws-node"

// DaemonSet for a cluster; env is what the AWS SDK needs to know besides.
func DaemonSet(registry, cluster string, env ...corev1.EnvVar) (*appsv1.DaemonSet, error) {
	object := &appsv1.DaemonSet{}
	if err := yaml.UnmarshalStrict([]byte(strings.NewReplacer("REGISTRY", registry, "value: CLUSTER}", "value: "+cluster+"}").Replace(daemonSet)), object); err != nil {
		return nil, fmt.Errorf("DaemonSet aws-node: %w", err)
	}
	container := &object.Spec.Template.Spec.Containers[0]
	container.Env = append(container.Env, env...)
	return object, nil
}
