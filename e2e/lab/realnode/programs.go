package realnode

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
	"golang.org/x/sync/errgroup"
)

// Tools are what the lab lends.
type Tools struct {
	// Binary builds or finds a program by its name (see Binaries) and returns its absolute host path. Called by several goroutines.
	Binary func(ctx context.Context, name string) (string, error)
	// Cache is the absolute path of a directory that outlives labs, on a disk, best the one of Config.Dir. Made when missing.
	Cache string
	// Progress gets a line for people, without newline; nil means nobody wants it. Called by several goroutines.
	Progress func(format string, args ...any)
}

// Binaries are the names that Tools.Binary must know.
func Binaries() []string {
	return append(append(nodeBinaries(), cniPlugins()...), "coredns")
}

func nodeBinaries() []string {
	return []string{Containerd, "containerd-shim-runc-v2", "ctr", "runc", Kubelet, KubeProxy}
}

func cniPlugins() []string { return []string{"bridge", "host-local", "loopback", "portmap"} }

// programs are the host paths of all programs a lab's nodes need.
type programs struct {
	lent map[string]string // by name, see Binaries
	own  string            // directory with nodeinit, noseccomp, app and pause
	dir  string            // directory with bin/ and cni/, for the nodes
}

func (p programs) nodeInit() string { return filepath.Join(p.own, "nodeinit") }

// inNode maps directories in the node to directories of the host.
func (p programs) inNode() map[string]string {
	return map[string]string{
		nodespec.BinInNode: filepath.Join(p.dir, "bin"),
		nodespec.CNIInNode: filepath.Join(p.dir, "cni"),
	}
}

func (p programs) images() []Image {
	return []Image{
		{Name: PauseImage, Program: filepath.Join(p.own, "pause")},
		{Name: AppImage, Program: filepath.Join(p.own, "app"), Args: []string{"serve"}, Links: []string{"tar", "test"}},
		{Name: DNSImage, Program: p.lent["coredns"]},
	}
}

// gather finds or builds every program.
func (t Tools) gather(ctx context.Context) (programs, error) {
	names := Binaries()
	paths := make([]string, len(names))
	p := programs{lent: map[string]string{}}
	g, gctx := errgroup.WithContext(ctx)
	for i, name := range names {
		g.Go(func() (err error) {
			paths[i], err = t.Binary(gctx, name)
			return err
		})
	}
	g.Go(func() (err error) {
		p.own, err = t.buildOwn(gctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return p, err
	}
	for i, name := range names {
		p.lent[name] = paths[i]
	}
	var err error
	p.dir, err = t.collect(ctx, p)
	return p, err
}

// collect makes one directory of the nodes' programs, by hard links where it can; there is one per set of programs.
func (t Tools) collect(ctx context.Context, p programs) (string, error) {
	key, err := stamp(p.lent, Binaries()...)
	if err != nil {
		return "", err
	}
	own, err := digest(filepath.Join(p.own, "noseccomp"))
	if err != nil {
		return "", fmt.Errorf("collect programs: %w", err)
	}
	dir := filepath.Join(t.Cache, "programs-"+key+own[:8])
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	work := dir + ".new"
	defer os.RemoveAll(work)
	files := map[string]string{}
	for _, name := range nodeBinaries() {
		files[filepath.Join("bin", name)] = p.lent[name]
	}
	for _, name := range cniPlugins() {
		files[filepath.Join("cni", name)] = p.lent[name]
	}
	if version, err := exec.CommandContext(ctx, p.lent["runc"], "--version").Output(); err != nil {
		return "", fmt.Errorf("ask runc for its version: %w", err)
	} else if !bytes.Contains(version, []byte("libseccomp")) {
		files["bin/runc.real"] = p.lent["runc"]
		files["bin/runc"] = filepath.Join(p.own, "noseccomp")
	}
	for name, from := range files {
		to := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return "", fmt.Errorf("collect programs: %w", err)
		}
		if err := linkFile(from, to, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("collect programs: %w", err)
		}
	}
	if err := os.Rename(work, dir); err != nil {
		return "", fmt.Errorf("collect programs: %w", err)
	}
	return dir, nil
}

// stamp stands for the content of big files: it is the hash of their paths, sizes and times of change.
func stamp(paths map[string]string, names ...string) (string, error) {
	sum := sha256.New()
	for _, name := range names {
		info, err := os.Stat(paths[name])
		if err != nil {
			return "", fmt.Errorf("look at program %s: %w", name, err)
		}
		fmt.Fprintln(sum, name, paths[name], info.Size(), info.ModTime().UnixNano())
	}
	return hex.EncodeToString(sum.Sum(nil)[:8]), nil
}

// ownPackage is the folder of this package's programs.
const ownPackage = "github.com/spillway-dev/spillway/e2e/lab/realnode/"

// buildOwn builds the programs of this package's folders; the go command knows when there is nothing to do. One directory per
// checkout, since two may differ.
func (t Tools) buildOwn(ctx context.Context) (string, error) {
	source, err := sourceDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(t.Cache, fmt.Sprintf("own-%08x", hash(source)))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory for programs: %w", err)
	}
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", dir+"/",
		ownPackage+"nodeinit", ownPackage+"noseccomp", ownPackage+"images/app", ownPackage+"images/pause")
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the programs of real nodes in %s (they are built from a checkout of Spillway): %w\n%s", source, err, out)
	}
	return dir, nil
}

// sourceDir is a directory of the checkout: this package's own folder, or the working directory where the compiler kept no paths.
func sourceDir() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	if _, err := os.Stat(file); err == nil && filepath.IsAbs(file) {
		return filepath.Dir(file), nil
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the checkout: %w", err)
	}
	return dir, nil
}

// lockFile waits for an exclusive lock on the file, which it makes if it is missing.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	return lockOpen(f)
}

// lockOpen takes an exclusive lock on f, which is closed by unlock, or on an error.
func lockOpen(f *os.File) (unlock func(), err error) {
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// digest is the hash of a file's content.
func digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
