package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

const tag = "registry.example/app:1.2.3"

func testSpec(t *testing.T) Spec {
	t.Helper()
	program := filepath.Join(t.TempDir(), "built")
	if err := os.WriteFile(program, []byte("#!program"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Arch: "arm64", Program: program, Name: "app", Args: []string{"serve"}, Links: []string{"tar"}, User: Unprivileged, Roots: true,
		Labels: map[string]string{"org.opencontainers.image.title": "app"}, Created: time.Unix(1_800_000_000, 0),
	}
}

func build(t *testing.T, s Spec) v1.Image {
	t.Helper()
	built, err := s.Build()
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// entry is what a tar file says of one of its files.
type entry struct {
	mode     int64
	link     string
	content  string
	uid, gid int
	hasTime  bool
}

func readTar(t *testing.T, r io.Reader) map[string]entry {
	t.Helper()
	files := map[string]entry{}
	for r := tar.NewReader(r); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = entry{h.Mode, h.Linkname, string(content), h.Uid, h.Gid, h.ModTime.Unix() != 0}
	}
}

func layerOf(t *testing.T, built v1.Image) map[string]entry {
	t.Helper()
	layers, err := built.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	r, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return readTar(t, r)
}

func TestBuild_StoredLayerIsNotCompressed(t *testing.T) {
	spec := testSpec(t)
	spec.Stored = true
	layers, err := build(t, spec).Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	if diffID, err := layers[0].DiffID(); err != nil || diffID != digest {
		t.Errorf("digest %s, of the content %s, %v", digest, diffID, err)
	}
}

func TestBuild_Config(t *testing.T) {
	config, err := build(t, testSpec(t)).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		Entrypoint: []string{"/app"}, Cmd: []string{"serve"}, Env: []string{"PATH=/"}, WorkingDir: "/", User: "65532:65532",
		Labels: map[string]string{"org.opencontainers.image.title": "app"},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("config: -want +got:\n%s", diff)
	}
	if config.OS != "linux" || config.Architecture != "arm64" || config.Created.Unix() != 1_800_000_000 {
		t.Errorf("made for %s/%s at %v", config.OS, config.Architecture, config.Created)
	}
}

func TestBuild_Files(t *testing.T) {
	files := layerOf(t, build(t, testSpec(t)))
	roots := files["etc/ssl/certs/ca-certificates.crt"].content
	delete(files, "etc/ssl/certs/ca-certificates.crt")
	want := map[string]entry{
		"etc/":           {mode: 0o755},
		"etc/ssl/":       {mode: 0o755},
		"etc/ssl/certs/": {mode: 0o755},
		"tmp/":           {mode: 0o1777},
		"etc/passwd":     {mode: 0o644, content: users},
		"etc/group":      {mode: 0o644, content: groups},
		"app":            {mode: 0o755, content: "#!program"},
		"tar":            {mode: 0o777, link: "app"},
	}
	if diff := cmp.Diff(want, files, cmp.AllowUnexported(entry{})); diff != "" {
		t.Errorf("files: -want +got:\n%s", diff)
	}
	if n := strings.Count(roots, "BEGIN CERTIFICATE"); n < 50 {
		t.Errorf("%d certificate authorities", n)
	}
	if block, _ := pem.Decode([]byte(roots)); block == nil {
		t.Error("the certificate authorities are no PEM")
	}
}

func TestBuild_NoProgram(t *testing.T) {
	if _, err := (Spec{Program: filepath.Join(t.TempDir(), "none")}).Build(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestWriteDocker_NamesTheImage(t *testing.T) {
	var out bytes.Buffer
	if err := WriteDocker(&out, tag, build(t, testSpec(t))); err != nil {
		t.Fatal(err)
	}
	var manifest tarball.Manifest
	if err := json.Unmarshal([]byte(readTar(t, &out)["manifest.json"].content), &manifest); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{tag}, manifest[0].RepoTags); diff != "" {
		t.Errorf("tags: -want +got:\n%s", diff)
	}
}

// TestWriteLayout_HasAllPlatforms unpacks the archive and reads it as others do.
func TestWriteLayout_HasAllPlatforms(t *testing.T) {
	amd64, arm64 := testSpec(t), testSpec(t)
	amd64.Arch = "amd64"
	index, err := Index([]v1.Image{build(t, amd64), build(t, arm64)}, map[string]string{"org.opencontainers.image.version": "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteLayout(&out, tag, index); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, file := range readTar(t, &out) {
		path := filepath.Join(folder, name)
		if strings.HasSuffix(name, "/") {
			err = os.MkdirAll(path, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, []byte(file.content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	read, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(read); err != nil {
		t.Error(err)
	}
	outer, err := read.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"org.opencontainers.image.ref.name": "1.2.3", "io.containerd.image.name": tag}
	if diff := cmp.Diff(want, outer.Manifests[0].Annotations); diff != "" {
		t.Errorf("names of the index: -want +got:\n%s", diff)
	}
	inner, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range inner.Manifests {
		platforms = append(platforms, m.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("platforms: -want +got:\n%s", diff)
	}
}

func TestWrite_SameBytesTwice(t *testing.T) {
	spec := testSpec(t)
	for name, write := range map[string]func(io.Writer) error{
		"docker": func(w io.Writer) error { return WriteDocker(w, tag, build(t, spec)) },
		"layout": func(w io.Writer) error {
			index, err := Index([]v1.Image{build(t, spec)}, nil)
			if err != nil {
				return err
			}
			return WriteLayout(w, tag, index)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var first, second bytes.Buffer
			if err := errors.Join(write(&first), write(&second)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(first.Bytes(), second.Bytes()) {
				t.Error("the same image gives different archives")
			}
		})
	}
}
