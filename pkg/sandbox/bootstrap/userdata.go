// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/shlex"
	"github.com/pelletier/go-toml/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// UserData is what the launch tells the kubelet, in any of the formats of the EKS AMIs.
type UserData struct {
	ClusterName string
	Endpoint    string // https://...
	CA          []byte // PEM
	MaxPods     int    // 0: not said
	ClusterDNS  []string
	Labels      map[string]string
	Taints      []corev1.Taint
	// Resources by name, as in a kubelet's configuration.
	KubeReserved, SystemReserved, EvictionHard map[string]string
}

// ErrUserData says that the user data starts no kubelet.
var ErrUserData = errors.New("user data starts no kubelet")

// DecodeUserData finds out which AMI family the user data are for and reads them: nodeadm's NodeConfig (AL2023),
// bootstrap.sh's arguments (AL2), or Bottlerocket's settings.
func DecodeUserData(raw []byte) (UserData, error) {
	parts, err := mimeParts(raw)
	if err != nil {
		return UserData{}, err
	}
	var u UserData
	found := false
	for _, part := range parts {
		switch {
		case part.mediaType == "application/node.eks.aws" || bytes.Contains(part.body, []byte("kind: NodeConfig")):
			err, found = u.addNodeConfig(part.body), true
		case bytes.Contains(part.body, []byte("/etc/eks/bootstrap.sh")):
			err, found = u.addBootstrap(part.body), true
		case bytes.Contains(part.body, []byte("[settings.kubernetes]")):
			err, found = u.addBottlerocket(part.body), true
		}
		if err != nil {
			return UserData{}, err
		}
	}
	if !found {
		return UserData{}, fmt.Errorf("%w: it holds no NodeConfig, no call of bootstrap.sh and no [settings.kubernetes]", ErrUserData)
	}
	if u.Endpoint == "" || u.ClusterName == "" {
		return UserData{}, fmt.Errorf("%w: the cluster's name or endpoint is missing", ErrUserData)
	}
	return u, nil
}

type part struct {
	mediaType string
	body      []byte
}

// mimeParts returns the parts of a MIME multipart document, or the whole where it is none.
func mimeParts(raw []byte) ([]part, error) {
	message, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return []part{{body: raw}}, nil //nolint:nilerr // no MIME header: a document of one part
	}
	mediaType, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(mediaType, "multipart/") {
		return []part{{body: raw}}, nil //nolint:nilerr // as above
	}
	var parts []part
	reader := multipart.NewReader(message.Body, params["boundary"])
	for {
		p, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: MIME: %w", ErrUserData, err)
		}
		body, err := io.ReadAll(p)
		if err != nil {
			return nil, fmt.Errorf("%w: MIME: %w", ErrUserData, err)
		}
		mediaType, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		parts = append(parts, part{mediaType: mediaType, body: body})
	}
}

// addNodeConfig reads a document for nodeadm. Later documents override earlier ones, field by field.
func (u *UserData) addNodeConfig(document []byte) error {
	var config struct {
		Spec struct {
			Cluster struct {
				Name                 string `json:"name"`
				APIServerEndpoint    string `json:"apiServerEndpoint"`
				CertificateAuthority []byte `json:"certificateAuthority"`
				CIDR                 string `json:"cidr"`
			} `json:"cluster"`
			Kubelet struct {
				Config struct {
					MaxPods            int               `json:"maxPods"`
					ClusterDNS         []string          `json:"clusterDNS"`
					RegisterWithTaints []corev1.Taint    `json:"registerWithTaints"`
					KubeReserved       map[string]string `json:"kubeReserved"`
					SystemReserved     map[string]string `json:"systemReserved"`
					EvictionHard       map[string]string `json:"evictionHard"`
				} `json:"config"`
				Flags []string `json:"flags"`
			} `json:"kubelet"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(document, &config); err != nil {
		return fmt.Errorf("%w: NodeConfig: %w", ErrUserData, err)
	}
	cluster, kubelet := config.Spec.Cluster, config.Spec.Kubelet.Config
	u.ClusterName, u.Endpoint = or(cluster.Name, u.ClusterName), or(cluster.APIServerEndpoint, u.Endpoint)
	if len(cluster.CertificateAuthority) > 0 {
		u.CA = cluster.CertificateAuthority
	}
	if kubelet.MaxPods > 0 {
		u.MaxPods = kubelet.MaxPods
	}
	switch cidr, err := netip.ParsePrefix(cluster.CIDR); {
	case len(kubelet.ClusterDNS) > 0:
		u.ClusterDNS = kubelet.ClusterDNS
	case err == nil: // nodeadm takes the tenth address of the Services
		address := cidr.Masked().Addr().As4()
		address[3] += 10
		u.ClusterDNS = []string{netip.AddrFrom4(address).String()}
	}
	u.Taints = append(u.Taints, kubelet.RegisterWithTaints...)
	u.KubeReserved = merge(u.KubeReserved, kubelet.KubeReserved)
	u.SystemReserved = merge(u.SystemReserved, kubelet.SystemReserved)
	u.EvictionHard = merge(u.EvictionHard, kubelet.EvictionHard)
	return u.addFlags(config.Spec.Kubelet.Flags)
}

// addBootstrap reads the call of /etc/eks/bootstrap.sh in a shell script.
func (u *UserData) addBootstrap(script []byte) error {
	_, call, _ := strings.Cut(strings.ReplaceAll(string(script), "\\\n", " "), "/etc/eks/bootstrap.sh")
	call, _, _ = strings.Cut(call, "\n")
	words, err := shlex.Split(call)
	if err != nil {
		return fmt.Errorf("%w: bootstrap.sh: %w", ErrUserData, err)
	}
	options := map[string]string{}
	for i := 0; i < len(words); i++ {
		switch {
		case strings.HasPrefix(words[i], "--") && i+1 < len(words):
			options[words[i]] = words[i+1]
			i++
		case u.ClusterName == "":
			u.ClusterName = words[i]
		}
	}
	u.Endpoint = options["--apiserver-endpoint"]
	if u.CA, err = base64.StdEncoding.DecodeString(options["--b64-cluster-ca"]); err != nil {
		return fmt.Errorf("%w: --b64-cluster-ca: %w", ErrUserData, err)
	}
	if dns := options["--dns-cluster-ip"]; dns != "" {
		u.ClusterDNS = []string{dns}
	}
	flags, err := shlex.Split(options["--kubelet-extra-args"])
	if err != nil {
		return fmt.Errorf("%w: --kubelet-extra-args: %w", ErrUserData, err)
	}
	return u.addFlags(flags)
}

// addFlags reads the kubelet flags that Karpenter's bootstrappers write.
func (u *UserData) addFlags(flags []string) error {
	for _, flag := range flags {
		key, value, _ := strings.Cut(flag, "=")
		value = strings.Trim(value, `"`)
		switch key {
		case "--node-labels":
			u.Labels = merge(u.Labels, pairs(value, "="))
		case "--register-with-taints":
			for _, taint := range strings.Split(value, ",") {
				u.Taints = append(u.Taints, parseTaint(taint))
			}
		case "--max-pods":
			maxPods, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("%w: --max-pods: %w", ErrUserData, err)
			}
			u.MaxPods = maxPods
		case "--cluster-dns":
			u.ClusterDNS = strings.Split(value, ",")
		case "--kube-reserved":
			u.KubeReserved = merge(u.KubeReserved, pairs(value, "="))
		case "--system-reserved":
			u.SystemReserved = merge(u.SystemReserved, pairs(value, "="))
		case "--eviction-hard":
			u.EvictionHard = merge(u.EvictionHard, pairs(value, "<"))
		}
	}
	return nil
}

func (u *UserData) addBottlerocket(document []byte) error {
	var config struct {
		Settings struct {
			Kubernetes struct {
				ClusterName        string              `toml:"cluster-name"`
				APIServer          string              `toml:"api-server"`
				ClusterCertificate string              `toml:"cluster-certificate"`
				MaxPods            int                 `toml:"max-pods"`
				ClusterDNSIP       any                 `toml:"cluster-dns-ip"` // one or a list
				NodeLabels         map[string]string   `toml:"node-labels"`
				NodeTaints         map[string][]string `toml:"node-taints"`
				KubeReserved       map[string]string   `toml:"kube-reserved"`
				SystemReserved     map[string]string   `toml:"system-reserved"`
				EvictionHard       map[string]string   `toml:"eviction-hard"`
			} `toml:"kubernetes"`
		} `toml:"settings"`
	}
	if err := toml.Unmarshal(document, &config); err != nil {
		return fmt.Errorf("%w: Bottlerocket settings: %w", ErrUserData, err)
	}
	settings := config.Settings.Kubernetes
	u.ClusterName, u.Endpoint, u.MaxPods = settings.ClusterName, settings.APIServer, settings.MaxPods
	ca, err := base64.StdEncoding.DecodeString(settings.ClusterCertificate)
	if err != nil {
		return fmt.Errorf("%w: cluster-certificate: %w", ErrUserData, err)
	}
	u.CA = ca
	switch dns := settings.ClusterDNSIP.(type) {
	case string:
		u.ClusterDNS = []string{dns}
	case []any:
		for _, address := range dns {
			u.ClusterDNS = append(u.ClusterDNS, fmt.Sprint(address))
		}
	}
	u.Labels = merge(u.Labels, settings.NodeLabels)
	for key, values := range settings.NodeTaints {
		for _, value := range values {
			u.Taints = append(u.Taints, parseTaint(key+"="+value))
		}
	}
	u.KubeReserved, u.SystemReserved, u.EvictionHard = settings.KubeReserved, settings.SystemReserved, settings.EvictionHard
	return nil
}

// parseTaint reads key=value:effect and key:effect.
func parseTaint(s string) corev1.Taint {
	keyValue, effect, _ := strings.Cut(s, ":")
	key, value, _ := strings.Cut(keyValue, "=")
	return corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
}

func pairs(list, separator string) map[string]string {
	out := map[string]string{}
	for _, pair := range strings.Split(list, ",") {
		if key, value, ok := strings.Cut(pair, separator); ok {
			out[key] = value
		}
	}
	return out
}

func merge(base, over map[string]string) map[string]string {
	if len(over) == 0 {
		return base
	}
	merged := maps.Clone(over)
	for key, value := range base {
		if _, ok := merged[key]; !ok {
			merged[key] = value
		}
	}
	return merged
}

func or(first, second string) string {
	if first != "" {
		return first
	}
	return second
}
