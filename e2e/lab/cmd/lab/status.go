package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// labStatus is one lab in `lab status -o json`.
type labStatus struct {
	lab.State
	Alive      bool            `json:"alive"` // its owner runs
	Kubeconfig string          `json:"kubeconfig"`
	Live       []clusterStatus `json:"live,omitempty"` // if the owner answers
}

func statusCommand(c *common) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the labs of this user and what runs in them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := statuses(cmd.Context(), c.lab)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), format, all, func(w io.Writer) { showStatus(w, all) })
		},
	}
	outputFlag(cmd, &format)
	return cmd
}

func outputFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", "", "json, for machines")
}

// show writes v as JSON if asked to, else as a table.
func show(out io.Writer, format string, v any, table func(io.Writer)) error {
	switch format {
	case "json":
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(v)
	case "":
		w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		table(w)
		return w.Flush()
	default:
		return fmt.Errorf("unknown output format %q: use json", format)
	}
}

func statuses(ctx context.Context, only string) ([]labStatus, error) {
	names, err := lab.Names()
	if err != nil {
		return nil, err
	}
	if only != "" {
		if _, err := pick(only); err != nil {
			return nil, err
		}
		names = []string{only}
	}
	all := []labStatus{}
	for _, name := range names {
		state, err := lab.ReadState(name)
		if errors.Is(err, lab.ErrNotFound) {
			continue // just taken down
		}
		if err != nil {
			return nil, err
		}
		s := labStatus{State: state, Alive: lab.Alive(name), Kubeconfig: filepath.Join(lab.Dir(name), "kubeconfig")}
		if s.Alive && s.Serve && s.Ready {
			_ = call(ctx, name, []string{"status"}, nil, &s.Live) // it may be ending
		}
		all = append(all, s)
	}
	return all, nil
}

func showStatus(w io.Writer, all []labStatus) {
	if len(all) == 0 {
		fmt.Fprintln(w, "There is no lab. Start one with `lab up`.")
	}
	for _, s := range all {
		fmt.Fprintf(w, "lab %s: %s, since %s\n", s.Name, ownerWords(s), s.Created.Local().Format("15:04:05"))
		fmt.Fprintf(w, "kubeconfig %s\n", s.Kubeconfig)
		for i, c := range s.Clusters {
			way := ""
			if i < len(s.Live) {
				way = ", way " + linkWords(s.Live[i].Link)
			}
			fmt.Fprintf(w, "\ncluster %s: %s, %d simulated and %d real nodes, pods %s, services %s%s\n",
				c.Name, c.Server, c.Simulated, c.Real, c.PodCIDR, c.ServiceCIDR, way)
			if i < len(s.Live) {
				showComponents(w, s.Live[i].Components)
			}
		}
	}
}

func ownerWords(s labStatus) string {
	switch {
	case !s.Alive:
		return "its owner is dead; `lab down " + s.Name + "` removes what is left"
	case !s.Ready:
		return "starting or stopping, process " + s.Owner.String()
	default:
		return "runs, process " + s.Owner.String()
	}
}

func showComponents(w io.Writer, components []componentStatus) {
	fmt.Fprintln(w, "  COMPONENT\tPID\tSTATE\tCPU\tMEMORY")
	for _, c := range components {
		state := "running"
		if !c.Running {
			state = "ended"
		}
		fmt.Fprintf(w, "  %s\t%d\t%s\t%.1f s\t%d MiB\n", c.Name, c.PID, state, c.CPUSeconds, c.RSS>>20)
	}
}

func requestsCommand(c *common) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "requests CLUSTER",
		Short: "Count the requests to a cluster's API server",
		Long:  "Counts the requests to a cluster's API server by verb, resource and, in a lab that was started with --audit, client.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var counts []lab.RequestCount
			if err := c.ask(cmd, args[0], "requests", nil, &counts); err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), format, counts, func(w io.Writer) { showRequests(w, counts) })
		},
	}
	outputFlag(cmd, &format)
	return cmd
}

func showRequests(w io.Writer, counts []lab.RequestCount) {
	slices.SortStableFunc(counts, func(a, b lab.RequestCount) int { return int(b.Count - a.Count) })
	fmt.Fprintln(w, "COUNT\tVERB\tRESOURCE\tCODE\tCLIENT")
	for _, r := range counts {
		resource := r.Resource
		if r.Group != "" {
			resource += "." + r.Group
		}
		if r.Subresource != "" {
			resource += "/" + r.Subresource
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\n", r.Count, r.Verb, resource, r.Code, r.Client)
	}
}

func downCommand(c *common) *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "down [NAME]",
		Short: "Take a lab down and remove every trace of it",
		Long: "Takes a lab down: processes, network namespaces, mounts, control groups and files, also when its owner was\n" +
			"killed. The built programs stay in the cache.",
		Example: "  lab down\n  lab down demo\n  lab down --all",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := downNames(args, c.lab, all)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range names {
				if err := lab.DownNamed(cmd.Context(), name, force); err != nil {
					errs = append(errs, downError(err))
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "lab %s is gone\n", name)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all labs of this user")
	cmd.Flags().BoolVar(&force, "force", false, "also a lab that a running test owns: that test is killed")
	return cmd
}

func downNames(args []string, flag string, all bool) ([]string, error) {
	switch {
	case all && len(args) > 0:
		return nil, errors.New("give a name or --all, not both")
	case all:
		return lab.Names()
	case len(args) > 0:
		return args, nil // perhaps only its processes are left
	default:
		name, err := pick(flag)
		return []string{name}, err
	}
}

func downError(err error) error {
	if errors.Is(err, lab.ErrInUse) {
		return fmt.Errorf("%w (--force)", err)
	}
	return err
}
