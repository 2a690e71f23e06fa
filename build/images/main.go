// Command images builds spillwayd and writes its container images as files, without a container daemon:
//
//	spillwayd-V-linux-ARCH.tar   docker-archive of one platform, for "ctr images import" and "docker load"
//	spillwayd-V.oci.tar          OCI image layout of all platforms, for skopeo, crane and oras
//	spillwayd-V.cdx.json         what is in the program, in CycloneDX's words
//	digests.json                 the digests of all of them
//
// The same commit gives the same bytes with the same version of Go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// options are what the command line says.
type options struct {
	platforms  []string // linux/ARCH
	out        string   // folder
	version    string
	repository string // name of the image without a tag
	program    string // built already; empty: build it
}

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = writeAll(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "images: "+err.Error())
		return 1
	}
	return 0
}

func parse(args []string, out io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	flags.SetOutput(out)
	platforms := flags.String("platforms", "linux/"+runtime.GOARCH, "`platforms` to build for, with commas between them, such as linux/amd64,linux/arm64")
	flags.StringVar(&o.out, "out", "bin/images", "`folder` to write to")
	flags.StringVar(&o.version, "version", "", "semantic `version` without a leading v; the tag of the image")
	flags.StringVar(&o.repository, "repository", "ghcr.io/spillway-dev/spillwayd", "`name` of the image, without a tag")
	flags.StringVar(&o.program, "program", "", "pack this `file`, which is built already, for the one platform it was built for")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	o.platforms = strings.Split(*platforms, ",")
	return o, o.check(flags.Args())
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("do not know what to do with %q: there are only flags", rest[0])
	case o.version == "":
		return errors.New("--version is missing: the version that the image gets as its tag")
	case strings.HasPrefix(o.version, "v"):
		return fmt.Errorf("--version %s: leave out the v in front", o.version)
	case o.program != "" && len(o.platforms) > 1:
		return errors.New("--program is built for one platform: give one with --platforms")
	}
	for _, platform := range o.platforms {
		if system, arch, ok := strings.Cut(platform, "/"); !ok || system != "linux" || arch == "" || strings.Contains(arch, "/") {
			return fmt.Errorf("--platforms: %q is not linux/ARCHITECTURE", platform)
		}
	}
	return nil
}
