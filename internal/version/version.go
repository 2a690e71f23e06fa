// Package version says which Spillway this is.
package version

import "runtime/debug"

// Both are set by the linker: -X github.com/spillway-dev/spillway/internal/version.version=0.2.0. The version has no leading v.
var version, commit string

// Version is the version of this program, a semantic version without a leading v; "0.0.0-dev" when it was built without one.
func Version() string {
	if version != "" {
		return version
	}
	return "0.0.0-dev"
}

// Commit is the revision this program was built from; empty when neither the linker was told nor the go command noted it.
func Commit() string {
	if commit != "" {
		return commit
	}
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
