package main

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/spillway-dev/spillway/build/image"
)

// digests is what digests.json says.
type digests struct {
	Version  string                    `json:"version"`
	Revision string                    `json:"revision,omitempty"`
	Created  time.Time                 `json:"created"`
	Image    string                    `json:"image"`  // name and tag
	Digest   string                    `json:"digest"` // of the index of all platforms: what a registry shows for the tag
	Platform map[string]platformDigest `json:"platforms"`
	Files    map[string]string         `json:"files"` // SHA-256 of each file
}

// platformDigest has the digests of one platform's image.
type platformDigest struct {
	Manifest string `json:"manifest"`
	Config   string `json:"config"` // the image ID of docker and containerd
	Program  string `json:"program"`
}

// packer makes the files of one version.
type packer struct {
	options
	source
	images   []v1.Image
	programs []*buildinfo.BuildInfo
	sums     digests
}

// writeAll builds what is asked and writes it; one line per file goes to stdout.
func writeAll(ctx context.Context, o options, stdout io.Writer) error {
	src, err := readSource(ctx, ".")
	if err != nil {
		return err
	}
	p := &packer{options: o, source: src, sums: digests{
		Version: o.version, Revision: src.revision, Created: src.created, Image: o.repository + ":" + o.version,
		Platform: map[string]platformDigest{}, Files: map[string]string{},
	}}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	for _, platform := range o.platforms {
		if err := p.platform(ctx, strings.TrimPrefix(platform, "linux/")); err != nil {
			return err
		}
	}
	if err := p.rest(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s@%s in %s\n", p.sums.Image, p.sums.Digest, o.out)
	return err
}

// platform builds the program of one architecture and writes its archive.
func (p *packer) platform(ctx context.Context, arch string) error {
	program := p.program
	if program == "" {
		folder, err := os.MkdirTemp("", "spillwayd-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		program, err = compilation{folder: ".", pkg: "./cmd/spillwayd", arch: arch, out: folder, version: p.version, commit: p.revision}.run(ctx)
		if err != nil {
			return err
		}
	}
	info, err := readProgram(program, arch)
	if err != nil {
		return err
	}
	built, err := spec(program, arch, p.version, p.source).Build()
	if err != nil {
		return err
	}
	p.images, p.programs = append(p.images, built), append(p.programs, info)
	if err := p.note(arch, program, built); err != nil {
		return err
	}
	return p.write("spillwayd-"+p.version+"-linux-"+arch+".tar", func(w io.Writer) error {
		return image.WriteDocker(w, p.sums.Image, built)
	})
}

// spec is the image of spillwayd.
func spec(program, arch, version string, src source) image.Spec {
	return image.Spec{
		Arch: arch, Program: program, Name: "spillwayd", User: image.Unprivileged, Roots: true, Created: src.created, Labels: labels(version, src),
	}
}

// labels describe the image in the words of https://github.com/opencontainers/image-spec/blob/main/annotations.md.
func labels(version string, src source) map[string]string {
	const prefix = "org.opencontainers.image."
	out := map[string]string{
		prefix + "title":       "spillwayd",
		prefix + "description": "Independent Kubernetes clusters lend each other capacity.",
		prefix + "version":     version,
		prefix + "source":      "https://github.com/spillway-dev/spillway",
		prefix + "licenses":    "Apache-2.0",
		prefix + "created":     src.created.Format(time.RFC3339),
	}
	if src.revision != "" {
		out[prefix+"revision"] = src.revision
	}
	return out
}

// note keeps the digests of one image.
func (p *packer) note(arch, program string, built v1.Image) error {
	manifest, err := built.Digest()
	if err != nil {
		return err
	}
	config, err := built.ConfigName()
	if err != nil {
		return err
	}
	sum, err := fileSum(program)
	if err != nil {
		return err
	}
	p.sums.Platform["linux/"+arch] = platformDigest{Manifest: manifest.String(), Config: config.String(), Program: sum}
	return nil
}

// rest writes what is made of all platforms.
func (p *packer) rest() error {
	index, err := image.Index(p.images, labels(p.version, p.source))
	if err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	p.sums.Digest = digest.String()
	if err := p.write("spillwayd-"+p.version+".oci.tar", func(w io.Writer) error {
		return image.WriteLayout(w, p.sums.Image, index)
	}); err != nil {
		return err
	}
	if err := p.write("spillwayd-"+p.version+".cdx.json", func(w io.Writer) error {
		return writeSBOM(w, p.version, p.created, p.programs)
	}); err != nil {
		return err
	}
	return p.write("digests.json", func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(p.sums)
	})
}

// write makes one file and keeps its digest. A file is there whole or not at all.
func (p *packer) write(name string, content func(io.Writer) error) error {
	f, err := os.CreateTemp(p.out, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	sum := sha256.New()
	if err := content(io.MultiWriter(f, sum)); err != nil {
		return err
	}
	p.sums.Files[name] = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(p.out, name))
}

func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}
