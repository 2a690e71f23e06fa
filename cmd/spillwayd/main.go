// Command spillwayd is what runs in a cluster that lends or borrows capacity.
//
//	spillwayd controller     peerings, virtual nodes and the pods on them (a Deployment; one leader)
//	spillwayd node           routes, translation, filter and tunnels of one node (a DaemonSet on the host network)
//	spillwayd netbench       the two ends of a network measurement (in the pods that spillway bench network makes)
//
// It reads flags, sets up logging and wires the packages together; it decides nothing.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "spillwayd",
		Short:         "Runs in a cluster that lends or borrows capacity",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(controllerCommand(), nodeCommand(), netbenchCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "spillwayd: "+err.Error())
		return 1
	}
	return 0
}
