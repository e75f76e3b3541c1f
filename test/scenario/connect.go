// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"

	vpccni "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	karpenteraws "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// clientQPS is kubectl's order of magnitude: the scenario's reads must not queue behind one another.
const clientQPS = 100

// connect makes the clients from what `dovetail sandbox env` says.
func (s *Sandbox) connect(ctx context.Context) error {
	if err := s.readEnv(ctx); err != nil {
		return err
	}
	restConfig, err := clientcmd.BuildConfigFromFlags("", s.env["KUBECONFIG"])
	if err != nil {
		return fmt.Errorf("kubeconfig %q of the sandbox: %w", s.env["KUBECONFIG"], err)
	}
	restConfig.QPS, restConfig.Burst = clientQPS, 2*clientQPS
	types, err := scheme()
	if err != nil {
		return err
	}
	if s.Kube, err = client.NewWithWatch(restConfig, client.Options{Scheme: types}); err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	account, err := config.LoadDefaultConfig(ctx,
		// The user's own profiles must not leak into the sandbox.
		config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}),
		config.WithRegion(s.env["AWS_REGION"]),
		config.WithBaseEndpoint(s.env["AWS_ENDPOINT_URL"]),
		config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(s.env["AWS_ACCESS_KEY_ID"], s.env["AWS_SECRET_ACCESS_KEY"], "")),
	)
	if err != nil {
		return fmt.Errorf("configuring the AWS SDK: %w", err)
	}
	s.EC2, s.eks = ec2.NewFromConfig(account), eks.NewFromConfig(account)
	return nil
}

// scheme knows the objects that the scenario reads and writes.
func scheme() (*runtime.Scheme, error) {
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, vpccni.AddToScheme} {
		if err := add(types); err != nil {
			return nil, err
		}
	}
	// Karpenter's packages have no AddToScheme: they register their types with client-go's global scheme.
	for version, objects := range map[schema.GroupVersion][]runtime.Object{
		{Group: "karpenter.sh", Version: "v1"}: {
			&karpenter.NodePool{}, &karpenter.NodePoolList{}, &karpenter.NodeClaim{}, &karpenter.NodeClaimList{},
		},
		{Group: "karpenter.k8s.aws", Version: "v1"}: {&karpenteraws.EC2NodeClass{}, &karpenteraws.EC2NodeClassList{}},
	} {
		metav1.AddToGroupVersion(types, version)
		types.AddKnownTypes(version, objects...)
	}
	return types, nil
}
