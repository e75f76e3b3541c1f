// SPDX-License-Identifier: Apache-2.0

// Package controlplane runs a real Kubernetes control plane as child processes: etcd, kube-apiserver and, when asked
// for, kube-controller-manager and kube-scheduler, with certificates of its own small authority.
//
// The programs are built by hack/controlplane. Authorization is as on EKS: Node and RBAC, with the NodeRestriction
// admission plugin, so that a node can do what a kubelet can do and no more.
package controlplane
