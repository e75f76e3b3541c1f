// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// faultKinds are the commands below `fault add`.
func faultKinds() []faultKind {
	kinds := append(accountFaults(), callFaults()...)
	return append(kinds, instanceFaults()...)
}

// accountFaults are about what an account runs out of, and about its cluster.
func accountFaults() []faultKind {
	var (
		capacity aws.CapacityFault
		subnet   aws.SubnetFault
		outage   aws.OutageFault
	)
	return []faultKind{{
		use: "capacity", short: "Let pools run dry: InsufficientInstanceCapacity, or another code",
		example: `  # no spot instance of the m5 family in one zone
  dovetail sandbox fault add capacity --type 'm5.*' --zone us-east-1a --lifecycle spot
  # two more instances of each type and zone, then the account's limit
  dovetail sandbox fault add capacity --left 2 --lifecycle on-demand --code VcpuLimitExceeded`,
		args: cobra.NoArgs, counted: true, lasting: true,
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&capacity.Type, "type", "", "instance type, or a pattern (default all)")
			c.Flags().StringVar(&capacity.Zone, "zone", "", "zone (default all)")
			c.Flags().StringVar(&capacity.Lifecycle, "lifecycle", "", "on-demand or spot (default both)")
			c.Flags().IntVar(&capacity.Left, "left", 0, "instances that each pool still launches")
			c.Flags().StringVar(&capacity.Code, "code", "", "error code (default InsufficientInstanceCapacity)")
		},
		fault: func([]string) aws.Fault { return aws.Fault{Capacity: &capacity} },
	}, {
		use: "subnet SUBNET", short: "Fill a subnet, or leave addresses of it scattered so that no /28 is free",
		example: `  # InsufficientCidrBlocks for every prefix
  dovetail sandbox fault add subnet subnet-0d0ec0de0000000c1 --mode fragment --leave 60
  # no address at all
  dovetail sandbox fault add subnet subnet-0d0ec0de0000000c1`,
		args: cobra.ExactArgs(1), lasting: true, random: true,
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&subnet.Mode, "mode", aws.FillSubnet, aws.FillSubnet+" or "+aws.FragmentSubnet)
			c.Flags().IntVar(&subnet.Leave, "leave", 0, "addresses that stay free")
		},
		fault: func(args []string) aws.Fault {
			subnet.ID = args[0]
			return aws.Fault{Subnet: &subnet}
		},
	}, {
		use: "outage COMPONENT", short: "Stop a part of the control plane: apiserver, etcd, controller-manager or scheduler",
		example: `  # it answers nobody for half a minute
  dovetail sandbox fault add outage apiserver --for 30s
  # its connections break, new ones are refused
  dovetail sandbox fault add outage etcd --kill --for 1m`,
		args: cobra.ExactArgs(1), lasting: true,
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&outage.Kill, "kill", false, "end it, and start it again on its data; otherwise it stands still")
		},
		fault: func(args []string) aws.Fault {
			outage.Component = args[0]
			return aws.Fault{Outage: &outage}
		},
	}}
}

// callFaults are about calls of the AWS APIs.
func callFaults() []faultKind {
	var (
		latency   aws.LatencyFault
		throttle  aws.ThrottleFault
		failure   aws.ErrorFault
		lostReply aws.LostReplyFault
	)
	return []faultKind{{
		use: "latency [ACTION]", short: "Let calls take longer; a write has its effect before",
		example: `  dovetail sandbox fault add latency --add 200ms-2s
  dovetail sandbox fault add latency AttachNetworkInterface --add 30s --times 1`,
		args: cobra.MaximumNArgs(1), counted: true, lasting: true, random: true,
		flags: func(c *cobra.Command) { spanFlag(c, &latency.Add, "how much longer: 2s, or 1s-3s") },
		fault: func(args []string) aws.Fault {
			if len(args) > 0 {
				latency.Action = args[0]
			}
			return aws.Fault{Latency: &latency}
		},
	}, {
		use: "throttle ACTION", short: "Give calls a smaller request bucket: RequestLimitExceeded",
		example: `  # five calls at once, then one in two seconds
  dovetail sandbox fault add throttle AssignPrivateIpAddresses --capacity 5 --refill 0.5`,
		args: cobra.ExactArgs(1), counted: true, lasting: true,
		flags: func(c *cobra.Command) {
			c.Flags().Float64Var(&throttle.Capacity, "capacity", 0, "calls in a full bucket")
			c.Flags().Float64Var(&throttle.Refill, "refill", 0, "calls a second")
		},
		fault: func(args []string) aws.Fault {
			throttle.Action = args[0]
			return aws.Fault{Throttle: &throttle}
		},
	}, {
		use: "error ACTION CODE", short: "Let calls answer an error",
		example: `  # a role that lacks a right
  dovetail sandbox fault add error CreateNetworkInterface UnauthorizedOperation
  # every third call, after it had its effect
  dovetail sandbox fault add error AssignPrivateIpAddresses InternalError --rate 0.33 --after-effect --seed 7`,
		args: cobra.ExactArgs(2), counted: true, lasting: true, random: true,
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&failure.Message, "message", "", "text of the error (default EC2's, for common codes)")
			c.Flags().IntVar(&failure.Status, "status", 0, "HTTP status (default the code's)")
			c.Flags().BoolVar(&failure.AfterEffect, "after-effect", false, "let the call do its work first")
			rateFlag(c, &failure.Rate)
		},
		fault: func(args []string) aws.Fault {
			failure.Action, failure.Code = args[0], args[1]
			return aws.Fault{Error: &failure}
		},
	}, {
		use: "lost-reply ACTION", short: "Let calls have their effect, and close the connection without an answer",
		example: `  dovetail sandbox fault add lost-reply CreateFleet --times 1`,
		args:    cobra.ExactArgs(1), counted: true, lasting: true, random: true,
		flags: func(c *cobra.Command) { rateFlag(c, &lostReply.Rate) },
		fault: func(args []string) aws.Fault {
			lostReply.Action = args[0]
			return aws.Fault{LostReply: &lostReply}
		},
	}}
}

// instanceFaults are about single instances.
func instanceFaults() []faultKind {
	var (
		lag       aws.MetadataLagFault
		away      aws.MetadataErrorFault
		interrupt aws.InterruptFault
		change    aws.ScheduledChangeFault
		in        time.Duration
	)
	return []faultKind{{
		use: "metadata-lag", short: "Let IMDS tell of interfaces and addresses later",
		example: `  dovetail sandbox fault add metadata-lag --add 20s`,
		args:    cobra.NoArgs, counted: true, lasting: true, random: true,
		flags: func(c *cobra.Command) {
			spanFlag(c, &lag.Add, "how much later: 2s, or 1s-3s")
			c.Flags().StringVar(&lag.Instance, "instance", "", "id (default all)")
		},
		fault: func([]string) aws.Fault { return aws.Fault{MetadataLag: &lag} },
	}, {
		use: "metadata-error", short: "Let IMDS answer an error, or nothing",
		example: `  # it is not reached
  dovetail sandbox fault add metadata-error --instance i-... --for 1m
  # it is overloaded
  dovetail sandbox fault add metadata-error --status 503 --rate 0.5`,
		args: cobra.NoArgs, counted: true, lasting: true, random: true,
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&away.Instance, "instance", "", "id (default all)")
			c.Flags().IntVar(&away.Status, "status", 0, "HTTP status (default: the connection is closed without an answer)")
			rateFlag(c, &away.Rate)
		},
		fault: func([]string) aws.Fault { return aws.Fault{MetadataError: &away} },
	}, {
		use: "kill INSTANCE", short: "Let an instance die",
		example: `  dovetail sandbox fault add kill i-...`,
		args:    cobra.ExactArgs(1),
		fault:   func(args []string) aws.Fault { return aws.Fault{Kill: &aws.KillFault{Instance: args[0]}} },
	}, {
		use: "hang INSTANCE", short: "Let an instance hang: its processes stand still, and EC2 says that it runs",
		example: `  dovetail sandbox fault add hang i-... --for 2m`,
		args:    cobra.ExactArgs(1), lasting: true,
		fault: func(args []string) aws.Fault { return aws.Fault{Kill: &aws.KillFault{Instance: args[0], Hang: true}} },
	}, {
		use: "interrupt INSTANCE", short: "Take a spot instance back, after a warning",
		example: `  dovetail sandbox fault add interrupt i-...
  dovetail sandbox fault add interrupt i-... --rebalance`,
		args: cobra.ExactArgs(1),
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&interrupt.Rebalance, "rebalance", false, "recommend rebalancing only")
		},
		fault: func(args []string) aws.Fault {
			interrupt.Instance = args[0]
			return aws.Fault{Interrupt: &interrupt}
		},
	}, {
		use: "scheduled-change INSTANCE EVENT", short: "Announce maintenance of an instance",
		example: `  dovetail sandbox fault add scheduled-change i-... instance-retirement --in 1h`,
		args:    cobra.ExactArgs(2),
		flags:   func(c *cobra.Command) { c.Flags().DurationVar(&in, "in", 0, "when it will be") },
		fault: func(args []string) aws.Fault {
			change.Instance, change.Event, change.In = args[0], args[1], aws.Duration(in)
			return aws.Fault{ScheduledChange: &change}
		},
	}}
}

func spanFlag(c *cobra.Command, span *aws.Span, usage string) {
	c.Flags().TextVar(span, "add", aws.Span{}, usage)
	_ = c.MarkFlagRequired("add") // it was defined a line above
}

func rateFlag(c *cobra.Command, rate *float64) {
	c.Flags().Float64Var(rate, "rate", 1, "share of the calls that it strikes")
}
