package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// versionPackage has the variables that the linker sets.
const versionPackage = "github.com/spillway-dev/spillway/internal/version"

// compilation is one call of the compiler.
type compilation struct {
	folder  string // of the module
	pkg     string // such as ./cmd/spillwayd
	arch    string
	out     string // folder for the program
	version string
	commit  string
}

// run builds the program and returns its path. Neither the folder nor the time nor the state of the checkout gets into it, so that the
// same files give the same program.
func (c compilation) run(ctx context.Context) (string, error) {
	program := filepath.Join(c.out, filepath.Base(c.pkg))
	linker := fmt.Sprintf("-s -w -buildid= -X %[1]s.version=%[2]s -X %[1]s.commit=%[3]s", versionPackage, c.version, c.commit)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", linker, "-o", program, c.pkg)
	cmd.Dir = c.folder
	// What a user has set for other builds must not change this one.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+c.arch, "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off",
		"GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s for linux/%s: %w\n%s", c.pkg, c.arch, err, strings.TrimSpace(string(out)))
	}
	return program, nil
}

// readProgram reads what the go command noted in a program, and refuses one that cannot run in an image of its own on linux/arch.
func readProgram(program, arch string) (*buildinfo.BuildInfo, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("read how %s was built: %w", program, err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if got, want := settings["GOOS"]+"/"+settings["GOARCH"], "linux/"+arch; got != want {
		return nil, fmt.Errorf("%s was built for %s, not for %s", program, got, want)
	}
	if settings["CGO_ENABLED"] != "0" {
		return nil, fmt.Errorf("%s may need libraries that are not in the image: build it with CGO_ENABLED=0", program)
	}
	return info, nil
}
