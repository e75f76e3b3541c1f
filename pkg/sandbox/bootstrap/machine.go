// SPDX-License-Identifier: Apache-2.0

// Package bootstrap finds out what an instance's kubelet is to be, as cloud-init, nodeadm and bootstrap.sh do on the EKS
// AMIs: the instance metadata service says who the instance is, its user data what the launch wants.
package bootstrap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"runtime"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

const (
	// The hypervisor and the kernel keep some of an instance's memory: the guest sees less than the type's figure.
	visibleMemoryPercent = 97
	rootVolume           = "20Gi"
	// What a kubelet sets when its configuration does not.
	defaultEvictionMemory    = "100Mi"
	defaultEvictionNodeFSPct = 10
)

// Machine is an instance, and what its launch wants its kubelet to be.
type Machine struct {
	Identity
	UserData
	Hardware
}

// Identity is what the instance metadata service says of an instance.
type Identity struct {
	InstanceID, InstanceType, Zone, Region string
	Hostname                               string // the private DNS name, which names the node
	IP                                     netip.Addr
}

// Hardware of an instance type.
type Hardware struct {
	CPUs, MemoryMiB int64
	// Architecture in Go's words; default this machine's.
	Architecture string
	// DefaultMaxPods is what the AMI's bootstrap takes where the user data say nothing: a pod for each secondary address.
	DefaultMaxPods int
}

// Read waits until the metadata service answers, as an instance's first boot does, and reads what it says. hardware looks up
// instance types.
func Read(ctx context.Context, hardware func(instanceType string) (Hardware, bool)) (Machine, error) {
	var m Machine
	client := imds.New(imds.Options{ClientEnableState: imds.ClientEnabled, DisableDefaultTimeout: true, Retryer: patient()})
	raw, err := m.read(ctx, client)
	if err != nil {
		return m, fmt.Errorf("instance metadata service: %w", err)
	}
	var ok bool
	if m.Hardware, ok = hardware(m.InstanceType); !ok {
		return m, fmt.Errorf("instance type %s is unknown", m.InstanceType)
	}
	m.UserData, err = DecodeUserData(raw)
	return m, err
}

// patient as cloud-init and nodeadm are: a boot that gave up on a metadata service that answers errors for a while would leave an instance
// that never becomes a node. An answer that there is no such thing is an answer.
func patient() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.RateLimiter = bootAttempts, ratelimit.None })
}

// bootAttempts are at most a second apart: two minutes or more, as cloud-init waits for a data source.
const bootAttempts = 240

// read returns the user data too.
func (i *Identity) read(ctx context.Context, client *imds.Client) ([]byte, error) {
	document, err := waitForDocument(ctx, client)
	if err != nil {
		return nil, err
	}
	hostname, err := readPath(ctx, client, "local-hostname")
	if err != nil {
		return nil, err
	}
	ip, err := netip.ParseAddr(document.PrivateIP)
	if err != nil {
		return nil, err
	}
	*i = Identity{
		InstanceID: document.InstanceID, InstanceType: document.InstanceType, Zone: document.AvailabilityZone,
		Region: document.Region, Hostname: hostname, IP: ip,
	}
	userData, err := client.GetUserData(ctx, nil)
	if err != nil {
		var response smithy.APIError
		if errors.As(err, &response) {
			return nil, fmt.Errorf("user data: %s: %w", response.ErrorCode(), err)
		}
		return nil, fmt.Errorf("user data: %w", err)
	}
	defer userData.Content.Close()
	return io.ReadAll(userData.Content)
}

func waitForDocument(ctx context.Context, client *imds.Client) (*imds.GetInstanceIdentityDocumentOutput, error) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		document, err := client.GetInstanceIdentityDocument(ctx, nil, func(o *imds.Options) { o.Retryer = aws.NopRetryer{} })
		if err == nil {
			return document, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-ticker.C:
		}
	}
}

func readPath(ctx context.Context, client *imds.Client, path string) (string, error) {
	output, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer output.Content.Close()
	content, err := io.ReadAll(output.Content)
	return strings.TrimSpace(string(content)), err
}

// ProviderID of the node.
func (m Machine) ProviderID() string { return fmt.Sprintf("aws:///%s/%s", m.Zone, m.InstanceID) }

// MaxPods of the kubelet.
func (m Machine) MaxPods() int {
	if m.UserData.MaxPods > 0 {
		return m.UserData.MaxPods
	}
	return m.DefaultMaxPods
}

// Arch that the node reports, whatever emulates it.
func (m Machine) Arch() string { return cmp.Or(m.Architecture, runtime.GOARCH) }

// NodeLabels are those that the kubelet and the cloud provider give every node, and those of the user data.
func (m Machine) NodeLabels() map[string]string {
	labels := map[string]string{
		corev1.LabelHostname:                m.Hostname,
		corev1.LabelOSStable:                "linux",
		corev1.LabelArchStable:              m.Arch(),
		corev1.LabelInstanceTypeStable:      m.InstanceType,
		corev1.LabelTopologyZone:            m.Zone,
		corev1.LabelTopologyRegion:          m.Region,
		"beta.kubernetes.io/os":             "linux",
		"beta.kubernetes.io/arch":           m.Arch(),
		corev1.LabelInstanceType:            m.InstanceType,
		corev1.LabelFailureDomainBetaZone:   m.Zone,
		corev1.LabelFailureDomainBetaRegion: m.Region,
	}
	maps.Copy(labels, m.Labels)
	return labels
}

// MemoryBytes that the guest sees.
func (m Machine) MemoryBytes() int64 { return m.MemoryMiB << 20 * visibleMemoryPercent / 100 }

// Capacity that the kubelet reports.
func (m Machine) Capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(m.CPUs, resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(m.MemoryBytes(), resource.BinarySI),
		corev1.ResourceEphemeralStorage: resource.MustParse(rootVolume),
		corev1.ResourcePods:             *resource.NewQuantity(int64(m.MaxPods()), resource.DecimalSI),
	}
}

// Reserved for the kubelet. Where the user data reserve nothing, the AMI's bootstrap does.
func (m Machine) Reserved() map[string]string {
	if len(m.KubeReserved) > 0 {
		return m.KubeReserved
	}
	return map[string]string{
		"cpu":               fmt.Sprintf("%dm", podcapacity.KubeReservedCPUMillis(int(m.CPUs))),
		"memory":            fmt.Sprintf("%dMi", podcapacity.KubeReservedMemoryMiB(m.MaxPods())),
		"ephemeral-storage": "1Gi",
	}
}

// Allocatable is the capacity without what is reserved.
func (m Machine) Allocatable() corev1.ResourceList {
	capacity := m.Capacity()
	allocatable := capacity.DeepCopy()
	subtract := func(name corev1.ResourceName, amount string) {
		quantity, err := resource.ParseQuantity(amount)
		if total, ok := allocatable[name]; err == nil && ok {
			total.Sub(quantity)
			allocatable[name] = total
		}
	}
	for _, list := range []map[string]string{m.Reserved(), m.SystemReserved} {
		for name, amount := range list {
			subtract(corev1.ResourceName(name), amount)
		}
	}
	eviction := m.EvictionHard["memory.available"]
	if eviction == "" {
		eviction = defaultEvictionMemory
	}
	subtract(corev1.ResourceMemory, eviction)
	storage := capacity.StorageEphemeral().Value() * defaultEvictionNodeFSPct / 100
	subtract(corev1.ResourceEphemeralStorage, resource.NewQuantity(storage, resource.BinarySI).String())
	return allocatable
}
