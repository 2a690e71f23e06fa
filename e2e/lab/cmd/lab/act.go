package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// ask picks the lab and calls its owner about one cluster.
func (c *common) ask(cmd *cobra.Command, cluster, what string, request, answer any) error {
	name, err := pick(c.lab)
	if err != nil {
		return err
	}
	return call(cmd.Context(), name, []string{"clusters", cluster, what}, request, answer)
}

func cutCommand(c *common) *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:   "cut CLUSTER",
		Short: "Cut the way to a cluster's API server",
		Long: "Cuts the way to a cluster's API server for all who use the context CLUSTER, until `lab restore`. Those who\n" +
			"use CLUSTER-direct, and the cluster itself, are not affected.",
		Example: "  lab cut west                    # connections are closed and refused\n" +
			"  lab cut west --mode blackhole   # connections stay, nothing passes",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.link(cmd, args[0], linkRequest{Cut: lab.CutMode(mode)})
		},
	}
	cmd.Flags().StringVar(&mode, "mode", string(lab.Refuse), "refuse or blackhole")
	return cmd
}

func slowCommand(c *common) *cobra.Command {
	rtt := 50 * time.Millisecond
	cmd := &cobra.Command{
		Use:     "slow CLUSTER",
		Short:   "Lengthen the way to a cluster's API server",
		Example: "  lab slow west --rtt 200ms",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.link(cmd, args[0], linkRequest{RTT: &rtt})
		},
	}
	cmd.Flags().DurationVar(&rtt, "rtt", rtt, "how much longer a round trip takes; 0 is not at all")
	return cmd
}

func restoreCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "restore CLUSTER",
		Short: "End cut and slow",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.link(cmd, args[0], linkRequest{Restore: true})
		},
	}
}

func (c *common) link(cmd *cobra.Command, cluster string, request linkRequest) error {
	var state lab.LinkState
	if err := c.ask(cmd, cluster, "link", request, &state); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "way to %s: %s\n", cluster, linkWords(state))
	return err
}

func linkWords(s lab.LinkState) string {
	switch {
	case s.Cut != "":
		return "cut (" + string(s.Cut) + ")"
	case s.RTT > 0:
		return "+" + s.RTT.String() + " per round trip"
	default:
		return "open"
	}
}

// act does something to args[1], a component or node of cluster args[0].
func (c *common) act(cmd *cobra.Command, what, done string, args []string) error {
	if err := c.ask(cmd, args[0], what, nameRequest{args[1]}, nil); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s of %s\n", done, args[1], args[0])
	return err
}

func killCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:   "kill CLUSTER COMPONENT|NODE",
		Short: "End a component or a node as a crash would; it stays away until restart",
		Example: "  lab kill west kube-apiserver\n  lab kill west west-node-1\n" +
			"  lab kill west west-real-1/kubelet   # of a real node: also containerd, kube-proxy",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.act(cmd, "kill", "killed", args)
		},
	}
}

func restartCommand(c *common) *cobra.Command {
	return &cobra.Command{
		Use:     "restart CLUSTER COMPONENT|NODE",
		Short:   "Start a component or a node again, after killing it if it runs",
		Example: "  lab restart west etcd\n  lab restart west west-node-1",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.act(cmd, "restart", "restarted", args)
		},
	}
}

func buildCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "build [PROGRAM...]",
		Short: "Build the programs that labs need, without starting one",
		Long:  "Builds programs into the cache and prints their paths. Without arguments: all of them.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = lab.BinaryNames(true)
			}
			paths, err := lab.Binaries(cmd.Context(), cmd.ErrOrStderr(), args...)
			if err != nil {
				return err
			}
			for _, name := range args {
				fmt.Fprintln(cmd.OutOrStdout(), paths[name])
			}
			return nil
		},
	}
}

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl [ARGUMENTS]",
		Short: "Run kubectl with the lab's kubeconfig",
		Long: "Runs kubectl, built with the lab's other programs, with the lab's kubeconfig. Choose the lab with --lab NAME or\n" +
			"--lab=NAME before all other arguments.",
		Example:            "  lab kubectl --context east get pods -A\n  lab kubectl --lab=demo get nodes",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			chosen, args := takeLab(args)
			name, err := pick(chosen)
			if err != nil {
				return err
			}
			path, err := lab.Binary(cmd.Context(), "kubectl", cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			kubectl := exec.CommandContext(cmd.Context(), path, args...)
			kubectl.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(lab.Dir(name), "kubeconfig"))
			kubectl.Stdin, kubectl.Stdout, kubectl.Stderr = os.Stdin, os.Stdout, os.Stderr
			err = kubectl.Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return exitCode(exit.ExitCode())
			}
			return err
		},
	}
}

// takeLab takes --lab off the front: all else is kubectl's.
func takeLab(args []string) (name string, rest []string) {
	if len(args) >= 2 && args[0] == "--lab" {
		return args[1], args[2:]
	}
	if len(args) >= 1 {
		if name, ok := strings.CutPrefix(args[0], "--lab="); ok {
			return name, args[1:]
		}
	}
	return "", args
}
