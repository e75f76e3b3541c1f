// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
)

func newCaptureCommand(opts *sandbox.Options) *cobra.Command {
	var pod, file string
	capture := sandbox.CaptureOptions{}
	command := &cobra.Command{
		Use: "capture ENI|INSTANCE|--pod NAMESPACE/NAME [-w FILE]", Short: "Write the packets of an ENI, of an instance's ENIs or of a pod to a pcap file",
		Long: `Write the packets of an ENI, of all ENIs that an instance has now, or of a pod's link to a pcap file, for tcpdump or Wireshark.
It ends with Ctrl-C, with --count or with --duration. Packets have no checksums yet where a network card would add them, and may
be larger than the MTU where a card would cut them.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if (len(args) == 0) == (pod == "") {
				return errors.New("name one of an ENI, an instance and --pod NAMESPACE/NAME")
			}
			s, err := sandbox.Open(opts.Dir)
			if err != nil {
				return err
			}
			run := func(ctx context.Context) error { return s.CaptureENIs(ctx, args[0], capture) }
			if pod != "" {
				target, err := podTarget(cmd.Context(), s, pod)
				if err != nil {
					return err
				}
				run = func(ctx context.Context) error { return s.CapturePod(ctx, target, capture) }
			}
			capture.Output, capture.Messages = os.Stdout, cmd.ErrOrStderr()
			if file == "" {
				file = strings.ReplaceAll(strings.Join(append(args, pod), ""), "/", "-") + ".pcap"
			}
			if file != "-" {
				if capture.Output, err = os.Create(file); err != nil {
					return err
				}
				defer func() { err = errors.Join(err, capture.Output.Close()) }()
				fmt.Fprintf(cmd.ErrOrStderr(), "writing to %s\n", file)
			}
			return run(cmd.Context())
		},
	}
	command.Flags().StringVar(&pod, "pod", "", "a pod's namespace and name")
	command.Flags().StringVarP(&file, "write", "w", "", "file to write, - for standard output (default: what is captured, with .pcap)")
	addCaptureFlags(command, &capture)
	return command
}

func addCaptureFlags(command *cobra.Command, capture *sandbox.CaptureOptions) {
	command.Flags().IntVarP(&capture.Count, "count", "c", 0, "end after this many packets")
	command.Flags().DurationVar(&capture.Duration, "duration", 0, "end after this time")
}

// newCaptureLinksCommand is what captures, in the namespace of the links.
func newCaptureLinksCommand() *cobra.Command {
	capture := sandbox.CaptureOptions{Output: os.Stdout, Messages: os.Stderr}
	command := &cobra.Command{Use: "capture-links", Hidden: true, RunE: func(cmd *cobra.Command, links []string) error {
		return sandbox.RunCaptureLinks(cmd.Context(), capture, cmd.InOrStdin(), links)
	}}
	addCaptureFlags(command, &capture)
	return command
}
