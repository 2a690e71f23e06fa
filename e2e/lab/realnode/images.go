package realnode

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spillway-dev/spillway/build/image"
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

// Pack writes the image as a docker-archive, readable by "ctr images import". The same image gives the same bytes.
func (im Image) Pack(w io.Writer) error {
	built, err := image.Spec{Arch: runtime.GOARCH, Program: im.Program, Args: im.Args, Links: im.Links, Stored: true}.Build()
	if err != nil {
		return fmt.Errorf("pack image %s: %w", im.Name, err)
	}
	return image.WriteDocker(w, im.Name, built)
}
