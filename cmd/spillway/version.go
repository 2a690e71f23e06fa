package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build says what this program was made from.
type build struct {
	Version    string `json:"version"`
	Commit     string `json:"commit,omitempty"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	Kubernetes string `json:"kubernetes"` // version of the Kubernetes libraries
}

// version reads what the linker noted.
func version() build {
	b := build{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			b.Commit = setting.Value
		}
	}
	for _, module := range info.Deps {
		if module.Path == "k8s.io/client-go" {
			b.Kubernetes = module.Version
		}
	}
	return b
}

func versionCommand(term terminal) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print what this program was made from",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			if err := checkFormat(format, formatJSON, formatYAML); err != nil {
				return err
			}
			b := version()
			if format != "" {
				return asFailure(printObject(term.out, format, b))
			}
			_, err := fmt.Fprintf(term.out, "spillway %s (commit %s, %s, %s, Kubernetes libraries %s)\n", b.Version, orDash(b.Commit), b.Go, b.Platform, b.Kubernetes)
			return asFailure(err)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "", "print json or yaml")
	return cmd
}
