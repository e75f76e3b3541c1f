// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"regexp"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"sigs.k8s.io/yaml"
)

// errNoMaxPods says that user data leave max-pods to the machine.
var errNoMaxPods = errors.New("the user data say no max-pods")

// al2MaxPods is the kubelet flag in a call of bootstrap.sh. Without --use-max-pods false the script adds one of its own.
var al2MaxPods = regexp.MustCompile(`--max-pods=(\d+)`)

// MaxPodsOfUserData decodes base64 user data of the three AMI families that name max-pods: Bottlerocket's settings,
// nodeadm's NodeConfig (AL2023) and bootstrap.sh's arguments (AL2). It reads them on its own, and not with what reads
// them on the sandbox's nodes, so that the two check each other.
func MaxPodsOfUserData(encoded string) (int, error) {
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return 0, fmt.Errorf("user data: %w", err)
	}
	message, err := mail.ReadMessage(strings.NewReader(string(raw)))
	if err != nil {
		return bottlerocketMaxPods(raw) //nolint:nilerr // no MIME header: TOML
	}
	_, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil {
		return 0, fmt.Errorf("user data: %w", err)
	}
	maxPods := 0
	for parts := multipart.NewReader(message.Body, params["boundary"]); ; {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("user data: %w", err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			return 0, fmt.Errorf("user data: %w", err)
		}
		found, err := maxPodsOfPart(part.Header.Get("Content-Type"), body)
		if err != nil {
			return 0, err
		}
		if found > 0 { // later parts win
			maxPods = found
		}
	}
	if maxPods == 0 {
		return 0, errNoMaxPods
	}
	return maxPods, nil
}

func maxPodsOfPart(contentType string, body []byte) (int, error) {
	if strings.HasPrefix(contentType, "application/node.eks.aws") {
		var config struct {
			Spec struct {
				Kubelet struct {
					Config struct {
						MaxPods int `json:"maxPods"`
					} `json:"config"`
				} `json:"kubelet"`
			} `json:"spec"`
		}
		if err := yaml.Unmarshal(body, &config); err != nil {
			return 0, fmt.Errorf("NodeConfig in the user data: %w", err)
		}
		return config.Spec.Kubelet.Config.MaxPods, nil
	}
	if !strings.Contains(string(body), "/etc/eks/bootstrap.sh") {
		return 0, nil
	}
	if !strings.Contains(string(body), "--use-max-pods false") {
		return 0, errors.New("the user data call bootstrap.sh without --use-max-pods false")
	}
	match := al2MaxPods.FindSubmatch(body)
	if match == nil {
		return 0, errNoMaxPods
	}
	return strconv.Atoi(string(match[1]))
}

func bottlerocketMaxPods(document []byte) (int, error) {
	var config struct {
		Settings struct {
			Kubernetes struct {
				MaxPods int `toml:"max-pods"`
			} `toml:"kubernetes"`
		} `toml:"settings"`
	}
	if err := toml.Unmarshal(document, &config); err != nil {
		return 0, fmt.Errorf("bottlerocket settings in the user data: %w", err)
	}
	if config.Settings.Kubernetes.MaxPods == 0 {
		return 0, errNoMaxPods
	}
	return config.Settings.Kubernetes.MaxPods, nil
}
