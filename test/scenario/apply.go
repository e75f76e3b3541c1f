// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// fieldOwner is the field manager of what the scenario applies.
const fieldOwner = client.FieldOwner("dovetail-scenario")

// yamlBuffer is the look-ahead that decides between YAML and JSON.
const yamlBuffer = 4096

// Apply applies the examples as `kubectl apply --server-side --validate=strict` does, but for the kinds to skip, and
// returns what it applied, as kind/name.
func (s *Sandbox) Apply(ctx context.Context, skip ...string) ([]string, error) {
	objects, err := s.manifests()
	if err != nil {
		return nil, err
	}
	var applied []string
	for _, object := range objects {
		if slices.Contains(skip, object.GetKind()) {
			continue
		}
		if err := s.apply(ctx, object); err != nil {
			return applied, err
		}
		applied = append(applied, object.GetKind()+"/"+object.GetName())
	}
	return applied, nil
}

// ApplyKind applies the examples' objects of one kind, and returns the name of the last.
func (s *Sandbox) ApplyKind(ctx context.Context, kind string) (name string, err error) {
	objects, err := s.manifests()
	if err != nil {
		return "", err
	}
	for _, object := range objects {
		if object.GetKind() != kind {
			continue
		}
		if err := s.apply(ctx, object); err != nil {
			return "", err
		}
		name = object.GetName()
	}
	if name == "" {
		return "", fmt.Errorf("%s has no %s", s.opts.Examples, kind)
	}
	return name, nil
}

// Delete deletes what Apply made, the last first, and waits until it is gone: Karpenter's finalizers take their time.
func (s *Sandbox) Delete(ctx context.Context) error {
	objects, err := s.manifests()
	if err != nil {
		return err
	}
	slices.Reverse(objects)
	for _, object := range objects {
		if err := client.IgnoreNotFound(s.Kube.Delete(ctx, object)); err != nil {
			return fmt.Errorf("deleting %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return until(ctx, "what the examples made is gone", func(ctx context.Context) error {
		for _, object := range objects {
			err := s.Kube.Get(ctx, client.ObjectKeyFromObject(object), object.DeepCopy())
			if !apierrors.IsNotFound(err) {
				return errors.Join(err, fmt.Errorf("%s %s is still there", object.GetKind(), object.GetName()))
			}
		}
		return nil
	})
}

func (s *Sandbox) apply(ctx context.Context, object *unstructured.Unstructured) error {
	encoded, err := json.Marshal(object)
	if err != nil {
		return err
	}
	err = s.Kube.Patch(ctx, object.DeepCopy(), client.RawPatch(types.ApplyPatchType, encoded),
		fieldOwner, client.ForceOwnership, client.FieldValidation("Strict"))
	if err != nil {
		return fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// manifests reads the examples in the order of their file names.
func (s *Sandbox) manifests() ([]*unstructured.Unstructured, error) {
	paths, err := filepath.Glob(filepath.Join(s.opts.Examples, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no manifest in %s", s.opts.Examples)
	}
	var objects []*unstructured.Unstructured
	for _, path := range paths {
		found, err := readManifest(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		objects = append(objects, found...)
	}
	return objects, nil
}

func readManifest(path string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	decoder := utilyaml.NewYAMLOrJSONDecoder(file, yamlBuffer)
	var objects []*unstructured.Unstructured
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}
