package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for name, row := range map[string]struct {
		args []string
		want string // part of the error
	}{
		"two platforms":        {[]string{"--version", "1.2.3", "--platforms", "linux/amd64,linux/arm64"}, ""},
		"a program":            {[]string{"--version", "1.2.3", "--platforms", "linux/arm64", "--program", "x"}, ""},
		"no version":           {nil, "--version is missing"},
		"a v in front":         {[]string{"--version", "v1.2.3"}, "leave out the v"},
		"another system":       {[]string{"--version", "1.2.3", "--platforms", "windows/amd64"}, `"windows/amd64" is not linux/ARCHITECTURE`},
		"a variant":            {[]string{"--version", "1.2.3", "--platforms", "linux/arm/v7"}, `"linux/arm/v7" is not linux/ARCHITECTURE`},
		"one program for two":  {[]string{"--version", "1.2.3", "--platforms", "linux/amd64,linux/arm64", "--program", "x"}, "one platform"},
		"something that rests": {[]string{"--version", "1.2.3", "all"}, `"all"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(row.args, io.Discard)
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want an error with %q", err, row.want)
			}
		})
	}
	if _, err := parse([]string{"-h"}, io.Discard); err != flag.ErrHelp {
		t.Errorf("-h: %v", err)
	}
}

// smallModule writes a module with one program in a new folder and returns the folder.
func smallModule(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":        "module example.test/small\n\ngo 1.26\n",
		"small/main.go": "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"hello\\n\") }\n",
	} {
		file := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// pack builds the small program in a folder of its own, as for linux/arch, writes its image and returns what digests.json says.
func pack(t *testing.T, arch string) []byte {
	t.Helper()
	folder := smallModule(t)
	program, err := compilation{folder: folder, pkg: "./small", arch: arch, out: t.TempDir(), version: "1.2.3", commit: "abc"}.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	o, err := parse([]string{"--version", "1.2.3", "--platforms", "linux/" + arch, "--program", program, "--out", out}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeAll(t.Context(), o, io.Discard); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(out, "digests.json"))
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// TestImages_TwoFoldersGiveTheSameDigests: nothing of the folder or the time is in the program, the images or the bill.
func TestImages_TwoFoldersGiveTheSameDigests(t *testing.T) {
	first, second := pack(t, runtime.GOARCH), pack(t, runtime.GOARCH)
	if diff := cmp.Diff(string(first), string(second)); diff != "" {
		t.Errorf("digests differ: -first +second:\n%s", diff)
	}
	var sums digests
	if err := json.Unmarshal(first, &sums); err != nil {
		t.Fatal(err)
	}
	want := []string{"spillwayd-1.2.3-linux-" + runtime.GOARCH + ".tar", "spillwayd-1.2.3.cdx.json", "spillwayd-1.2.3.oci.tar"}
	for _, file := range want {
		if sums.Files[file] == "" {
			t.Errorf("no digest of %s in %s", file, first)
		}
	}
}

func TestReadProgram_Refuses(t *testing.T) {
	this, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readProgram(this, "s390x"); err == nil || !strings.Contains(err.Error(), "not for linux/s390x") {
		t.Errorf("a program of another platform: %v", err)
	}
	if _, err := readProgram("images_test.go", "amd64"); err == nil {
		t.Error("a text file passes for a program")
	}
}

func TestReadSource_TimeFromOutside(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1800000000")
	got, err := readSource(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if want := (source{created: time.Unix(1_800_000_000, 0).UTC()}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	if _, err := readSource(t.Context(), t.TempDir()); err == nil {
		t.Error("a time that is no number is accepted")
	}
}

func TestWriteSBOM(t *testing.T) {
	program := func(modules ...*debug.Module) *buildinfo.BuildInfo {
		return &buildinfo.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Path: "example.test/small"}, Deps: modules}
	}
	both := &debug.Module{Path: "example.test/b", Version: "v1.0.0+incompatible", Sum: "h1:x="}
	replaced := &debug.Module{Path: "example.test/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.test/fork", Version: "v2.0.0"}}
	write := func(programs ...*buildinfo.BuildInfo) []byte {
		var out bytes.Buffer
		if err := writeSBOM(&out, "1.2.3", time.Unix(0, 0), programs); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := write(program(both), program(both, replaced))
	if !bytes.Equal(first, write(program(replaced, both), program(both))) {
		t.Error("the bill depends on the order of the modules")
	}
	bom := new(cdx.BOM)
	if err := cdx.NewBOMDecoder(bytes.NewReader(first), cdx.BOMFileFormatJSON).Decode(bom); err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, c := range *bom.Components {
		if c.Name != rootsModule { // there or not, as the test was linked
			refs = append(refs, c.PackageURL)
		}
	}
	want := []string{"pkg:golang/example.test/b@v1.0.0%2Bincompatible", "pkg:golang/example.test/fork@v2.0.0", "pkg:golang/std@1.26.8"}
	if diff := cmp.Diff(want, refs); diff != "" {
		t.Errorf("parts: -want +got:\n%s", diff)
	}
	if bom.SerialNumber != "" || bom.Metadata.Component.Version != "1.2.3" {
		t.Errorf("serial number %q, version %q", bom.SerialNumber, bom.Metadata.Component.Version)
	}
}
