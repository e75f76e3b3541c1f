// SPDX-License-Identifier: Apache-2.0

// The plugin gives pods their addresses, as the container runtime asks. `cni install --to DIR` puts it where the runtime
// looks for plugins.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/version"
)

func main() {
	if version.Asked(os.Args[1:], os.Stdout) {
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "install" {
		if err := install(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "cni install:", err)
			os.Exit(1)
		}
		return
	}
	cni.Main("Dovetail's CNI plugin")
}

// install replaces the plugin in one step: a pod that starts just then runs the old one or the new one.
func install(args []string) error {
	flags := flag.NewFlagSet("install", flag.ContinueOnError)
	to := flags.String("to", "/opt/cni/bin", "folder of the runtime's plugins")
	if err := flags.Parse(args); err != nil {
		return err
	}
	source, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.CreateTemp(*to, "."+cni.Type+".*")
	if err != nil {
		return err
	}
	defer os.Remove(target.Name()) // fails once it is renamed, and that is fine
	if _, err := io.Copy(target, source); err != nil {
		return err
	}
	if err := target.Chmod(0o755); err != nil {
		return err
	}
	if err := target.Close(); err != nil {
		return err
	}
	return os.Rename(target.Name(), filepath.Join(*to, cni.Type))
}
