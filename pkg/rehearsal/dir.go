// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/plan"
)

// vpcFile of a directory has the VPC's shape.
const vpcFile = "vpc.yaml"

// kinds that Add takes.
var kinds = []string{
	"NodePool", "EC2NodeClass", "ENIConfig", "PodNetwork", "NodeMigration", "PodDisruptionBudget", "PriorityClass", "Node", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "Pod",
}

// FromDir reads manifests below a directory: YAML and JSON, several documents a file, lists as kubectl prints them, and vpc.yaml.
func FromDir(dir string) (*Cluster, error) {
	c := &Cluster{}
	shape := false
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)) {
			return err
		}
		if entry.Name() != vpcFile {
			return c.readFile(path)
		}
		shape = true
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := yaml.UnmarshalStrict(raw, &c.VPC); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !shape {
		return nil, fmt.Errorf("%s has no %s: `dovetail rehearse --from-cluster --write DIR` makes one, docs/rehearse.md says what is in it", dir, vpcFile)
	}
	c.sort()
	return c, nil
}

// ReadChange reads a file with what is to be rehearsed. It has what a person applies for a migration, and nothing else.
func ReadChange(path string) (*Cluster, error) {
	c := &Cluster{}
	if err := c.readFile(path); err != nil {
		return nil, err
	}
	changes := len(c.PodNetworks) + len(c.ENIConfigs) + len(c.NodeMigrations) + len(c.NodePools) + len(c.NodeClasses)
	if changes != len(c.Objects())+len(c.Nodes) || len(c.simplifiedKinds()) > 0 {
		return nil, fmt.Errorf("%s has more than a change is made of: PodNetwork, ENIConfig, NodeMigration, NodePool and EC2NodeClass", path)
	}
	if changes == 0 {
		return nil, fmt.Errorf("%s has nothing to rehearse: a PodNetwork is what turns a pod network on", path)
	}
	return c, nil
}

const leftOut = "left out: "

// simplifiedKinds are those that were left out.
func (c *Cluster) simplifiedKinds() []string {
	return slices.DeleteFunc(c.Simplified(), func(line string) bool { return !strings.HasPrefix(line, leftOut) })
}

func (c *Cluster) readFile(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		content := map[string]any{}
		if err := yaml.Unmarshal(document, &content); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if len(content) == 0 {
			continue // only comments
		}
		if err := c.read(&unstructured.Unstructured{Object: content}); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
}

// read an object or a list.
func (c *Cluster) read(object *unstructured.Unstructured) error {
	if object.IsList() {
		return object.EachListItem(func(item runtime.Object) error { return c.read(item.(*unstructured.Unstructured)) })
	}
	kind := object.GetKind()
	if kind == "" || object.GetAPIVersion() == "" {
		return fmt.Errorf("an object %q has no kind or no apiVersion", object.GetName())
	}
	if !slices.Contains(kinds, kind) {
		c.note(leftOut+"%s", kind)
		return nil
	}
	name := fmt.Sprintf("%s %s", kind, strings.TrimPrefix(object.GetNamespace()+"/"+object.GetName(), "/"))
	if object.GetName() == "" {
		return fmt.Errorf("%s has no name", kind)
	}
	typed, err := scheme.Scheme.New(object.GroupVersionKind())
	if err != nil {
		return fmt.Errorf("%s: %s is not an API version that this program knows", name, object.GetAPIVersion())
	}
	raw, err := json.Marshal(object.Object)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := yaml.UnmarshalStrict(raw, typed); err != nil {
		// A field of a newer version, or a mistake: the API server would drop it.
		if lenient := json.Unmarshal(raw, typed); lenient != nil {
			return fmt.Errorf("%s: %w", name, lenient)
		}
		c.note("%s: without what is not known here: %v", name, err)
	}
	if !c.Add(typed.(client.Object)) {
		return fmt.Errorf("%s: %s is not the API group of what a rehearsal is of", name, object.GetAPIVersion())
	}
	return nil
}

// Write the cluster's shape into a directory, for FromDir.
func (c *Cluster) Write(dir string, force bool) error {
	documents := map[string][]string{}
	objects := c.Objects()
	for i := range c.Nodes {
		objects = append(objects, &c.Nodes[i])
	}
	for _, object := range objects {
		text, err := manifest(object)
		if err != nil {
			return fmt.Errorf("%s: %w", nameOf(object), err)
		}
		file := strings.ToLower(kindOf(object)) + ".yaml"
		documents[file] = append(documents[file], text)
	}
	shape, err := yaml.Marshal(c.VPC)
	if err != nil {
		return err
	}
	files := []plan.File{{Name: vpcFile, Content: string(shape)}}
	for file, of := range documents {
		files = append(files, plan.File{Name: file, Content: strings.Join(of, "---\n")})
	}
	slices.SortFunc(files, func(a, b plan.File) int { return strings.Compare(a.Name, b.Name) })
	return plan.Write(dir, files, force)
}

// manifest of an object, with its kind and without the status that is to come.
func manifest(object client.Object) (string, error) {
	raw, err := json.Marshal(object)
	if err != nil {
		return "", err
	}
	content := map[string]any{}
	if err := json.Unmarshal(raw, &content); err != nil {
		return "", err
	}
	gvks, _, err := scheme.Scheme.ObjectKinds(object)
	if err != nil {
		return "", err
	}
	content["apiVersion"], content["kind"] = gvks[0].GroupVersion().String(), gvks[0].Kind
	if gvks[0].Kind != "Node" {
		delete(content, "status")
	}
	text, err := yaml.Marshal(content)
	return string(text), err
}
