// Command spillway peers Kubernetes clusters, un-peers them and shows how their peerings are.
//
// It only writes and reads objects: Peerings, the Secret with the credential that a provider hands out, and, for a
// measurement, a temporary namespace with pods. The controllers and agents (spillwayd) of both clusters do the work;
// everything done here can be done with kubectl or GitOps too.
//
//	spillway peer --context home --remote-context cloud
//	spillway status
//	spillway explain pod/web-0 -n shop
//	spillway doctor cloud --remote-context cloud
//	spillway unpeer cloud
//
// Linked or copied to a file named kubectl-spillway on the PATH, it works as `kubectl spillway`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/spillway-dev/spillway/internal/manual"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args, terminal{out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}

// run executes the command line args (program name first) and returns the exit code.
func run(ctx context.Context, args []string, term terminal) int {
	root := rootCommand(args[0], term)
	root.SetArgs(args[1:])
	root.SetOut(term.out)
	root.SetErr(term.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	style := styleFor(term.err)
	fmt.Fprintf(term.err, "%s %s\n", style.bad("Error:"), err)
	var failed *failure
	if errors.As(err, &failed) {
		return exitFailed
	}
	return exitUsage
}

// failure marks an error that came up while a well-formed command ran. Every other error is one of usage.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// asFailure marks err as a failure of a well-formed command, unless it is a problem with the command line.
func asFailure(err error) error {
	var p *problem
	if err == nil || errors.As(err, &p) && p.usage {
		return err
	}
	return &failure{err}
}

func rootCommand(program string, term terminal) *cobra.Command {
	root := &cobra.Command{
		Use:   "spillway",
		Short: "Lend and borrow capacity between Kubernetes clusters",
		Long: `Spillway lets independent Kubernetes clusters lend each other capacity. A peered cluster appears as a virtual node;
the scheduler binds pods to it, and they run in the peer.

The cluster whose pods run elsewhere is the consumer, the one that runs them the provider.`,
		Example: strings.Trim(`
  # put Spillway into both clusters
  spillway install --context home
  spillway install --context cloud

  # the cluster of context home may run pods in the cluster of context cloud
  spillway peer --context home --remote-context cloud

  # let the pods of a namespace leave
  kubectl label namespace shop spillway.dev/offload=enabled

  # which peerings are there, what do they offer, what is wrong
  spillway status

  # why is this pod where it is, and what does the provider say of it
  spillway explain pod/web-0 -n shop

  # do pods reach each other? if not, which hop fails, and how to mend it
  spillway doctor

  # move a workload to a peer in steps, and home again
  spillway migrate deployment/web -n shop --to cloud --steps 10,50,100
  spillway migrate deployment/web -n shop --to home

  # take all pods away from a peer
  spillway drain cloud

  # what does the tunnel carry
  spillway bench network

  # bring the pods home and forget the peer
  spillway unpeer cloud

  # take Spillway out of a cluster
  spillway uninstall --context home`, "\n"),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	if strings.HasPrefix(filepath.Base(program), "kubectl-") {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl spillway"}
	}
	root.SetFlagErrorFunc(explainFlag)
	root.AddCommand(peerCommand(term), unpeerCommand(term), statusCommand(term), explainCommand(term), doctorCommand(term), benchCommand(term), versionCommand(term),
		installCommand(term), upgradeCommand(term), rollbackCommand(term), uninstallCommand(term),
		migrateCommand(term), switchCommand(term), repatriateCommand(term), cordonCommand(term), uncordonCommand(term), drainCommand(term))
	root.AddCommand(manual.Command())
	rename(root, root.DisplayName())
	return root
}

// rename makes the examples of cmd and what is below it say how the program is called.
func rename(cmd *cobra.Command, name string) {
	cmd.Example = strings.ReplaceAll(cmd.Example, "  spillway ", "  "+name+" ")
	for _, below := range cmd.Commands() {
		rename(below, name)
	}
}

// commandNames are the commands below cmd, sorted.
func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() && below.Name() != "help" && below.Name() != "completion" {
			names = append(names, below.Name())
		}
	}
	return names
}

// explainFlag turns what is wrong with a flag into a sentence.
func explainFlag(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && !takesArguments(cmd) && cmd.Flags().NArg() > 0 {
		return noArguments(cmd, cmd.Flags().Args())
	}
	var value *pflag.InvalidValueError
	if errors.As(err, &value) && value.GetFlag().Value.Type() == "duration" {
		return usagef("Write it like 90s or 2m.", "--%s %q is not a time", value.GetFlag().Name, value.GetValue())
	}
	return usagef(fmt.Sprintf("'%s --help' lists the flags.", cmd.CommandPath()), "%s", err)
}

// takesArguments says whether cmd does something with arguments, besides having commands below it.
func takesArguments(cmd *cobra.Command) bool { return strings.Contains(cmd.Use, " ") }

// noArguments refuses positional arguments with a sentence.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return usagef(fmt.Sprintf("Use one of: %s.", strings.Join(commandNames(cmd), ", ")), "there is no command %q", args[0])
	}
	return usagef("Leave it out; everything is said with flags.", "%s takes no argument, but got %q", cmd.Name(), args[0])
}

// atMostOneName refuses more than one positional argument with a sentence.
func atMostOneName(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return usagef("Name one Peering at a time.", "%s takes at most one name, but got %d", cmd.Name(), len(args))
}
