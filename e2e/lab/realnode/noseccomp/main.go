// Command noseccomp stands in for a runc that was built without libseccomp, which otherwise refuses every container with a seccomp
// profile, and containerd gives one to each pod. It takes the profile out of the container's configuration and becomes the runc
// beside it, runc.real. So pods of the lab may make any system call, whatever profile they name.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "noseccomp:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if bundle, ok := bundleOf(args); ok {
		if err := dropProfile(filepath.Join(bundle, "config.json")); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	real := filepath.Join(filepath.Dir(self), "runc.real")
	if err := syscall.Exec(real, args, os.Environ()); err != nil {
		return fmt.Errorf("run %s: %w", real, err)
	}
	return nil
}

// bundleOf finds the directory of a container that is to be created.
func bundleOf(args []string) (string, bool) {
	i := slices.Index(args, "--bundle")
	if !slices.Contains(args, "create") || i < 0 || i+1 >= len(args) {
		return "", false
	}
	return args[i+1], true
}

// dropProfile changes linux.seccomp of an OCI configuration and nothing else.
func dropProfile(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read container configuration: %w", err)
	}
	data, err = without(data, "linux", "seccomp")
	if err != nil {
		return fmt.Errorf("change %s: %w", file, err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return fmt.Errorf("write container configuration: %w", err)
	}
	return nil
}

// without removes object.key from a JSON object and keeps all other values as they were written.
func without(data []byte, object, key string) ([]byte, error) {
	var outer, inner map[string]json.RawMessage
	if err := json.Unmarshal(data, &outer); err != nil {
		return nil, err
	}
	if len(outer[object]) == 0 || bytes.Equal(outer[object], []byte("null")) {
		return data, nil
	}
	if err := json.Unmarshal(outer[object], &inner); err != nil {
		return nil, err
	}
	delete(inner, key)
	changed, err := json.Marshal(inner)
	if err != nil {
		return nil, err
	}
	outer[object] = changed
	return json.Marshal(outer)
}
