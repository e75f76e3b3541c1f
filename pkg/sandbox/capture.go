// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/capture"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// podLink is a pod's link in its namespace.
const podLink = "eth0"

// CaptureOptions of one capture.
type CaptureOptions struct {
	Count    int           // packets; 0: any number
	Duration time.Duration // 0: until the context ends
	Output   *os.File      // gets the pcap file
	Messages io.Writer
}

// CaptureENIs writes the packets of an ENI, or of all ENIs that an instance has now, until the context ends.
func (s *Sandbox) CaptureENIs(ctx context.Context, id string, opts CaptureOptions) error {
	config := awssdk.Config{
		Region: Region, BaseEndpoint: awssdk.String(s.AWS), Credentials: credentials.NewStaticCredentialsProvider("sandbox", "sandbox", ""),
	}
	in := &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{id}}
	if strings.HasPrefix(id, "i-") {
		in = &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{{Name: awssdk.String("attachment.instance-id"), Values: []string{id}}}}
	}
	out, err := ec2.NewFromConfig(config).DescribeNetworkInterfaces(ctx, in)
	if err != nil {
		return err
	}
	var target Target
	var links []string
	for _, eni := range out.NetworkInterfaces {
		if eni.Attachment != nil && eni.Attachment.Status == ec2types.AttachmentStatusAttached {
			target.Host = awssdk.ToString(eni.VpcId) // the router
			links = append(links, vpc.RouterEnd(awssdk.ToString(eni.NetworkInterfaceId)))
		}
	}
	if len(links) == 0 {
		return fmt.Errorf("%s has no packets: name an ENI that is attached, or a running instance", id)
	}
	return s.capture(ctx, target, links, opts)
}

// CapturePod writes the packets of a pod's link. A pod in its node's network has none: capture its instance.
func (s *Sandbox) CapturePod(ctx context.Context, target Target, opts CaptureOptions) error {
	if target.PodUID == "" {
		return s.CaptureENIs(ctx, target.Instance, opts)
	}
	return s.capture(ctx, target, []string{podLink}, opts)
}

// capture runs this program again where the links are.
func (s *Sandbox) capture(ctx context.Context, target Target, links []string, opts CaptureOptions) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer self.Close()
	// The program has no name that is the same in each mount namespace.
	args := []string{"/proc/self/fd/3", "sandbox", "capture-links", "--count", strconv.Itoa(opts.Count), "--duration", opts.Duration.String()}
	cmd, err := s.Command(context.WithoutCancel(ctx), target, append(args, links...)...)
	if err != nil {
		return err
	}
	// No signal reaches it in its process namespace for certain; the end of its input does.
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { input.Close() })()
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = []*os.File{self}, opts.Output, opts.Messages
	return cmd.Run()
}

// RunCaptureLinks is the program that capture starts.
func RunCaptureLinks(ctx context.Context, opts CaptureOptions, input io.Reader, links []string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if opts.Duration > 0 {
		ctx, stop = context.WithTimeout(ctx, opts.Duration)
		defer stop()
	}
	go func() {
		_, _ = io.Copy(io.Discard, input)
		stop()
	}()
	stats, err := capture.Links(ctx, opts.Output, opts.Count, links...)
	text := fmt.Sprintf("%d packets", stats.Packets)
	if stats.Lost > 0 {
		text += fmt.Sprintf(", %d lost: they came faster than they were written", stats.Lost)
	}
	_, err2 := fmt.Fprintln(opts.Messages, text)
	return errors.Join(err, err2)
}
