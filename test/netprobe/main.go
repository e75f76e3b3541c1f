// SPDX-License-Identifier: Apache-2.0

// Netprobe asks, from inside a network namespace, what a network does: it accepts and opens TCP connections, says which
// address the other side saw, and lists what the kernel there holds. It is static and needs no other program, so that
// it runs in a pod's namespace and on a node alike.
//
//	netprobe listen ADDR                   print "listening ADDR", then one peer address a connection, and reply it
//	netprobe serve ADDR                    the same without a word, until it is told to end: the program of a container
//	netprobe dial [-timeout 5s] ADDR       connect, print what the listener replies
//	netprobe request [-timeout 5s] [-every 50ms]  dial one after the other of the ADDRs in the last line of standard input; print
//	                                       "ok ADDR" or "failed ADDR: why" for each
//	netprobe get [-timeout 5s] [-ca BASE64] URL
//	netprobe kernel                        print rules, routes and nftables, sorted, one fact a line
//	netprobe machine                       print the addresses of a node's pods in the kernel, and the leases, as JSON
//	netprobe pids NAME                     print the processes of this namespace that run the program NAME
//	netprobe kill [-hold] NAME             send them SIGKILL, and with -hold whoever follows them
//
// What goes on and on (listen, request, kill -hold) ends with standard input: that reaches through any number of programs that
// stand between, which signals do not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// command is one verb: the flags it takes besides its one operand, and what it does.
type command struct {
	flags func(*flag.FlagSet, *settings)
	// operand names the argument; "" takes none.
	operand string
	run     func(context.Context, settings, string) error
}

// settings are the values of all flags; a command declares those it reads.
type settings struct {
	timeout time.Duration
	every   time.Duration
	ca      string
	hold    bool
}

func withoutFlags(*flag.FlagSet, *settings) {}

func withTimeout(flags *flag.FlagSet, s *settings) {
	flags.DurationVar(&s.timeout, "timeout", 5*time.Second, "for connecting and the answer")
}

var commands = map[string]command{
	"listen": {withoutFlags, "ADDR", listen},
	"serve":  {withoutFlags, "ADDR", serve},
	"dial":   {withTimeout, "ADDR", dial},
	"request": {func(flags *flag.FlagSet, s *settings) {
		withTimeout(flags, s)
		flags.DurationVar(&s.every, "every", 50*time.Millisecond, "from one request to the next")
	}, "", request},
	"get": {func(flags *flag.FlagSet, s *settings) {
		withTimeout(flags, s)
		flags.StringVar(&s.ca, "ca", "", "PEM of the authority that signed the server's certificate, in base64")
	}, "URL", get},
	"kernel":  {withoutFlags, "", printKernel},
	"machine": {withoutFlags, "", printMachine},
	"pids":    {withoutFlags, "NAME", printProcesses},
	"kill": {func(flags *flag.FlagSet, s *settings) {
		flags.BoolVar(&s.hold, "hold", false, "go on until standard input ends")
	}, "NAME", killProcesses},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "netprobe: %v\n", err)
		os.Exit(1) //nolint:gocritic // nothing is left to do but what stop undoes
	}
}

// untilInputEnds returns a context that ends with standard input.
func untilInputEnds(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin) // an error is an end too
	}()
	return ctx, cancel
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("want listen, serve, dial, request, get, kernel, machine, pids or kill")
	}
	verb, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("unknown command %q: want listen, serve, dial, request, get, kernel, machine, pids or kill", args[0])
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	var set settings
	verb.flags(flags, &set)
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if verb.operand == "" && flags.NArg() != 0 || verb.operand != "" && flags.NArg() != 1 {
		return fmt.Errorf("usage: netprobe %s [flags] %s", args[0], verb.operand)
	}
	return verb.run(ctx, set, flags.Arg(0))
}
