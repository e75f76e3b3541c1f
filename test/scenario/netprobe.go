// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strings"
)

// background is a netprobe that runs inside the sandbox until it is stopped.
type background struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	stderr bytes.Buffer
}

// start starts netprobe in a place that exec knows, and returns with its first line.
func (s *Sandbox) start(ctx context.Context, kind, where string, args ...string) (*background, string, error) {
	b := &background{cmd: s.command(ctx, s.exec(kind, where, s.netprobe(args...))...)}
	b.cmd.Stderr = &b.stderr
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	b.stdout = bufio.NewReader(stdout)
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, "", err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, "", err
	}
	first, err := b.stdout.ReadString('\n')
	if err != nil {
		_, _ = b.stop() // what it wrote to standard error says more
		return nil, "", fmt.Errorf("netprobe %s in %s: %s", strings.Join(args, " "), where, strings.TrimSpace(b.stderr.String()))
	}
	return b, strings.TrimSpace(first), nil
}

// stop ends it, and returns what else it printed.
func (b *background) stop() (string, error) {
	_ = b.stdin.Close() // closed already where it ended by itself
	rest, err := io.ReadAll(b.stdout)
	return string(rest), errors.Join(err, b.cmd.Wait())
}

// Translation is a connection that the VPC's NAT gateway translates.
type Translation struct {
	// Source is the address in the VPC that the connection comes from.
	Source     netip.Addr `json:"source"`
	SourcePort uint16     `json:"sourcePort"`
	// Destination is on the internet.
	Destination netip.Addr `json:"destination"`
}

// Translations asks the sandbox for what the NAT gateway translates now or did lately.
func (s *Sandbox) Translations(ctx context.Context) ([]Translation, error) {
	out, err := s.dovetail(ctx, "sandbox", "status", "--dir", s.opts.Dir, "-o", "json")
	if err != nil {
		return nil, err
	}
	var status struct {
		Translations []Translation `json:"translations"`
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return nil, fmt.Errorf("sandbox status: %w: %s", err, out)
	}
	return status.Translations, nil
}
