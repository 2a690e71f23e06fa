package kernelvm

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// modules that the guest needs; those they depend on come by themselves.
var modules = []string{
	"wireguard", "veth", "vxlan", "nf_tables", "nft_ct", "nft_chain_nat", "nft_nat", "nft_masq", "nft_objref", "nft_hash", "nft_numgen",
	"nf_conntrack_netlink",
}

// kernel is an unpacked Debian package of a kernel.
type kernel struct {
	image   string
	modules string // folder with modules.dep
}

// fetchKernel takes the kernel from the cache of the lab, or from Debian by apt.
func fetchKernel(t *testing.T) kernel {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no cache folder: %v", err)
	}
	dir := filepath.Join(cache, "spillway-lab", "kernelvm")
	if k, ok := findKernel(dir); ok {
		return k
	}
	for _, program := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no kernel in %s, and no %s to fetch one", dir, program)
		}
	}
	depends, err := exec.CommandContext(t.Context(), "apt-cache", "show", "--no-all-versions", "linux-image-cloud-amd64").Output()
	if err != nil {
		t.Skipf("apt knows no linux-image-cloud-amd64: %v", err)
	}
	name := regexp.MustCompile(`linux-image-\d[^ ,]*`).FindString(string(depends))
	if name == "" {
		t.Skipf("linux-image-cloud-amd64 depends on no kernel:\n%s", depends)
	}
	download := t.TempDir()
	if err := os.Chmod(download, 0o777); err != nil { // apt downloads as a user without rights
		t.Fatal(err)
	}
	if out, err := command(t, download, "apt-get", "download", "-q", name); err != nil {
		t.Skipf("download %s: %v\n%s", name, err, out)
	}
	debs, _ := filepath.Glob(filepath.Join(download, "*.deb"))
	unpacked := dir + ".new"
	if err := errorsOf(os.RemoveAll(unpacked), os.MkdirAll(unpacked, 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, download, "dpkg-deb", "-x", debs[0], unpacked); err != nil {
		t.Fatalf("unpack %s: %v\n%s", name, err, out)
	}
	if err := errorsOf(os.RemoveAll(dir), os.Rename(unpacked, dir)); err != nil {
		t.Fatal(err)
	}
	k, ok := findKernel(dir)
	if !ok {
		t.Fatalf("%s holds no kernel with modules", name)
	}
	return k
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func command(t *testing.T, dir, name string, args ...string) ([]byte, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	return c.CombinedOutput()
}

func findKernel(dir string) (kernel, bool) {
	images, _ := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	for _, image := range images {
		version := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
		for _, lib := range []string{"lib", "usr/lib"} {
			if m := filepath.Join(dir, lib, "modules", version); exists(filepath.Join(m, "kernel")) {
				return kernel{image, m}, true
			}
		}
	}
	return kernel{}, false
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// moduleFiles lists module files such that each comes after those it depends on.
func (k kernel) moduleFiles(t *testing.T) []string {
	t.Helper()
	files := map[string]string{} // by name of module
	err := filepath.WalkDir(filepath.Join(k.modules, "kernel"), func(path string, _ fs.DirEntry, err error) error {
		if base, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok {
			files[strings.ReplaceAll(base, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	var add func(name string)
	add = func(name string) {
		path, ok := files[strings.ReplaceAll(name, "-", "_")]
		if !ok || slices.Contains(out, path) {
			return // built in, or of another version
		}
		for _, dep := range dependencies(t, path) {
			add(dep)
		}
		out = append(out, path)
	}
	for _, name := range modules {
		add(name)
	}
	return out
}

// dependencies reads what a module says of itself: packages come without modules.dep, which is made when they are
// installed.
func dependencies(t *testing.T, path string) []string {
	t.Helper()
	data := moduleData(t, path)
	var out []string
	for _, key := range []string{"depends=", "softdep=pre: "} {
		for rest := data; ; {
			i := bytes.Index(rest, append([]byte{0}, key...))
			if i < 0 {
				break
			}
			rest = rest[i+1+len(key):]
			value, _, _ := bytes.Cut(rest, []byte{0})
			out = append(out, strings.FieldsFunc(string(value), func(r rune) bool { return r == ',' || r == ' ' })...)
		}
	}
	return out
}

// moduleData reads a module, unpacked.
func moduleData(t *testing.T, path string) []byte {
	t.Helper()
	if !strings.HasSuffix(path, ".xz") {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	data, err := exec.CommandContext(t.Context(), "xz", "-dc", path).Output()
	if err != nil {
		t.Skipf("unpack kernel module %s: %v", path, err)
	}
	return data
}

// file is one of an archive.
type file struct {
	name string
	mode int
	data []byte
}

// archive packs files as the kernel takes its first ones: cpio in the "newc" format (Linux, Documentation/driver-api/
// early-userspace/buffer-format.rst).
func archive(files []file) []byte {
	var out bytes.Buffer
	pad := func() {
		for out.Len()%4 != 0 {
			out.WriteByte(0)
		}
	}
	for i, f := range append(slices.Clip(files), file{name: "TRAILER!!!"}) {
		fmt.Fprintf(&out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			i+1, f.mode, 0, 0, 1, 0, len(f.data), 0, 0, 0, 0, len(f.name)+1, 0)
		out.WriteString(f.name + "\x00")
		pad()
		out.Write(f.data)
		pad()
	}
	return out.Bytes()
}

const (
	modeFolder = 0o040755
	modeFile   = 0o100755
)

// image is what the kernel unpacks into memory: the guest, and its modules in the order in which they are to be loaded.
func image(t *testing.T, guest []byte, k kernel) []byte {
	t.Helper()
	files := []file{{"init", modeFile, guest}}
	for _, folder := range []string{"dev", "proc", "sys", "run", "modules"} {
		files = append(files, file{folder, modeFolder, nil})
	}
	for i, path := range k.moduleFiles(t) {
		files = append(files, file{fmt.Sprintf("modules/%03d-%s", i, strings.TrimSuffix(filepath.Base(path), ".xz")), modeFile, moduleData(t, path)})
	}
	return archive(files)
}
