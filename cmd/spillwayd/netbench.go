package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/spillway-dev/spillway/internal/netbench"
)

// netbenchRun is what `netbench run` measures and where it says so.
type netbenchRun struct {
	target  string
	timeout time.Duration
	message string // file
	options netbench.Options
}

func netbenchCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "netbench",
		Short: "Measure the network between two pods (what spillway bench network runs in them)",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var listen string
	serve := &cobra.Command{
		Use:     "serve",
		Short:   "Be the passive end",
		Example: "  spillwayd netbench serve --listen :5201",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			server, err := netbench.Listen(cmd.Context(), listen)
			if err != nil {
				return err
			}
			return server.Serve(cmd.Context())
		},
	}
	serve.Flags().StringVar(&listen, "listen", fmt.Sprintf(":%d", netbench.DefaultPort), "address to listen on, TCP and UDP")

	var r netbenchRun
	run := &cobra.Command{
		Use:     "run",
		Short:   "Measure the way to a passive end and print one line of JSON",
		Example: "  spillwayd netbench run --target 10.244.1.7:5201 --duration 5s --count 1000",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return r.run(cmd.Context()) },
	}
	flags := run.Flags()
	flags.StringVar(&r.target, "target", "", "IP:PORT of the passive end; without PORT the default one")
	flags.DurationVar(&r.options.Duration, "duration", 5*time.Second, "length of each throughput run, up and down; 0 leaves them out")
	flags.IntVar(&r.options.Count, "count", 1000, "round trips, of TCP and of UDP each; 0 leaves them out")
	flags.DurationVar(&r.options.Wait, "wait", 30*time.Second, "how long to try until the passive end answers")
	flags.DurationVar(&r.timeout, "timeout", 5*time.Minute, "how long all of it may take")
	flags.StringVar(&r.message, "message", "", "also write the result into this file (a pod's termination log)")
	root.AddCommand(serve, run)
	return root
}

func (r netbenchRun) run(ctx context.Context) error {
	target, err := parseTarget(r.target)
	if err != nil {
		return err
	}
	r.options.Target = target
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	result, err := netbench.Run(ctx, r.options)
	if err != nil {
		return r.tell([]byte(err.Error()), err)
	}
	line, err := json.Marshal(result)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	fmt.Println(string(line))
	return r.tell(line, nil)
}

// tell writes text into the file for it, if there is one, and returns err or what went wrong with the file.
func (r netbenchRun) tell(text []byte, err error) error {
	if r.message == "" {
		return err
	}
	if writeErr := os.WriteFile(r.message, text, 0o644); writeErr != nil && err == nil {
		return fmt.Errorf("write result: %w", writeErr)
	}
	return err
}

// parseTarget reads IP:PORT or IP, also an IPv6 address without brackets.
func parseTarget(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, netbench.DefaultPort), nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--target %q: give IP:PORT", text)
	}
	addr, addrErr := netip.ParseAddr(host)
	number, portErr := strconv.ParseUint(port, 10, 16)
	if addrErr != nil || portErr != nil {
		return netip.AddrPort{}, fmt.Errorf("--target %q: give IP:PORT", text)
	}
	return netip.AddrPortFrom(addr, uint16(number)), nil
}
