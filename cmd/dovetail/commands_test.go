// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// userCommands are those that do something, but for those of the sandbox.
func userCommands(t *testing.T) (found []*cobra.Command) {
	t.Helper()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && !c.Hidden {
			found = append(found, c)
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	for _, c := range newRootCommand().Commands() {
		if c.Name() != "sandbox" {
			walk(c)
		}
	}
	require.Greater(t, len(found), 10)
	return found
}

// argument matches how a command is used that takes one: `why POD`, `plan [POD_NETWORK]`.
var argument = regexp.MustCompile(`^[a-z-]+ \[?[A-Z_]+`)

func TestEachCommandAnswersProgramsAndShells(t *testing.T) {
	for _, c := range userCommands(t) {
		t.Run(c.CommandPath(), func(t *testing.T) {
			require.NotEmpty(t, c.Short)
			output := c.Flags().Lookup("output")
			require.NotNil(t, output, "it has no -o")
			require.Equal(t, "o", output.Shorthand)
			complete, ok := c.GetFlagCompletionFunc("output")
			require.True(t, ok, "-o is not completed")
			values, directive := complete(c, nil, "")
			require.Contains(t, values, "json")
			require.Equal(t, cobra.ShellCompDirectiveNoFileComp, directive)
			if argument.MatchString(c.Use) {
				require.NotNil(t, c.ValidArgsFunction, "its argument is not completed")
			}
		})
	}
}

func TestShellsCompleteNamesOfTheCluster(t *testing.T) {
	c := useCluster(t, chartstest.StartAPIServer(t))
	require.NoError(t, c.Create(t.Context(), &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "blue"}}))
	require.NoError(t, c.Create(t.Context(), newMigration(t, "old-group")))
	require.NoError(t, c.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}))
	require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}))
	serviceAccount(t, c)
	require.NoError(t, c.Create(t.Context(), pending("web")))
	for line, want := range map[string]string{
		"why ":                              "web",
		"why -n shop ":                      "",
		"why -n ":                           "shop",
		"why --context ":                    "x",
		"why web ":                          "",
		"capacity ":                         "blue",
		"plan ":                             "blue",
		"node status ":                      "node-1",
		"migrate status ":                   "old-group",
		"migrate stop ":                     "old-group",
		"migrate start --pod-network ":      "blue",
		"migrate start --dry-run=":          "client",
		"migrate status --server http://x ": "",
		"plan -o ":                          "html",
		"max-pods --instance-type ":         "m5.large",
	} {
		t.Run(line, func(t *testing.T) {
			args := strings.Split(line, " ")
			out, err := run(t, slices.Concat([]string{cobra.ShellCompRequestCmd}, args)...)
			require.NoError(t, err)
			completed, rest, _ := strings.Cut(out, ":4\n") // ShellCompDirectiveNoFileComp
			require.NotEmpty(t, rest, out)
			if want == "" {
				require.Empty(t, completed)
				return
			}
			require.Contains(t, strings.Split(completed, "\n"), want)
		})
	}
	require.Equal(t, []string{cobra.ShellCompRequestCmd, "why", ""}, arguments([]string{"/usr/local/bin/kubectl_complete-dovetail", "why", ""}), "as kubectl calls it")
}
