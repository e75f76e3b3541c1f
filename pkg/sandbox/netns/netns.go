// SPDX-License-Identifier: Apache-2.0

// Package netns makes network namespaces and works inside them. A namespace is a file that others can enter by, as
// `ip netns` and container runtimes have it.
package netns

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Create makes a network namespace, with loopback up, and binds it to a file that must not exist.
func Create(path string) error {
	done := make(chan error, 1)
	go func() { done <- createBound(path) }()
	if err := <-done; err != nil {
		return err
	}
	err := Do(path, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		return errors.Join(err, Delete(path))
	}
	return nil
}

// createBound makes a namespace on the calling goroutine's thread, binds it, and takes the thread back to where it was. A
// thread that could not go back is never unlocked, so that no other goroutine runs there. To leave every thread locked
// would not do: the runtime cannot end a process's first thread, and its namespace is what others take for the process's.
func createBound(path string) error {
	runtime.LockOSThread()
	origin, err := ns.GetCurrentNS()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer origin.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("creating a network namespace: %w", err)
	}
	err = Bind(path)
	if back := origin.Set(); back != nil {
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}

// Bind gives the namespace of the calling thread a file, which must not exist.
func Bind(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	file.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	current := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
	if err := unix.Mount(current, path, "none", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("binding a network namespace to %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// Delete unbinds the namespace. It ends with the last process in it. Deleting it again does no harm.
func Delete(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmounting %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Do calls f on a thread that is in the namespace. Goroutines that f starts are not.
func Do(path string, f func() error) error {
	return ns.WithNetNSPath(path, func(ns.NetNS) error { return f() })
}

// Listen opens a TCP listener in the namespace; it can be served from anywhere.
func Listen(path, address string) (listener net.Listener, err error) {
	err = Do(path, func() (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	})
	return listener, err
}

// Sysctl sets net.* of the calling thread's namespace; name has slashes.
func Sysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("sysctl net/%s=%s: %w", name, value, err)
	}
	return nil
}
