// SPDX-License-Identifier: Apache-2.0

// Release builds what a release publishes, into a directory: an OCI archive of each image, archives of the command line, packages
// of the charts, SBOMs, and the checksums of all. The same commit and version give the same bytes, wherever they are built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sbomDir is where SBOMs are, in what is published.
const sbomDir = "sbom"

const repository = "github.com/dovetail-dev/dovetail"

// release is what is asked for.
type release struct {
	version string // as git's tag, v1.2.3
	out     string
	work    string // for what is not published
	ko      string
	base    string // empty: .ko.yaml's
	images  []string
	// platforms of the images and of the command line, as linux/amd64.
	platforms, cli []string
	// commit is what is built; epoch is when it was made: the time of every file.
	commit string
	epoch  time.Time
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1) //nolint:gocritic // nothing is deferred that the kernel does not do
	}
}

func run(ctx context.Context) (err error) {
	r := release{}
	var images, platforms, cli string
	flag.StringVar(&r.version, "version", "", "version, as v1.2.3 (required)")
	flag.StringVar(&r.out, "out", "dist", "directory of what is published; it is emptied")
	flag.StringVar(&r.ko, "ko", "bin/tools/ko", "ko")
	flag.StringVar(&r.base, "base", "", "base of the images: empty takes .ko.yaml's; \"none\" is an empty one, which needs no registry and holds no CA certificates")
	flag.StringVar(&images, "images", "controller,agent,cni", "programs to build images of")
	flag.StringVar(&platforms, "platforms", "linux/amd64,linux/arm64", "platforms of the images")
	flag.StringVar(&cli, "cli", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64", "platforms of the command line")
	flag.Parse()
	for _, path := range []*string{&r.out, &r.ko} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	r.images, r.platforms, r.cli = list(images), list(platforms), list(cli)
	if !strings.HasPrefix(r.version, "v") {
		return errors.New("-version is a tag: v1.2.3")
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.out, sbomDir), 0o755); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "dovetail-release-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.work)) }()
	if err := r.checkOut(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{r.buildImages, r.buildCommandLine, r.packageCharts, r.sum} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func list(commas string) []string {
	return strings.FieldsFunc(commas, func(r rune) bool { return r == ',' })
}

// checkOut clones the commit and goes there: what is not committed could not be built again, and Go finds no commit in a linked
// work tree.
func (r *release) checkOut(ctx context.Context) error {
	changed, err := output(ctx, "git", "status", "--porcelain")
	if err != nil {
		return err
	}
	if changed != "" {
		fmt.Printf("not in the release, because it is not committed:\n%s\n", changed)
	}
	source := filepath.Join(r.work, "source")
	if err := execute(ctx, os.Environ(), "git", "clone", "--quiet", ".", source); err != nil {
		return err
	}
	if err := os.Chdir(source); err != nil {
		return err
	}
	head, err := output(ctx, "git", "log", "-1", "--format=%H %ct")
	if err != nil {
		return err
	}
	commit, seconds, _ := strings.Cut(head, " ")
	r.commit = commit
	unix, err := strconv.ParseInt(seconds, 10, 64)
	r.epoch = time.Unix(unix, 0).UTC()
	return err
}

// ldflags are those of .ko.yaml and the Makefile.
func (r *release) ldflags() string {
	return "-s -w -X " + repository + "/pkg/version.version=" + r.version
}

func (r *release) environment(more ...string) []string {
	epoch := strconv.FormatInt(r.epoch.Unix(), 10)
	return append(os.Environ(), append([]string{
		"CGO_ENABLED=0", "GOFLAGS=-trimpath", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0", "VERSION=" + r.version, "SOURCE_DATE_EPOCH=" + epoch, "KO_DATA_DATE_EPOCH=" + epoch,
	}, more...)...)
}

// execute runs a program whose output is for the log.
func execute(ctx context.Context, env []string, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env, cmd.Stderr = env, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(program), strings.Join(args, " "), err)
	}
	return nil
}

func output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
