// SPDX-License-Identifier: Apache-2.0

// Netprobe asks, from inside a network namespace, what a network does: it accepts and opens TCP connections, says which
// address the other side saw, and lists what the kernel there holds. It is static and needs no other program, so that
// it runs in a pod's namespace and on a node alike.
//
//	netprobe listen [-for 1m] ADDR         print "listening ADDR", then one peer address a connection, and reply it
//	netprobe dial [-timeout 5s] ADDR       connect, print what the listener replies
//	netprobe get [-timeout 5s] [-ca BASE64] URL
//	netprobe kernel                        print rules, routes and nftables, sorted, one fact a line
//	netprobe pids NAME                     print the processes of this namespace that run the program NAME
//	netprobe kill [-for 10s] NAME          send them SIGKILL, and whoever follows them until the time is over
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// command is one verb: the flags it takes besides its one operand, and what it does.
type command struct {
	flags func(*flag.FlagSet) *settings
	// operand names the argument; "" takes none.
	operand string
	run     func(context.Context, settings, string) error
}

// settings are the values of all flags; a command declares those it reads.
type settings struct {
	duration time.Duration
	ca       string
}

func timed(name string, value time.Duration, usage string) func(*flag.FlagSet) *settings {
	return func(flags *flag.FlagSet) *settings {
		s := &settings{}
		flags.DurationVar(&s.duration, name, value, usage)
		return s
	}
}

func withoutFlags(*flag.FlagSet) *settings { return &settings{} }

var commands = map[string]command{
	"listen": {timed("for", time.Minute, "how long to accept connections"), "ADDR", listen},
	"dial":   {timed("timeout", 5*time.Second, "for connecting and the reply"), "ADDR", dial},
	"get": {func(flags *flag.FlagSet) *settings {
		s := timed("timeout", 5*time.Second, "for the whole request")(flags)
		flags.StringVar(&s.ca, "ca", "", "PEM of the authority that signed the server's certificate, in base64")
		return s
	}, "URL", get},
	"kernel": {withoutFlags, "", printKernel},
	"pids":   {withoutFlags, "NAME", printProcesses},
	"kill":   {timed("for", 0, "how long to kill its successors too"), "NAME", killProcesses},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "netprobe: %v\n", err)
		os.Exit(1) //nolint:gocritic // nothing is left to do but what stop undoes
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("want listen, dial, get, kernel, pids or kill")
	}
	verb, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q: want listen, dial, get, kernel, pids or kill", args[0])
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	set := verb.flags(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if verb.operand == "" && flags.NArg() != 0 || verb.operand != "" && flags.NArg() != 1 {
		return fmt.Errorf("usage: netprobe %s [flags] %s", args[0], verb.operand)
	}
	return verb.run(ctx, *set, flags.Arg(0))
}
