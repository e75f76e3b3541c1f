// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// RunInit makes the calling process what the first process of a process namespace must be: it starts one command with its
// own standard streams, collects every process that ends here without a parent, and returns when the command has ended. Such a process must not wait
// for others.
func RunInit(path string, args []string, attr *os.ProcAttr) error {
	child, err := os.StartProcess(path, append([]string{path}, args...), attr)
	if err != nil {
		return fmt.Errorf("start %s: %w", path, err)
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for processes: %w", err)
		case pid == child.Pid:
			return fmt.Errorf("%s ended: exit status %d, signal %d", path, status.ExitStatus(), status.Signal())
		}
	}
}
