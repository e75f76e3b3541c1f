// SPDX-License-Identifier: Apache-2.0

// Package cli is what the commands share that look at a cluster: how they reach it, what they say when something is not
// installed there, and how they print.
package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	_ "github.com/aws/karpenter-provider-aws/pkg/apis/v1" // its init registers EC2NodeClass
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	_ "sigs.k8s.io/karpenter/pkg/apis/v1" // NodePool and NodeClaim

	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Cluster is the one that kubectl's flags name.
type Cluster struct {
	flags *genericclioptions.ConfigFlags
}

// NewCluster has kubectl's flags; AddFlags gives them to a command.
func NewCluster() *Cluster { return &Cluster{genericclioptions.NewConfigFlags(true)} }

// AddFlags adds --kubeconfig, --context, --namespace and their like.
func (c *Cluster) AddFlags(flags *pflag.FlagSet) { c.flags.AddFlags(flags) }

// Namespace that the flags or the kubeconfig name.
func (c *Cluster) Namespace() (string, error) {
	namespace, _, err := c.flags.ToRawKubeConfigLoader().Namespace()
	return namespace, Explain(err)
}

// Client reads, writes and watches the cluster's objects.
func (c *Cluster) Client() (client.WithWatch, error) {
	// With nothing configured, kubectl's own loader takes it for http://localhost:8080.
	raw, err := c.flags.ToRawKubeConfigLoader().RawConfig()
	_, inCluster := os.LookupEnv("KUBERNETES_SERVICE_HOST")
	if err == nil && clientcmdapi.IsConfigEmpty(&raw) && *c.flags.APIServer == "" && !inCluster {
		return nil, Explain(clientcmd.ErrEmptyConfig)
	}
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, Explain(err)
	}
	// A command asks a few dozen questions at once and ends: client-go's default of 5 a second is for controllers.
	config.QPS, config.Burst = 50, 100
	apis.Register(scheme.Scheme) // where Karpenter's packages have put their kinds
	found, err := client.NewWithWatch(config, client.Options{Scheme: scheme.Scheme})
	return found, Explain(err)
}

// Host is the API server's address.
func (c *Cluster) Host() (string, error) {
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return "", Explain(err)
	}
	return config.Host, nil
}

// Discovery asks the API server what it is and what it serves.
func (c *Cluster) Discovery() (discovery.DiscoveryInterface, error) {
	found, err := c.flags.ToDiscoveryClient()
	return found, Explain(err)
}

// Explain says what to do about an error that comes from reaching a cluster, or from what it lacks. nil stays nil.
func Explain(err error) error {
	var unreachable *url.Error
	group := missingGroup(err)
	switch {
	case err == nil:
		return nil
	case clientcmd.IsEmptyConfig(err):
		return errors.New("no cluster is configured: set KUBECONFIG, or give --kubeconfig or --server")
	case group != "":
		return fmt.Errorf("this cluster has no kinds of %s: %s", group, installHint(group))
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the cluster does not accept these credentials: %w", err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("these credentials may not do that in this cluster: %w", err)
	case errors.As(err, &unreachable):
		return fmt.Errorf("the cluster cannot be reached (--kubeconfig, --context and --server say which): %w", err)
	}
	return err
}

// missingGroup is the API group that the cluster does not serve, "" when the error is another.
func missingGroup(err error) string {
	var kind *meta.NoKindMatchError
	var resource *meta.NoResourceMatchError
	switch {
	case errors.As(err, &kind):
		return kind.GroupKind.Group
	case errors.As(err, &resource):
		return resource.PartialResource.Group
	}
	return ""
}

func installHint(group string) string {
	switch group {
	case v1alpha1.Group:
		return "Dovetail is not installed in it, or only in part; install the chart dovetail-crd, then the chart dovetail"
	case eniconfigGroup:
		return "install the chart dovetail-crd, or the Amazon VPC CNI's custom resource"
	default:
		return "Karpenter is not installed in it; the chart dovetail-crd has its kinds, and the chart dovetail its controller"
	}
}

// List reads all objects of a kind. A kind that the cluster does not know is installed false, and no error.
func List(ctx context.Context, c client.Reader, list client.ObjectList, opts ...client.ListOption) (installed bool, err error) {
	err = c.List(ctx, list, opts...)
	if missingGroup(err) != "" {
		return false, nil
	}
	return err == nil, Explain(err)
}

const eniconfigGroup = "crd.k8s.amazonaws.com"
