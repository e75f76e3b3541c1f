// SPDX-License-Identifier: Apache-2.0

// Package aws simulates the AWS APIs that Karpenter, the node agent and the sandbox call, over HTTP, for
// unmodified SDK clients: EC2 with the rules that decide whether a pod gets an address, and as much of IAM, STS,
// SSM, EKS, SQS, Pricing and IMDSv2 as those programs ask for. It keeps state and knows no packets: Snapshot
// tells the packet network what must exist.
//
// It is strict. What it does not simulate it refuses by name, and where AWS's documentation leaves a choice it
// takes the less kind one. README.md lists calls, parameters, errors and gaps.
package aws
