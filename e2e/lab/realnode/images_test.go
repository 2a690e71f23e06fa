package realnode

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func testImage(t *testing.T) Image {
	t.Helper()
	program := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(program, []byte("#!program"), 0o755); err != nil {
		t.Fatal(err)
	}
	return Image{Name: AppImage, Program: program, Args: []string{"serve"}, Links: []string{"tar"}}
}

func readTar(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestImagePack(t *testing.T) {
	im := testImage(t)
	var first, second bytes.Buffer
	if err := im.Pack(&first); err != nil {
		t.Fatal(err)
	}
	if err := im.Pack(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same image gives different archives")
	}
	files := readTar(t, first.Bytes())
	var entries tarball.Manifest
	if err := json.Unmarshal(files["manifest.json"], &entries); err != nil || len(entries) != 1 {
		t.Fatalf("manifest %s: %v", files["manifest.json"], err)
	}
	if diff := cmp.Diff([]string{AppImage}, entries[0].RepoTags); diff != "" {
		t.Errorf("tags: -want +got:\n%s", diff)
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(files[entries[0].Config], &config); err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, Env: []string{"PATH=/"}, WorkingDir: "/"}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("config: -want +got:\n%s", diff)
	}
	if digest, _, _ := strings.Cut(entries[0].Layers[0], "."); digest != config.RootFS.DiffIDs[0].Hex {
		t.Errorf("layer %s has the digest %s", entries[0].Layers[0], config.RootFS.DiffIDs[0])
	}
	layer := readTar(t, files[entries[0].Layers[0]])
	if _, ok := layer["tar"]; !ok {
		t.Error("the program has no other name in the image")
	}
	if string(layer["app"]) != "#!program" {
		t.Errorf("the program in the image is %q", layer["app"])
	}
}

func TestImagePack_NoProgram(t *testing.T) {
	err := Image{Name: "x", Program: filepath.Join(t.TempDir(), "none")}.Pack(io.Discard)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestCloneStore_SharesOnlyWhatNeverChanges: databases are copies, blobs and snapshots are the same file.
func TestCloneStore_SharesOnlyWhatNeverChanges(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "clone")
	shared := map[string]bool{
		"content/blobs/sha256/aa":  true,
		"overlay/snapshots/1/fs/x": true,
		"overlay/metadata.db":      false,
		"metadata.v1.bolt/meta.db": false,
	}
	for name := range shared {
		if err := writeFiles(from, map[string]string{name: "content of " + name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("x", filepath.Join(from, "overlay/snapshots/1/fs/link")); err != nil {
		t.Fatal(err)
	}
	if err := cloneStore(from, to); err != nil {
		t.Fatal(err)
	}
	for name, want := range shared {
		content, err := os.ReadFile(filepath.Join(to, name))
		if err != nil || string(content) != "content of "+name {
			t.Errorf("%s: %q, %v", name, content, err)
		}
		if got := inode(t, filepath.Join(from, name)) == inode(t, filepath.Join(to, name)); got != want {
			t.Errorf("%s: same file %v, want %v", name, got, want)
		}
	}
	if link, err := os.Readlink(filepath.Join(to, "overlay/snapshots/1/fs/link")); err != nil || link != "x" {
		t.Errorf("link: %q, %v", link, err)
	}
}

func inode(t *testing.T, file string) uint64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}
