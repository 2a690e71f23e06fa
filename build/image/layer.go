package image

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"os"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// users lets programs that ask for a user by name find these.
const (
	users  = "root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\nnonroot:x:65532:65532:nonroot:/:/\n"
	groups = "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"
)

// writeLayer writes the files of the image. Owners are root and times zero, so that the program alone decides about the digest.
func (s Spec) writeLayer(w io.Writer) error {
	tw := tar.NewWriter(w)
	if err := addFolder(tw, "etc/", 0o755); err != nil {
		return err
	}
	if err := addFolder(tw, "tmp/", 0o1777); err != nil {
		return err
	}
	if err := addFile(tw, "etc/passwd", []byte(users)); err != nil {
		return err
	}
	if err := addFile(tw, "etc/group", []byte(groups)); err != nil {
		return err
	}
	if s.Roots {
		if err := addRoots(tw); err != nil {
			return err
		}
	}
	if err := s.addProgram(tw); err != nil {
		return err
	}
	for _, name := range s.Links {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: s.entrypoint(), Mode: 0o777}); err != nil {
			return err
		}
	}
	return tw.Close()
}

func (s Spec) addProgram(tw *tar.Writer) error {
	f, err := os.Open(s.Program)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Name: s.entrypoint(), Mode: 0o755, Size: info.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

func addRoots(tw *tar.Writer) error {
	for _, folder := range []string{"etc/ssl/", "etc/ssl/certs/"} {
		if err := addFolder(tw, folder, 0o755); err != nil {
			return err
		}
	}
	return addFile(tw, "etc/ssl/certs/ca-certificates.crt", roots())
}

// roots are the certificate authorities of Mozilla's list as the Go project keeps it. Authorities that Mozilla trusts within limits are
// left out, since a file of certificates cannot say the limits.
func roots() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}))
	}
	return out.Bytes()
}

func addFolder(tw *tar.Writer, name string, mode int64) error {
	return tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode})
}

func addFile(tw *tar.Writer, name string, content []byte) error {
	if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := tw.Write(content)
	return err
}
