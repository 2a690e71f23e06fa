package lab

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// kubernetesVersion is what the components report. It has to be the version
// in binaries/go.mod; a test compares them.
const kubernetesVersion = "v1.36.3"

// cacheEnv moves the cache of built binaries.
const cacheEnv = "SPILLWAY_LAB_CACHE"

// buildGroup is a set of programs that one `go build` makes.
type buildGroup struct {
	packages []string // the program's name is the last element, or as in programName
	cgo      bool
	tags     string
	ldflags  string
}

// buildGroups says how everything is built. Any change changes the cache's
// folder.
func buildGroups() []buildGroup {
	major, minor, _ := strings.Cut(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	const version = "-X k8s.io/component-base/version."
	kube := "-s -w " + version + "gitVersion=" + kubernetesVersion + " " +
		version + "gitMajor=" + major + " " + version + "gitMinor=" + minor
	const cni = "github.com/containernetworking/plugins/plugins/"
	const containerd = "github.com/containerd/containerd/v2/cmd/"
	return []buildGroup{
		{packages: []string{
			"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kube-controller-manager", "k8s.io/kubernetes/cmd/kube-scheduler",
		}, ldflags: kube},
		{packages: []string{"go.etcd.io/etcd/server/v3"}},
		{packages: []string{"sigs.k8s.io/kwok/cmd/kwok"}},
		{packages: []string{"k8s.io/kubernetes/cmd/kubectl"}, ldflags: kube},
		{packages: []string{"k8s.io/kubernetes/cmd/kubelet", "k8s.io/kubernetes/cmd/kube-proxy"}, ldflags: kube},
		{packages: []string{containerd + "containerd", containerd + "containerd-shim-runc-v2", containerd + "ctr"},
			tags: "no_btrfs,no_devmapper,no_zfs,no_aufs"},
		// Without the tag seccomp, which would need libseccomp's headers.
		{packages: []string{"github.com/opencontainers/runc"}, cgo: true},
		{packages: []string{cni + "main/bridge", cni + "main/loopback", cni + "ipam/host-local", cni + "meta/portmap"}},
		{packages: []string{"github.com/coredns/coredns"}},
	}
}

func programName(pkg string) string {
	if pkg == "go.etcd.io/etcd/server/v3" {
		return Etcd
	}
	return filepath.Base(pkg)
}

func (g buildGroup) names() []string {
	var names []string
	for _, p := range g.packages {
		names = append(names, programName(p))
	}
	return names
}

// BinaryNames lists all programs the lab can build. With real false, only
// those that clusters of simulated nodes need.
func BinaryNames(real bool) []string {
	if !real {
		return []string{Etcd, APIServer, ControllerManager, Scheduler, Kwok}
	}
	var names []string
	for _, m := range modules() {
		names = append(names, m.programs()...)
	}
	return names
}

// Binary returns the path of a program (see BinaryNames), from the cache or
// built into it, which takes minutes on an empty Go build cache. The cache is
// $SPILLWAY_LAB_CACHE, else spillway-lab in the user's cache folder; in it a
// folder per content: a module's versions and sums, the flags, and the Go
// version. Progress gets lines while it builds; nil means none.
func Binary(ctx context.Context, name string, progress io.Writer) (string, error) {
	paths, err := Binaries(ctx, progress, name)
	return paths[name], err
}

// Binaries does the same for several programs, by name.
func Binaries(ctx context.Context, progress io.Writer, names ...string) (map[string]string, error) {
	caches := map[string]*cache{} // by folder of the module
	paths := map[string]string{}
	for _, name := range names {
		m, group, err := findProgram(name)
		if err != nil {
			return nil, err
		}
		if caches[m.folder] == nil {
			if caches[m.folder], err = openCache(ctx, m, cmp.Or[io.Writer](progress, io.Discard)); err != nil {
				return nil, err
			}
		}
		if paths[name], err = caches[m.folder].get(ctx, name, group); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// cache is the folder for one content of one module.
type cache struct {
	module   module
	dir      string
	progress io.Writer
}

func openCache(ctx context.Context, m module, progress io.Writer) (*cache, error) {
	base, err := cacheBase()
	if err != nil {
		return nil, err
	}
	version, err := exec.CommandContext(ctx, "go", "env", "GOVERSION").Output()
	if err != nil {
		return nil, fmt.Errorf("ask Go for its version (the lab builds Kubernetes from source, so it needs Go in the PATH): %w", err)
	}
	key := cacheKey(m.mod, m.sum, m.groups, strings.TrimSpace(string(version))+" "+runtime.GOOS+"/"+runtime.GOARCH)
	c := &cache{module: m, dir: filepath.Join(base, key), progress: progress}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w", err)
	}
	return c, nil
}

// cacheBase is the folder for all contents.
func cacheBase() (string, error) {
	if base := os.Getenv(cacheEnv); base != "" {
		return base, nil
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set %s): %w", cacheEnv, err)
	}
	return filepath.Join(user, "spillway-lab"), nil
}

// cacheKey names the folder for all that decides what the binaries are.
func cacheKey(mod, sum []byte, groups []buildGroup, toolchain string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %d %s\n%+v\n", len(mod), len(sum), toolchain, groups)
	h.Write(mod)
	h.Write(sum)
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func (c *cache) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cache) has(name string) bool {
	info, err := os.Stat(c.path(name))
	return err == nil && info.Mode().IsRegular()
}

func (c *cache) get(ctx context.Context, name string, group buildGroup) (string, error) {
	if c.has(name) {
		return c.path(name), nil
	}
	lock, err := c.lock(ctx)
	if err != nil {
		return "", fmt.Errorf("lock the cache of binaries: %w", err)
	}
	defer lock.Close()
	if c.has(name) { // somebody else has built it while we waited
		return c.path(name), nil
	}
	if err := c.build(ctx, group); err != nil {
		return "", fmt.Errorf("build %s: %w", strings.Join(group.names(), ", "), err)
	}
	return c.path(name), nil
}

// lock makes sure that one process builds at a time; closing unlocks.
func (c *cache) lock(ctx context.Context) (*os.File, error) {
	var lock *os.File
	said := false
	err := poll(ctx, 200*time.Millisecond, func(context.Context) (bool, error) {
		var err error
		lock, err = lockNow(filepath.Join(c.dir, "lock"))
		if errors.Is(err, errLocked) && !said {
			said = true
			fmt.Fprintln(c.progress, "another process builds the binaries: waiting for it")
		}
		return err == nil, err
	})
	return lock, err
}

// build makes all programs of a group under other names and then moves them
// into place, so that nobody ever sees half of one.
func (c *cache) build(ctx context.Context, g buildGroup) error {
	work, err := c.workDir()
	if err != nil {
		return err
	}
	out, err := os.MkdirTemp(c.dir, ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(out)
	begun := time.Now()
	names := strings.Join(g.names(), ", ")
	fmt.Fprintf(c.progress, "building %s (once; the first time takes minutes)\n", names)
	stop := every(15*time.Second, func() {
		fmt.Fprintf(c.progress, "building %s: %s so far\n", names, time.Since(begun).Round(time.Second))
	})
	err = c.run(ctx, work, out, g)
	stop()
	if err != nil {
		return err
	}
	for i, pkg := range g.packages {
		built := filepath.Join(out, filepath.Base(pkg))
		if len(g.packages) == 1 {
			built = filepath.Join(out, g.names()[i])
		}
		if err := os.Rename(built, c.path(g.names()[i])); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.progress, "built %s in %s\n", names, time.Since(begun).Round(time.Second))
	return nil
}

func (c *cache) run(ctx context.Context, work, out string, g buildGroup) error {
	target := out + "/"
	if len(g.packages) == 1 {
		target += g.names()[0]
	}
	args := []string{"build", "-o", target, "-ldflags", cmp.Or(g.ldflags, "-s -w")}
	if g.tags != "" {
		args = append(args, "-tags", g.tags)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, g.packages...)...)
	cmd.Dir = work
	cgo := "0"
	if g.cgo {
		cgo = "1"
	}
	// GOFLAGS could hold -mod=vendor or tags of the caller's project.
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo, "GOWORK=off", "GOFLAGS=-buildvcs=false", "GOOS="+runtime.GOOS, "GOARCH="+runtime.GOARCH)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	output, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && g.cgo {
		err = fmt.Errorf("%w (it needs a C compiler; on Debian: apt install gcc libc6-dev)", err)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}

// workDir makes the folder of the nested module, which is not there when the
// lab runs without its checkout.
func (c *cache) workDir() (string, error) {
	dir := filepath.Join(c.dir, "module")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, errors.Join(
		os.WriteFile(filepath.Join(dir, "go.mod"), c.module.mod, 0o644),
		os.WriteFile(filepath.Join(dir, "go.sum"), c.module.sum, 0o644),
	)
}

// every calls f again and again until it is stopped.
func every(d time.Duration, f func()) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}
