// Command lab starts real Kubernetes clusters on this machine, without Docker,
// and takes them away again. See package lab for what they are made of.
//
//	lab up                      two clusters, east and west, with simulated nodes
//	lab up --real 2             as root: real nodes, in network namespaces
//	lab kubectl --context east get nodes
//	lab slow west --rtt 50ms    lab cut west    lab restore west
//	lab down
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/spillway-dev/spillway/e2e/lab"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := newRoot().ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit exitCode
	if errors.As(err, &exit) {
		return int(exit)
	}
	fmt.Fprintln(os.Stderr, "lab: "+err.Error())
	return 1
}

// exitCode ends the command without a word: kubectl has said what is wrong.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// common is what all commands share.
type common struct {
	lab string // --lab
}

func newRoot() *cobra.Command {
	var c common
	root := &cobra.Command{
		Use:   "lab",
		Short: "Real Kubernetes clusters on this machine, without Docker",
		Long: "Starts real Kubernetes control planes as plain processes, with simulated nodes (kwok) or, as root,\n" +
			"real ones in network namespaces. The first use builds Kubernetes from source, which takes minutes.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&c.lab, "lab", "", "which lab (default: the only one there is)")
	root.AddCommand(upCommand(), serveCommand(), downCommand(&c), statusCommand(&c), buildCommand(),
		cutCommand(&c), slowCommand(&c), restoreCommand(&c), killCommand(&c), restartCommand(&c),
		requestsCommand(&c), kubectlCommand())
	return root
}

// pick is the lab that a command is about.
func pick(name string) (string, error) {
	names, err := lab.Names()
	if err != nil {
		return "", err
	}
	switch {
	case name != "":
		for _, n := range names {
			if n == name {
				return name, nil
			}
		}
		return "", fmt.Errorf("there is no lab %q, only %s", name, list(names))
	case len(names) == 1:
		return names[0], nil
	case len(names) == 0:
		return "", errors.New("there is no lab: start one with `lab up`")
	default:
		return "", fmt.Errorf("there are several labs (%s): choose one with --lab", list(names))
	}
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
