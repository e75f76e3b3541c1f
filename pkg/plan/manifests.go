// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// File of manifests.
type File struct{ Name, Content string }

// Manifests to apply for the plan: the PodNetwork, and the beginnings of ENIConfigs for zones that have none and get none by
// spec.provision.
func (r Report) Manifests() ([]File, error) {
	spec, err := specOf(r.Network)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# %s\n", r.Verdict())
	for _, f := range r.Findings {
		if f.Severity != Info {
			fmt.Fprintf(&out, "# %s: %s\n", f.Reason, comment(f.What))
		}
	}
	fmt.Fprintf(&out, "apiVersion: %s\nkind: PodNetwork\nmetadata:\n  name: %s\n", v1alpha1.GroupVersion, r.Network.Name)
	if r.Network.Spec.Provision != nil {
		out.WriteString("# provision extends the VPC: change cidrs to what your network plan has for pods. Blocks and subnets cannot be resized later.\n")
	}
	out.WriteString(spec)
	files := []File{{"podnetwork.yaml", out.String()}}
	if configs := r.eniConfigs(); configs != "" {
		files = append(files, File{"eniconfigs.yaml", configs})
	}
	return files, nil
}

// comment is one line.
func comment(text string) string { return strings.Join(strings.Fields(text), " ") }

// specOf a network in YAML, without what is empty: it has a default.
func specOf(network *v1alpha1.PodNetwork) (string, error) {
	raw, err := json.Marshal(network.Spec)
	if err != nil {
		return "", err
	}
	var spec map[string]any
	if err := json.Unmarshal(raw, &spec); err != nil {
		return "", err
	}
	prune(spec)
	text, err := yaml.Marshal(map[string]any{"spec": spec})
	return string(text), err
}

func prune(object map[string]any) {
	for key, value := range object {
		if inner, ok := value.(map[string]any); ok {
			if prune(inner); len(inner) == 0 {
				delete(object, key)
			}
		}
	}
}

// eniConfigs for zones without a pod subnet, "" where none is to be written.
func (r Report) eniConfigs() string {
	if r.Network.Spec.Provision != nil {
		return ""
	}
	var documents []string
	for _, zone := range r.Zones {
		served := slices.ContainsFunc(r.Subnets, func(s Subnet) bool { return s.Role == RolePods && s.Zone == zone.Zone })
		if served || zone.Zone == "" || zone.Unknown {
			continue
		}
		documents = append(documents, fmt.Sprintf(`apiVersion: crd.k8s.amazonaws.com/v1alpha1
kind: ENIConfig
metadata:
  name: %s
spec:
  subnet: CHANGE-ME # the id of a subnet for pods in this zone, of the VPC %s; a /19 has %d /28s
  securityGroups: [] # those of the pods; without any, those of their node
`, zone.Zone, r.VPC, 1<<(28-19)))
	}
	return strings.Join(documents, "---\n")
}

// Write files into a directory, which is created. Nothing is written where one of them exists, unless force overwrites it.
func Write(dir string, files []File, force bool) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.Name)); !force && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists: --force overwrites it", filepath.Join(dir, f.Name))
		}
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	for _, f := range files {
		out, err := os.OpenFile(filepath.Join(dir, f.Name), flags, 0o600)
		if err != nil {
			return err
		}
		_, err = out.WriteString(f.Content)
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
	return nil
}
