// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// ReadFile with one PodNetwork, and any ENIConfigs, in YAML documents. Without a path nothing is declared.
func ReadFile(path string) (Declared, error) {
	declared := Declared{File: path}
	if path == "" {
		return declared, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return declared, err
	}
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(raw))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return declared, fmt.Errorf("reading %s, %w", path, err)
		}
		if err := declared.add(document); err != nil {
			return declared, fmt.Errorf("reading %s, %w", path, err)
		}
	}
	if declared.Network == nil {
		return declared, fmt.Errorf("%s has no PodNetwork", path)
	}
	return declared, nil
}

func (d *Declared) add(document []byte) error {
	kind := metav1.TypeMeta{}
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.Kind {
	case "PodNetwork":
		if d.Network != nil {
			return errors.New("there are several PodNetworks: a plan is for one")
		}
		d.Network = &v1alpha1.PodNetwork{}
		if err := yaml.UnmarshalStrict(document, d.Network); err != nil {
			return err
		}
		return check(kind.Kind, document)
	case "ENIConfig":
		config := eniconfig.ENIConfig{}
		if err := yaml.UnmarshalStrict(document, &config); err != nil {
			return err
		}
		d.ENIConfigs = append(d.ENIConfigs, config)
		return check(kind.Kind, document)
	case "":
		if !onlyComments(document) {
			return errors.New("a document has no kind")
		}
	default:
		return fmt.Errorf("%s is no kind that a plan is for: PodNetwork and ENIConfig are", kind.Kind)
	}
	return nil
}

func onlyComments(document []byte) bool {
	var content any
	return yaml.Unmarshal(document, &content) == nil && content == nil
}
