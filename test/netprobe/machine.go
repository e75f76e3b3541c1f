// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// Where a machine of the sandbox keeps its pods' network namespaces, and the plugin its leases.
const (
	podNamespaces = "/run/netns"
	podLeases     = "/run/dovetail/leases"
)

// machine is what a node holds for its pods.
type machine struct {
	// Pods are the addresses of eth0 in each pod's network namespace, by the pod's UID.
	Pods map[string][]string `json:"pods"`
	// Leases are the pods (namespace/name), by address.
	Leases map[string]string `json:"leases"`
}

// printMachine prints what pods of this node the kernel gives addresses to, and the leases, as JSON. What ends while it looks is left out.
func printMachine(context.Context, settings, string) error {
	found := machine{Pods: map[string][]string{}, Leases: map[string]string{}}
	namespaces, err := entries(podNamespaces)
	if err != nil {
		return err
	}
	for _, name := range namespaces {
		err := netns.Do(filepath.Join(podNamespaces, name), func() error {
			link, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			addresses, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
			for _, address := range addresses {
				found.Pods[name] = append(found.Pods[name], address.IP.String())
			}
			return err
		})
		var unlinked netlink.LinkNotFoundError
		if err != nil && !errors.As(err, &unlinked) && exists(filepath.Join(podNamespaces, name)) {
			return fmt.Errorf("namespace of pod %s: %w", name, err)
		}
	}
	leases, err := entries(podLeases)
	if err != nil {
		return err
	}
	for _, address := range leases {
		content, err := os.ReadFile(filepath.Join(podLeases, address))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		var lease struct {
			Pod string `json:"pod"`
		}
		if err := json.Unmarshal(content, &lease); err != nil {
			return fmt.Errorf("lease of %s: %w", address, err)
		}
		found.Leases[address] = lease.Pod
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// entries of a folder, which need not be there.
func entries(dir string) (names []string, err error) {
	found, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
