// Package image makes container images of static Go programs, without a container daemon and without a registry.
//
// It knows what a program finds in its image and how images are written to files; it does not know which programs there are. The same
// Spec gives the same bytes, on every machine that has the same version of Go (which has the compression in it):
//
//	built, err := image.Spec{Arch: "amd64", Program: "bin/spillwayd"}.Build()
//	err = image.WriteDocker(file, "ghcr.io/spillway-dev/spillwayd:0.2.0", built)
package image

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Unprivileged is the user and group an image runs as that needs no rights on its machine; /etc/passwd calls it nonroot.
const Unprivileged = "65532:65532"

// Spec says what is in an image: one program, and the files that programs look for by themselves.
type Spec struct {
	// Arch is the architecture in Go's words, such as amd64. The system is always linux.
	Arch string
	// Program is the host path of a statically linked binary, the entry point of the image.
	Program string
	// Name is the name of the program in the root of the image; empty: that of the file.
	Name string
	// Args are the default arguments.
	Args []string
	// Links are further names of the program, which it then finds in its argument 0.
	Links []string
	// User is UID:GID; empty: root.
	User string
	// Roots puts the certificate authorities that browsers trust into /etc/ssl/certs/ca-certificates.crt.
	Roots bool
	// Labels describe the image; keys are those of the OCI, org.opencontainers.image.*.
	Labels map[string]string
	// Created is noted as the time of making; zero: the beginning of 1970. No file carries a time.
	Created time.Time
	// Stored leaves the layer as it is: quick, for images that stay on this machine.
	Stored bool
}

// Build reads the program and makes the image, which is held in memory.
func (s Spec) Build() (v1.Image, error) {
	layer, err := s.layer()
	if err != nil {
		return nil, fmt.Errorf("make an image of %s: %w", s.Program, err)
	}
	built := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	created := s.created()
	built, err = mutate.Append(built, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: created, CreatedBy: "spillway build/image " + s.entrypoint()},
	})
	if err != nil {
		return nil, fmt.Errorf("make an image of %s: %w", s.Program, err)
	}
	config, err := built.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make an image of %s: %w", s.Program, err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", s.Arch, created
	config.Config = v1.Config{
		Entrypoint: []string{"/" + s.entrypoint()}, Cmd: s.Args, Env: []string{"PATH=/"}, WorkingDir: "/",
		User: s.User, Labels: s.Labels,
	}
	if built, err = mutate.ConfigFile(built, config); err != nil {
		return nil, fmt.Errorf("make an image of %s: %w", s.Program, err)
	}
	return built, nil
}

func (s Spec) entrypoint() string { return cmp.Or(s.Name, filepath.Base(s.Program)) }

func (s Spec) created() v1.Time {
	if s.Created.IsZero() {
		return v1.Time{Time: time.Unix(0, 0).UTC()}
	}
	return v1.Time{Time: s.Created.UTC()}
}

func (s Spec) layer() (v1.Layer, error) {
	var content bytes.Buffer
	if err := s.writeLayer(&content); err != nil {
		return nil, err
	}
	if s.Stored {
		return static.NewLayer(content.Bytes(), types.OCIUncompressedLayer), nil
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
}
