// SPDX-License-Identifier: Apache-2.0

package allocator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/imds"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Source of a node's addresses: an Allocator, or a Static.
type Source interface {
	Refresh(context.Context) error
	Known() bool
	Pool() []eni.ENI
	ENIs() []eni.ENI
	Step(context.Context, Demand) (Result, error)
}

// Metadata tells of the instance's interfaces; imds.Reader is one.
type Metadata interface {
	Interfaces(context.Context) ([]imds.Interface, error)
}

// firstSightFile in the state directory remembers the interfaces that the first agent since the boot found: what somebody
// attaches later does not become the pods' by a restart of the agent.
const firstSightFile = "launched.json"

// Static is the source of a node whose ENIs came with its launch: read from the instance metadata service alone, without a
// call of AWS and without a right to one.
type Static struct {
	metadata Metadata
	launched []string // ids of the pod ENIs
	enis     []eni.ENI
}

// Launched returns the source of a node of static allocation, nil when no pod ENI came with the launch: where a launch can
// have one interface only (a public address), its node allocates dynamically. Where the launch is certain to have brought one, none is
// an error: the metadata service does not tell of it yet.
func Launched(ctx context.Context, metadata Metadata, stateDir string, certain bool, log *slog.Logger) (*Static, error) {
	s := &Static{metadata: metadata}
	path := filepath.Join(stateDir, firstSightFile)
	content, err := os.ReadFile(path)
	switch {
	case err == nil:
		if err := json.Unmarshal(content, &s.launched); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	case errors.Is(err, fs.ErrNotExist):
		interfaces, err := metadata.Interfaces(ctx)
		if err != nil {
			return nil, err
		}
		s.launched = []string{}
		for _, i := range interfaces {
			switch {
			case i.NetworkCard > 0 || i.DeviceIndex == 0:
			case len(i.Prefixes) == 0: // the service lags behind EC2
				return nil, fmt.Errorf("the instance metadata service tells of no pod addresses of ENI %s yet", i.ID)
			default:
				s.launched = append(s.launched, i.ID)
			}
		}
		if certain && len(s.launched) == 0 {
			return nil, fmt.Errorf("the node's label %s says that pod ENIs came with its launch, and the instance metadata service tells of none yet", v1alpha1.LabelAllocation)
		}
		if content, err = json.Marshal(s.launched); err != nil {
			return nil, err
		}
		if err := pool.WriteFileAtomically(path, content, 0o600); err != nil {
			return nil, err
		}
		log.Info("looked for pod ENIs that came with the launch", "enis", s.launched)
	default:
		return nil, err
	}
	if len(s.launched) == 0 {
		return nil, nil //nolint:nilnil // the doc says so
	}
	return s, nil
}

// Refresh reads the interfaces, once: they do not change.
func (s *Static) Refresh(ctx context.Context) error {
	if s.Known() {
		return nil
	}
	interfaces, err := s.metadata.Interfaces(ctx)
	if err != nil {
		return err
	}
	var enis []eni.ENI
	for _, i := range interfaces {
		if slices.Contains(s.launched, i.ID) {
			enis = append(enis, eni.ENI{
				ID: i.ID, MAC: i.MAC, Subnet: i.Subnet, SubnetCIDR: i.SubnetCIDR, DeviceIndex: i.DeviceIndex, Primary: i.Primary,
				Prefixes: i.Prefixes, Ours: true, DeleteOnTermination: true,
			})
		}
	}
	if len(enis) < len(s.launched) {
		return fmt.Errorf("the instance metadata service tells of %d of the ENIs %v that came with the launch", len(enis), s.launched)
	}
	s.enis = enis
	return nil
}

// Known tells whether Refresh has succeeded.
func (s *Static) Known() bool { return len(s.enis) > 0 }

// Pool is all there is.
func (s *Static) Pool() []eni.ENI { return slices.Clone(s.enis) }

// ENIs are those that came with the launch.
func (s *Static) ENIs() []eni.ENI { return s.Pool() }

// Step only says when there is too little.
func (s *Static) Step(_ context.Context, d Demand) (Result, error) {
	in := pool.Input{Waiting: d.Waiting}
	free := 0
	for _, e := range s.enis {
		attached := pool.AttachedENI{ID: e.ID, DeviceIndex: e.DeviceIndex, Blocks: blocks(e.Prefixes, d)}
		for _, b := range attached.Blocks {
			free += pool.Addresses([]netip.Prefix{b.Prefix}) - b.Leased - b.Cooling
		}
		in.PodENIs = append(in.PodENIs, attached)
	}
	result := Result{Input: in}
	if d.Waiting > free {
		total, _, cooling := in.Usage()
		return result, &eni.Error{Reason: eni.Exhausted, Message: fmt.Sprintf(
			"%d pods wait for an address: of the %d that came with the launch (allocation Static) %d are free and %d cool down", d.Waiting, total, max(free, 0), cooling)}
	}
	return result, nil
}
