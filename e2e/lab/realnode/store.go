package realnode

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// A store is containerd's directory with all images imported and unpacked. It is made once, by a containerd in a namespace, and kept
// in the cache by content; each node gets a copy whose big files are hard links, which takes milliseconds and no disk. That is safe:
// containerd never changes a blob or a committed snapshot.

// prepareStore returns the host path of the store for these programs, and makes it when it is missing.
func (t Tools) prepareStore(ctx context.Context, p programs, snapshotter string) (string, error) {
	key, err := storeKey(p, snapshotter)
	if err != nil {
		return "", err
	}
	store := filepath.Join(t.Cache, "store-"+key)
	unlock, err := lockFile(store + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if now := time.Now(); os.Chtimes(store, now, now) == nil {
		return store, nil
	}
	if err := t.dropOldStores(); err != nil {
		return "", err
	}
	work := store + ".new"
	if err := os.RemoveAll(work); err != nil {
		return "", fmt.Errorf("remove unfinished image store: %w", err)
	}
	defer os.RemoveAll(work)
	if err := importImages(ctx, p, work, snapshotter); err != nil {
		return "", fmt.Errorf("make image store: %w", err)
	}
	if err := os.Rename(filepath.Join(work, "containerd"), store); err != nil {
		return "", fmt.Errorf("keep image store: %w", err)
	}
	return store, nil
}

// storesKeptFor bounds the cache: a store that no lab has used for so long is removed when another is made.
const storesKeptFor = 7 * 24 * time.Hour

func (t Tools) dropOldStores() error {
	stores, err := filepath.Glob(filepath.Join(t.Cache, "store-*"))
	if err != nil {
		return fmt.Errorf("list image stores: %w", err)
	}
	for _, store := range stores {
		info, err := os.Stat(store)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < storesKeptFor {
			continue
		}
		if err := os.RemoveAll(store); err != nil {
			return fmt.Errorf("remove old image store: %w", err)
		}
	}
	return nil
}

// storeKey depends on all that is in the store, and on containerd, whose database it is.
func storeKey(p programs, snapshotter string) (string, error) {
	big, err := stamp(p.lent, "coredns", Containerd)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	fmt.Fprintln(sum, snapshotter, big)
	for _, im := range p.images() {
		fmt.Fprintln(sum, im.Name, im.Args, im.Links)
		if im.Name == DNSImage {
			continue
		}
		content, err := digest(im.Program)
		if err != nil {
			return "", fmt.Errorf("look at image %s: %w", im.Name, err)
		}
		fmt.Fprintln(sum, content)
	}
	return fmt.Sprintf("%x", sum.Sum(nil)[:8]), nil
}

// importImages runs containerd in namespaces of its own below work and imports all images.
func importImages(ctx context.Context, p programs, work, snapshotter string) error {
	spec := nodespec.Spec{
		Role: nodespec.Images, Lab: "images", Hostname: "images", Dir: work, Await: criSocket,
		Programs: p.inNode(),
		Components: []nodespec.Component{
			{Name: Containerd, Args: []string{path.Join(nodespec.BinInNode, Containerd), "--config=" + inNode("containerd.toml")}},
		},
	}
	ctr := path.Join(nodespec.BinInNode, "ctr")
	if err := os.MkdirAll(filepath.Join(work, "images"), 0o755); err != nil {
		return err
	}
	for i, im := range p.images() {
		name := fmt.Sprintf("images/%d.tar", i)
		if err := im.packTo(filepath.Join(work, name)); err != nil {
			return err
		}
		spec.Run = append(spec.Run, []string{
			ctr, "--address=" + criSocket, "-n", "k8s.io", "images", "import", "--local", "--snapshotter=" + snapshotter, inNode(name),
		})
	}
	files := map[string]string{"containerd.toml": containerdConfig(snapshotter)}
	if err := writeFiles(work, files); err != nil {
		return err
	}
	_, err := launch(ctx, p.nodeInit(), spec, nil)
	return err
}

func (im Image) packTo(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := im.Pack(f); err != nil {
		return err
	}
	return f.Close()
}

// snapshotterFor chooses overlayfs unless one of the directories is itself on an overlay, which cannot hold another.
func snapshotterFor(dirs ...string) (string, error) {
	for _, dir := range dirs {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			return "", fmt.Errorf("look at file system of %s: %w", dir, err)
		}
		if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
			return "native", nil
		}
	}
	return "overlayfs", nil
}

// cloneStore copies a store; files that are never changed become hard links where the file system allows.
func cloneStore(from, to string) error {
	err := filepath.WalkDir(from, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		return cloneEntry(name, filepath.Join(to, rel), d, immutable(rel))
	})
	if err != nil {
		return fmt.Errorf("copy image store: %w", err)
	}
	return nil
}

func immutable(rel string) bool {
	return strings.Contains(rel, "/blobs/") || strings.Contains(rel, "/snapshots/")
}

func cloneEntry(from, to string, d fs.DirEntry, immutable bool) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	switch {
	case d.IsDir():
		if err := os.MkdirAll(to, 0o700); err != nil {
			return err
		}
		return os.Chmod(to, info.Mode())
	case d.Type()&fs.ModeSymlink != 0:
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(link, to)
	case !d.Type().IsRegular():
		return nil // sockets are made anew
	case immutable:
		return linkFile(from, to, info.Mode())
	}
	return copyFile(from, to, info.Mode())
}

// linkFile makes a hard link, or a copy where the file systems differ.
func linkFile(from, to string, mode fs.FileMode) error {
	err := os.Link(from, to)
	if errors.Is(err, syscall.EXDEV) {
		return copyFile(from, to, mode)
	}
	return err
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if err := out.Chmod(mode); err != nil {
		return err
	}
	return out.Close()
}
