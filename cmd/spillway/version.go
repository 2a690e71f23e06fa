package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/spillway-dev/spillway/internal/version"
)

// build says what this program was made from.
type build struct {
	Version    string `json:"version"`
	Commit     string `json:"commit,omitempty"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	Kubernetes string `json:"kubernetes"` // version of the Kubernetes libraries
}

// thisBuild reads what the linker and the go command noted.
func thisBuild() build {
	b := build{
		Version: version.Version(), Commit: version.Commit(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
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
			b := thisBuild()
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
