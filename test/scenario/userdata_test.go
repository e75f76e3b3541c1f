// SPDX-License-Identifier: Apache-2.0

package scenario_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

func multipart(parts ...string) string {
	return "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"//\"\n\n--//\n" + strings.Join(parts, "\n--//\n") + "\n--//--\n"
}

func nodeConfig(maxPods string) string {
	return "Content-Type: application/node.eks.aws\n\napiVersion: node.eks.aws/v1alpha1\nkind: NodeConfig\nspec: {kubelet: {config: {" + maxPods + "}}}\n"
}

func script(call string) string {
	return "Content-Type: text/x-shellscript; charset=\"us-ascii\"\n\n#!/bin/bash -xe\n" + call + "\n"
}

func TestMaxPodsAreFoundInTheFormatOfEachFamily(t *testing.T) {
	for name, test := range map[string]struct {
		userData string
		want     int
	}{
		"nodeadm":                          {multipart(nodeConfig("maxPods: 110")), 110},
		"nodeadm, a later document wins":   {multipart(nodeConfig("maxPods: 110"), nodeConfig("maxPods: 50")), 50},
		"nodeadm, a later one may be mute": {multipart(nodeConfig("maxPods: 110"), nodeConfig("")), 110},
		"bootstrap.sh": {multipart(script("/etc/eks/bootstrap.sh 'c' --apiserver-endpoint 'https://e' \\\n" +
			"--use-max-pods false \\\n--kubelet-extra-args '--node-labels=\"a=b\" --max-pods=98'")), 98},
		"Bottlerocket": {"[settings]\n[settings.kubernetes]\ncluster-name = 'c'\nmax-pods = 20\n", 20},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := scenario.MaxPodsOfUserData(base64.StdEncoding.EncodeToString([]byte(test.userData)))
			require.NoError(t, err)
			require.Equal(t, test.want, found)
		})
	}
}

func TestUserDataThatLeaveMaxPodsToTheMachineAreAnError(t *testing.T) {
	for name, userData := range map[string]string{
		"nodeadm without maxPods":        multipart(nodeConfig("")),
		"bootstrap.sh without the flag":  multipart(script("/etc/eks/bootstrap.sh c --use-max-pods false")),
		"bootstrap.sh that adds its own": multipart(script("/etc/eks/bootstrap.sh c --kubelet-extra-args '--max-pods=98'")),
		"no bootstrap":                   multipart(script("echo hello")),
		"Bottlerocket without max-pods":  "[settings.kubernetes]\ncluster-name = 'c'\n",
		"nothing that is known":          "echo hello",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := scenario.MaxPodsOfUserData(base64.StdEncoding.EncodeToString([]byte(userData)))
			require.Error(t, err)
		})
	}
}
