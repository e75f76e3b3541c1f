// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// completionTimeout is as long as somebody who has pressed a key waits.
const completionTimeout = 3 * time.Second

// What arguments are completed with.
var (
	CompletePodNetworks    = completeOne(v1alpha1.GroupVersion.WithKind("PodNetwork"), false)
	CompleteNodeMigrations = completeOne(v1alpha1.GroupVersion.WithKind("NodeMigration"), false)
	CompleteNodes          = completeOne(corev1.SchemeGroupVersion.WithKind("Node"), false)
	CompletePods           = completeOne(corev1.SchemeGroupVersion.WithKind("Pod"), true)
	completeNamespaces     = complete(corev1.SchemeGroupVersion.WithKind("Namespace"), false)
)

// CompleteFlags of a command and those below it: what a kubeconfig and its cluster know, and -o.
func CompleteFlags(command *cobra.Command) {
	for name, f := range map[string]cobra.CompletionFunc{
		"namespace":   completeNamespaces,
		"pod-network": CompletePodNetworks,
		"context":     completeContexts,
		"output":      cobra.FixedCompletions([]string{outputJSON}, cobra.ShellCompDirectiveNoFileComp),
	} {
		if command.Flags().Lookup(name) == nil {
			continue
		}
		if _, own := command.GetFlagCompletionFunc(name); !own {
			_ = command.RegisterFlagCompletionFunc(name, f) // it has the flag, and no function
		}
	}
	for _, below := range command.Commands() {
		CompleteFlags(below)
	}
}

// completeOne completes a command's only argument.
func completeOne(kind schema.GroupVersionKind, namespaced bool) cobra.CompletionFunc {
	names := complete(kind, namespaced)
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return names(cmd, args, begun)
	}
}

// complete with the names of the cluster's objects of a kind. A cluster that does not answer has none.
func complete(kind schema.GroupVersionKind, namespaced bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		cluster := clusterOf(cmd.Flags())
		c, err := cluster.Client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var opts []client.ListOption
		if namespace, err := cluster.Namespace(); err == nil && namespaced {
			opts = append(opts, client.InNamespace(namespace))
		}
		parent := cmd.Context()
		if parent == nil { // cobra's, where the root was executed without one
			parent = context.Background()
		}
		ctx, cancel := context.WithTimeout(parent, completionTimeout)
		defer cancel()
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		if err := c.List(ctx, list, opts...); err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := make([]string, 0, len(list.Items))
		for i := range list.Items {
			names = append(names, list.Items[i].Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp // the shell takes those that begin so
	}
}

func completeContexts(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	config, err := clusterOf(cmd.Flags()).flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(config.Contexts)), cobra.ShellCompDirectiveNoFileComp
}

// clusterOf the flags that were given so far.
func clusterOf(flags *pflag.FlagSet) *Cluster {
	cluster, own := NewCluster(), pflag.NewFlagSet("", pflag.ContinueOnError)
	cluster.AddFlags(own)
	flags.Visit(func(f *pflag.Flag) {
		if own.Lookup(f.Name) != nil {
			_ = own.Set(f.Name, f.Value.String()) // it was parsed once
		}
	})
	return cluster
}
