package image

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteDocker writes one image as a docker-archive, which "docker load" and "ctr images import" read. tag is the name with the tag.
func WriteDocker(w io.Writer, tag string, built v1.Image) error {
	ref, err := name.NewTag(tag)
	if err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	if err := tarball.Write(ref, built, w); err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	return nil
}

// Index puts the images of several platforms under one digest, in the order given. annotations describe all of them.
func Index(images []v1.Image, annotations map[string]string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, built := range images {
		config, err := built.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("read the platform of an image: %w", err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        built,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: config.OS, Architecture: config.Architecture}},
		})
	}
	annotated, ok := mutate.Annotations(index, annotations).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("annotate the index: it is no index any more")
	}
	return annotated, nil
}

// WriteLayout writes an index with its images as the tar file of an OCI image layout, which skopeo, crane, oras and ctr read. tag is the name
// with the tag, which containerd gives to the index when it imports the file.
func WriteLayout(w io.Writer, tag string, index v1.ImageIndex) error {
	ref, err := name.NewTag(tag)
	if err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	folder, err := os.MkdirTemp("", "layout-*")
	if err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	defer os.RemoveAll(folder)
	path, err := layout.Write(folder, empty.Index)
	if err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	names := map[string]string{"org.opencontainers.image.ref.name": ref.TagStr(), "io.containerd.image.name": tag}
	if err := path.AppendIndex(index, layout.WithAnnotations(names)); err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	if err := writeFolder(w, folder); err != nil {
		return fmt.Errorf("write image %s: %w", tag, err)
	}
	return nil
}

// writeFolder writes a folder as a tar file in the order of names, without owners and times.
func writeFolder(w io.Writer, folder string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == folder {
			return err
		}
		relative, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return addFolder(tw, filepath.ToSlash(relative)+"/", 0o755)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return addFile(tw, filepath.ToSlash(relative), content)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}
