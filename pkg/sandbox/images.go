// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// imageRegistry is where the sandbox's images come from: nowhere. Instances have them before they boot.
const imageRegistry = "sandbox.invalid/dovetail"

// pauseArchive has the image of pods' sandboxes, which the AMI brings.
func pauseArchive(binDir string) string { return filepath.Join(binDir, "pause.tar") }

// bake makes the disk that instances boot from next, in namespaces that end with it.
func (d *daemon) bake(ctx context.Context) error {
	log, err := os.Create(filepath.Join(logDir(d.opts.Dir), "ami.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	disk, err := os.MkdirTemp(d.opts.Dir, "ami-")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "sandbox", "bake", "--dir", d.opts.Dir, "--bin-dir", d.opts.BinDir,
		"--disk", disk, "--images", strings.Join(d.opts.Images, ","))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w; see %s", err, log.Name())
	}
	return os.RemoveAll(d.machines.setAMI(disk))
}

// load bakes anew, with one archive more.
func (d *daemon) load(ctx context.Context, archive string) error {
	d.baking.Lock()
	defer d.baking.Unlock()
	if d.opts.Kubelet != Real {
		return errors.New("only instances with real kubelets have images: start the sandbox with --kubelet " + Real)
	}
	if _, err := imageNames(archive); err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	d.opts.Images = append(d.opts.Images, archive)
	return d.bake(ctx)
}

// imageTag is the tag of the controller's image in the first archive that has one.
func imageTag(archives []string) (string, error) {
	for _, archive := range archives {
		names, err := imageNames(archive)
		if err != nil {
			return "", fmt.Errorf("%s: %w", archive, err)
		}
		for _, name := range names {
			if tag, ok := strings.CutPrefix(name, imageRegistry+"/controller:"); ok {
				return tag, nil
			}
		}
	}
	return "", fmt.Errorf("no image %s/controller in %v: make images writes such an archive", imageRegistry, archives)
}

// imageNames in an archive of Docker's format, which ko writes and containerd reads.
func imageNames(archive string) ([]string, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for reader := tar.NewReader(file); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it has no manifest.json: it is no archive of images")
		}
		if err != nil {
			return nil, err
		}
		if header.Name != "manifest.json" {
			continue
		}
		var manifest []struct{ RepoTags []string }
		if err := json.NewDecoder(reader).Decode(&manifest); err != nil {
			return nil, err
		}
		var names []string
		for _, image := range manifest {
			names = append(names, image.RepoTags...)
		}
		return names, nil
	}
}

// Load gives the images of an archive to the instances that will boot, and to those that run.
func (s *Sandbox) Load(ctx context.Context, archive string) error {
	archive, err := filepath.Abs(archive)
	if err != nil {
		return err
	}
	if err := s.control(ctx, http.MethodPost, "/images?archive="+url.QueryEscape(archive), nil); err != nil {
		return err
	}
	content, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer content.Close()
	status, err := s.Status(ctx)
	if err != nil {
		return err
	}
	for _, instance := range status.Instances {
		if err := s.importImages(ctx, instance.ID, content); err != nil {
			return fmt.Errorf("instance %s: %w", instance.ID, err)
		}
	}
	return nil
}

// importImages waits for the containerd of an instance that is booting.
func (s *Sandbox) importImages(ctx context.Context, instanceID string, archive *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if _, err := archive.Seek(0, io.SeekStart); err != nil {
			return err
		}
		cmd, err := s.Command(ctx, Target{Instance: instanceID}, "ctr", "--namespace", "k8s.io", "images", "import", "-")
		if err != nil {
			return err
		}
		cmd.Stdin = archive
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", err, out)
		case <-time.After(time.Second):
		}
	}
}
