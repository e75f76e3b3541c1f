// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	karpenteraws "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// promisedMaxPods are the rows of the project's design: custom networking, prefixes, recommended caps. Each is launched with every AMI
// family.
var promisedMaxPods = []promise{
	{"m5.large", "amd64", 110, true},
	{"c5.xlarge", "amd64", 110, true},
	{"t3.small", "amd64", 98, true},
	{"c7g.medium", "arm64", 50, true},
}

// unlikeOthers are instance types whose addresses are easily counted wrong. One AMI family is enough for them: pkg/launch compares
// all types with all families.
var unlikeOthers = []promise{
	{"t2.small", "amd64", 8, false}, // Xen takes no prefixes
	{"m4.large", "amd64", 11, false},
	{"m5.metal", "amd64", 250, true},
	{"p4d.24xlarge", "amd64", 250, true}, // 4 network cards, of which one is for pods
	{"p5.48xlarge", "amd64", 250, true},  // 32 network cards, and one pod ENI
}

type promise struct {
	Type, Architecture string
	MaxPods            int
	Prefixes           bool
}

// amiFamilies are those whose user data name max-pods, each in a format of its own.
var amiFamilies = []string{karpenteraws.AMIFamilyAL2, karpenteraws.AMIFamilyAL2023, karpenteraws.AMIFamilyBottlerocket}

// evictionMiB is the kubelet's default threshold, which is not for pods either.
const evictionMiB = 100

// MaxPods is one instance type launched with one AMI family.
type MaxPods struct {
	Family, Type string
	Promised     int
	// TakesPrefixes is promised too. Prefixes counts those that the node has.
	TakesPrefixes bool
	Prefixes      int
	// Calculated offline by the command-line tool.
	Calculated int
	// Capacity and Allocatable of the Node object, its label, and the decoded user data.
	Capacity, Allocatable, UserData int
	Label                           string
	// ReservedMemoryMiB is what the Node's allocatable memory lacks of its capacity.
	ReservedMemoryMiB int64
}

// Check returns what is wrong.
func (m MaxPods) Check() error {
	for _, found := range []int{m.Calculated, m.Capacity, m.Allocatable, m.UserData} {
		if found != m.Promised || m.Label != strconv.Itoa(m.Promised) {
			return fmt.Errorf("%s with %s should hold %d pods: %d calculated, %d in the Node's capacity, %d allocatable, %d in the user data, label %q",
				m.Type, m.Family, m.Promised, m.Calculated, m.Capacity, m.Allocatable, m.UserData, m.Label)
		}
	}
	if want := int64(podcapacity.KubeReservedMemoryMiB(m.Promised) + evictionMiB); m.ReservedMemoryMiB != want {
		return fmt.Errorf("%s with %s should reserve %d MiB for %d pods, and reserves %d", m.Type, m.Family, want, m.Promised, m.ReservedMemoryMiB)
	}
	if m.TakesPrefixes != (m.Prefixes > 0) {
		return fmt.Errorf("%s with %s has %d prefixes", m.Type, m.Family, m.Prefixes)
	}
	return nil
}

// MaxPods launches a node of each instance type with each AMI family, by one pod each, and reads their max-pods. Those unlike others
// come with AL2023 only.
func (s *Sandbox) MaxPods(ctx context.Context) (results []MaxPods, err error) {
	var launches []launch
	var nodeClasses []*karpenteraws.EC2NodeClass
	defer cleanup(ctx, &err, func(ctx context.Context) error {
		problems := []error{s.endLaunches(ctx, launches)}
		for _, nodeClass := range nodeClasses {
			problems = append(problems, client.IgnoreNotFound(s.Kube.Delete(ctx, nodeClass)))
		}
		return errors.Join(problems...)
	})
	for _, family := range amiFamilies {
		nodeClass, err := s.nodeClassOf(ctx, family)
		if err != nil {
			return nil, err
		}
		if err := s.Kube.Create(ctx, nodeClass); err != nil {
			return nil, fmt.Errorf("creating EC2NodeClass %s: %w", nodeClass.Name, err)
		}
		nodeClasses = append(nodeClasses, nodeClass)
		rows := promisedMaxPods
		if family == karpenteraws.AMIFamilyAL2023 {
			rows = slices.Concat(rows, unlikeOthers)
		}
		for _, row := range rows {
			results = append(results, MaxPods{Family: family, Type: row.Type, Promised: row.MaxPods, TakesPrefixes: row.Prefixes})
			one, err := s.launch(ctx, launchParams{
				Name:      nodeClass.Name + "-" + strings.ReplaceAll(row.Type, ".", "-"),
				NodeClass: nodeClass.Name,
				Requirements: requirements{
					corev1.LabelInstanceTypeStable: {row.Type},
					corev1.LabelArchStable:         {row.Architecture},
				},
			})
			launches = append(launches, one)
			if err != nil {
				return nil, err
			}
		}
	}
	pods := make([]*corev1.Pod, len(launches))
	for i, one := range launches {
		pods[i] = one.pod
	}
	if pods, err = s.waitPods(ctx, pods); err != nil {
		return nil, err
	}
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	for i, pod := range pods {
		if err := s.readMaxPods(ctx, &results[i], pod, nodes); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// readMaxPods fills in what the node of the pod says.
func (s *Sandbox) readMaxPods(ctx context.Context, result *MaxPods, pod *corev1.Pod, nodes []Node) error {
	at := slices.IndexFunc(nodes, func(node Node) bool { return node.Name == pod.Spec.NodeName })
	if at < 0 {
		return fmt.Errorf("pod %s runs on %s, which Karpenter did not launch", pod.Name, pod.Spec.NodeName)
	}
	node := nodes[at]
	if node.Type != result.Type {
		return fmt.Errorf("pod %s runs on a %s, not a %s", pod.Name, node.Type, result.Type)
	}
	addr, err := podAddress(pod)
	if err != nil {
		return err
	}
	if _, ok := node.podENI(addr); !ok {
		return fmt.Errorf("pod %s on a %s with %s has %s, which is on no pod ENI of its node", pod.Name, result.Type, result.Family, addr)
	}
	result.Capacity, result.Allocatable, result.UserData = node.MaxPods, node.Allocatable, node.UserDataMaxPods
	result.Label, result.Prefixes, result.ReservedMemoryMiB = node.Labels[v1alpha1.LabelMaxPods], node.Prefixes(), node.ReservedMemory>>20
	result.Calculated, err = s.CalculatedMaxPods(ctx, node.Type, true)
	return err
}

// nodeClassOf is the examples' node class with another AMI family.
func (s *Sandbox) nodeClassOf(ctx context.Context, family string) (*karpenteraws.EC2NodeClass, error) {
	example, err := s.exampleNodeClass(ctx)
	if err != nil {
		return nil, err
	}
	nodeClass := &karpenteraws.EC2NodeClass{
		ObjectMeta: metav1.ObjectMeta{Name: "max-pods-" + strings.ToLower(family)},
		Spec:       *example.Spec.DeepCopy(),
	}
	switch family {
	case karpenteraws.AMIFamilyAL2:
		// EKS has no alias for AL2 from Kubernetes 1.33 on: what is left are images of one's own, by id.
		terms, err := s.al2Images(ctx)
		if err != nil {
			return nil, err
		}
		nodeClass.Spec.AMIFamily, nodeClass.Spec.AMISelectorTerms = aws.String(family), terms
	default:
		nodeClass.Spec.AMISelectorTerms = []karpenteraws.AMISelectorTerm{{Alias: strings.ToLower(family) + "@latest"}}
	}
	return nodeClass, nil
}

// al2Images selects the newest Amazon Linux 2 image of each architecture.
func (s *Sandbox) al2Images(ctx context.Context) ([]karpenteraws.AMISelectorTerm, error) {
	var terms []karpenteraws.AMISelectorTerm
	for _, name := range []string{"amazon-eks-node-1.*", "amazon-eks-arm64-node-1.*"} {
		out, err := s.EC2.DescribeImages(ctx, &ec2.DescribeImagesInput{
			Owners: []string{"amazon"}, Filters: []ec2types.Filter{{Name: aws.String("name"), Values: []string{name}}},
		})
		if err != nil {
			return nil, fmt.Errorf("looking for images: %w", err)
		}
		if len(out.Images) == 0 {
			return nil, fmt.Errorf("EC2 has no image %s", name)
		}
		newest := slices.MaxFunc(out.Images, func(a, b ec2types.Image) int {
			return strings.Compare(aws.ToString(a.CreationDate), aws.ToString(b.CreationDate))
		})
		terms = append(terms, karpenteraws.AMISelectorTerm{ID: aws.ToString(newest.ImageId)})
	}
	return terms, nil
}
