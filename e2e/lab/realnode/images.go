package realnode

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// Image is one static program made into a container image.
type Image struct {
	// Name with tag, such as AppImage.
	Name string
	// Program is the host path of a statically linked binary; in the image it is /NAME-OF-THE-FILE and the entry point.
	Program string
	// Args are the default arguments.
	Args []string
	// Links are further names of the program, which it then finds in its argument 0.
	Links []string
}

// The parts of a docker-archive, see https://github.com/moby/docker-image-spec (v1.2).
type (
	archiveEntry struct {
		Config   string   `json:"Config"`
		RepoTags []string `json:"RepoTags"`
		Layers   []string `json:"Layers"`
	}
	imageConfig struct {
		Created      time.Time     `json:"created"`
		Architecture string        `json:"architecture"`
		OS           string        `json:"os"`
		Config       runtimeConfig `json:"config"`
		RootFS       rootFS        `json:"rootfs"`
	}
	runtimeConfig struct {
		Entrypoint []string `json:"Entrypoint"`
		Cmd        []string `json:"Cmd,omitempty"`
		Env        []string `json:"Env"`
		WorkingDir string   `json:"WorkingDir"`
	}
	rootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	}
)

// Pack writes the image as a docker-archive, readable by "ctr images import". The same image gives the same bytes.
func (im Image) Pack(w io.Writer) error {
	layer, err := os.CreateTemp("", "layer-*.tar")
	if err != nil {
		return fmt.Errorf("pack image %s: %w", im.Name, err)
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	sum := sha256.New()
	if err := im.writeLayer(io.MultiWriter(layer, sum)); err != nil {
		return fmt.Errorf("pack image %s: %w", im.Name, err)
	}
	if err := im.writeArchive(w, layer, hex.EncodeToString(sum.Sum(nil))); err != nil {
		return fmt.Errorf("pack image %s: %w", im.Name, err)
	}
	return nil
}

func (im Image) entrypoint() string { return filepath.Base(im.Program) }

func (im Image) writeLayer(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, dir := range []string{"etc/", "tmp/"} {
		mode := int64(0o755)
		if dir == "tmp/" {
			mode = 0o1777
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: mode}); err != nil {
			return err
		}
	}
	// Programs that ask for a user by name find root and nobody.
	passwd := []byte("root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n")
	if err := addFile(tw, "etc/passwd", 0o644, passwd); err != nil {
		return err
	}
	f, err := os.Open(im.Program)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: im.entrypoint(), Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	if _, err := io.Copy(tw, f); err != nil {
		return err
	}
	for _, name := range im.Links {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: im.entrypoint(), Mode: 0o777}); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (im Image) writeArchive(w io.Writer, layer *os.File, layerSum string) error {
	config, err := json.Marshal(imageConfig{
		Created: time.Unix(0, 0).UTC(), Architecture: runtime.GOARCH, OS: "linux",
		Config: runtimeConfig{Entrypoint: []string{"/" + im.entrypoint()}, Cmd: im.Args, Env: []string{"PATH=/"}, WorkingDir: "/"},
		RootFS: rootFS{Type: "layers", DiffIDs: []string{"sha256:" + layerSum}},
	})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(config)
	configName, layerName := hex.EncodeToString(sum[:])+".json", layerSum+".tar"
	manifest, err := json.Marshal([]archiveEntry{{Config: configName, RepoTags: []string{im.Name}, Layers: []string{layerName}}})
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	if err := addFile(tw, "manifest.json", 0o644, manifest); err != nil {
		return err
	}
	if err := addFile(tw, configName, 0o644, config); err != nil {
		return err
	}
	size, err := layer.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: layerName, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	if _, err := io.Copy(tw, layer); err != nil {
		return err
	}
	return tw.Close()
}

func addFile(tw *tar.Writer, name string, mode int64, content []byte) error {
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := tw.Write(content)
	return err
}
