// SPDX-License-Identifier: Apache-2.0

//go:build tools

package main

// The suite is built in this module, with the controller's own versions: nothing is compiled twice for it. This keeps its
// dependencies in go.mod.
import _ "sigs.k8s.io/karpenter/test/pkg/environment/common"
