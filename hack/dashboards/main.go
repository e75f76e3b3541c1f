// SPDX-License-Identifier: Apache-2.0

// Dashboards runs the demo, scrapes the controller and the agents while it runs, and evaluates the chart's dashboards on that with
// Prometheus' own engine. draw.sh draws a picture of each from the result.
//
//	dashboards record -out DIR                       run the demo, and keep each scrape in DIR
//	dashboards evaluate -scrapes DIR >dashboards.json
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: dashboards record|evaluate [flags]")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	switch args[0] {
	case "record":
		var d demo
		flags.StringVar(&d.binDir, "bin-dir", "bin", "what 'make build controlplane' made")
		flags.StringVar(&d.examples, "examples", "examples/exhausted", "manifests of the demo")
		flags.StringVar(&d.out, "out", "", "where scrapes go")
		flags.DurationVar(&d.interval, "interval", 10*time.Second, "between scrapes")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return d.record(ctx)
	case "evaluate":
		scrapes := flags.String("scrapes", "", "what record kept")
		dashboards := flags.String("dashboards", "charts/dovetail/monitoring/dashboards", "the chart's")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		result, err := evaluate(ctx, *scrapes, *dashboards)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	}
	return fmt.Errorf("unknown command %q: record or evaluate", args[0])
}
