// Package version says which Spillway this is.
package version

import "runtime/debug"

// version is set by the linker: -X github.com/spillway-dev/spillway/internal/version.version=0.2.0. It has no leading v.
var version string

// Version is the version of this program, a semantic version without a leading v; "0.0.0-dev" when it was built without one.
func Version() string {
	if version != "" {
		return version
	}
	return "0.0.0-dev"
}

// Commit is the revision this program was built from; empty when the go command did not note it.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
