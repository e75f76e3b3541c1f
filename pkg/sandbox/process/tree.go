// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// PauseTree lets a process and all its descendants stand still until ResumeTree. Of the first process of a process namespace
// these are all processes in it.
func PauseTree(pid int) error {
	// The kernel makes no child for a parent with a signal pending, so a look that finds nobody new has found all.
	told := map[int]bool{}
	for range 500 {
		tree, err := treeOf(pid)
		if err != nil {
			return err
		}
		settled := true
		for _, member := range tree {
			if !told[member.pid] {
				settled, told[member.pid] = false, true
				if err := unix.Kill(member.pid, unix.SIGSTOP); err != nil && !errors.Is(err, unix.ESRCH) {
					return fmt.Errorf("stopping process %d: %w", member.pid, err)
				}
			}
			settled = settled && member.still()
		}
		if settled {
			return nil
		}
		time.Sleep(time.Millisecond) // there is no event for the stop of another's child
	}
	return fmt.Errorf("process %d does not stand still with all its descendants", pid)
}

// ResumeTree is the reverse of PauseTree. Parents come last: they do not see that their children stood still.
func ResumeTree(pid int) error {
	tree, err := treeOf(pid)
	if err != nil {
		return err
	}
	for _, member := range slices.Backward(tree) {
		if err := unix.Kill(member.pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("letting process %d go on: %w", member.pid, err)
		}
	}
	return nil
}

type member struct {
	pid, parent int
	state       string // see proc_pid_stat(5)
}

// still tells that a process with a pending stop does nothing: it is stopped, has ended, or is in a system call that it will not
// come back from into its program. The latter may take long: after vfork(2) it waits for a child that is stopped.
func (m member) still() bool { return strings.Contains("TtZXD", m.state) }

// treeOf returns a process and its descendants, each after its parent.
func treeOf(pid int) ([]member, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]member{}
	var tree []member
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		one, ok := parseStat(string(content))
		switch {
		case !ok:
			return nil, fmt.Errorf("%s: %q", file, content)
		case one.pid == pid:
			tree = append(tree, one)
		default:
			children[one.parent] = append(children[one.parent], one)
		}
	}
	if len(tree) == 0 {
		return nil, fmt.Errorf("process %d: %w", pid, unix.ESRCH)
	}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i].pid]...)
	}
	return tree, nil
}

// parseStat reads the first fields of a stat file. The name in parentheses may hold anything.
func parseStat(content string) (m member, ok bool) {
	before, _, _ := strings.Cut(content, " ")
	end := strings.LastIndex(content, ") ")
	if end < 0 {
		return m, false
	}
	fields := strings.Fields(content[end+2:])
	if len(fields) < 2 {
		return m, false
	}
	var err1, err2 error
	m.pid, err1 = strconv.Atoi(before)
	m.parent, err2 = strconv.Atoi(fields[1])
	m.state = fields[0]
	return m, err1 == nil && err2 == nil
}
