// Command spillwayd is what runs in a cluster that lends or borrows capacity.
//
//	spillwayd controller     peerings, virtual nodes and the pods on them (a Deployment; one leader)
//	spillwayd node           routes, translation, filter and tunnels of one node (a DaemonSet on the host network)
//	spillwayd netbench       the two ends of a network measurement (in the pods that spillway bench network makes)
//	spillwayd version        what this program was made from
//
// It reads flags, sets up logging and wires the packages together; it decides nothing.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/spillway-dev/spillway/internal/manual"
	"github.com/spillway-dev/spillway/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "spillwayd",
		Short:         "Runs in a cluster that lends or borrows capacity",
		Version:       version.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	go giveBackMemory(ctx)
	root.AddCommand(controllerCommand(), nodeCommand(), netbenchCommand(), versionCommand(), manual.Command())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "spillwayd: "+err.Error())
		return 1
	}
	return 0
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print what this program was made from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "spillwayd %s (commit %s, %s, %s/%s)\n", version.Version(),
				cmp.Or(version.Commit(), "-"), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
