package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/spillway-dev/spillway/e2e/lab"
)

// upOptions are the flags of up.
type upOptions struct {
	name     string
	clusters []string
	nodes    int
	real     int

	cpu, memory, pods string
	labels, taints    []string

	audit     bool
	metrics   bool
	spillway  bool
	tunnel    bool
	inCluster bool
}

func upCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start clusters and leave them running",
		Example: `  lab up                                         # east and west with 2 simulated nodes each
  lab up --name big --clusters a,b,c --nodes 100
  lab up --cpu 8 --memory 32Gi --label pool=gpu --taint gpu=yes:NoSchedule
  sudo lab up --nodes 0 --real 2                 # real nodes: pods are processes
  sudo lab up --nodes 0 --real 2 --spillway --in-cluster   # and Spillway runs in pods, as people install it`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return up(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "demo", "name of the lab")
	f.StringSliceVar(&o.clusters, "clusters", []string{"east", "west"}, "names of the clusters")
	f.IntVar(&o.nodes, "nodes", 2, "simulated nodes per cluster")
	f.IntVar(&o.real, "real", 0, "real nodes per cluster (needs root)")
	f.StringVar(&o.cpu, "cpu", "32", "CPUs of a simulated node")
	f.StringVar(&o.memory, "memory", "128Gi", "memory of a simulated node")
	f.StringVar(&o.pods, "pods", "250", "pods of a simulated node")
	f.StringArrayVar(&o.labels, "label", nil, "label KEY=VALUE of the simulated nodes (repeat for more)")
	f.StringArrayVar(&o.taints, "taint", nil, "taint KEY=VALUE:EFFECT of the simulated nodes (repeat for more)")
	f.BoolVar(&o.audit, "audit", false, "count API requests by client, too (costs some CPU)")
	f.BoolVar(&o.metrics, "metrics", false, "run metrics-server beside each cluster (kubectl top, autoscalers)")
	f.BoolVar(&o.spillway, "spillway", false, "build spillwayd from this checkout and run it in each cluster")
	f.BoolVar(&o.tunnel, "tunnel", false, "with --spillway: make real nodes gateways, with an agent on each, so that pods of peered clusters reach each other")
	f.BoolVar(&o.inCluster, "in-cluster", false, "real nodes have the image of spillwayd from this checkout, and API servers reach pods; with --spillway it is installed there, with agents on the nodes")
	return cmd
}

// serveRequest is what up tells the process that will own the lab.
type serveRequest struct {
	Options  lab.Options
	Spillway bool
	Tunnel   bool
}

// labOptions turns the flags into options. Without root, the real nodes become
// simulated ones, and word says so.
func (o upOptions) labOptions(root bool) (lab.Options, string, error) {
	opts := lab.Options{Name: o.name, Audit: o.audit, Serve: true, InCluster: o.inCluster}
	word := ""
	if o.inCluster && (o.real == 0 || !root) {
		return opts, "", errors.New("--in-cluster needs real nodes: run as root, with --real 1 or more")
	}
	if o.real > 0 && !root {
		word = fmt.Sprintf("Real nodes need root. You get simulated nodes instead (%d per cluster): the API servers and the\n"+
			"scheduler are real, the pods are not processes. For real nodes run: sudo lab up --real %d\n", o.real, o.real)
		o.nodes, o.real = o.nodes+o.real, 0
	}
	group, err := o.group()
	if err != nil {
		return opts, "", err
	}
	for _, name := range o.clusters {
		opts.Clusters = append(opts.Clusters, lab.ClusterOptions{Name: name, Simulated: []lab.NodeGroup{group}, Real: o.real, Metrics: o.metrics})
	}
	return opts, word, nil
}

func (o upOptions) group() (lab.NodeGroup, error) {
	g := lab.NodeGroup{Count: o.nodes, Capacity: corev1.ResourceList{}, Labels: map[string]string{}}
	for name, value := range map[corev1.ResourceName]string{
		corev1.ResourceCPU: o.cpu, corev1.ResourceMemory: o.memory, corev1.ResourcePods: o.pods,
	} {
		q, err := resource.ParseQuantity(value)
		if err != nil {
			return g, fmt.Errorf("--%s %q is not a quantity such as 8 or 32Gi", name, value)
		}
		g.Capacity[name] = q
	}
	for _, l := range o.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return g, fmt.Errorf("--label %q: write KEY=VALUE", l)
		}
		g.Labels[key] = value
	}
	for _, t := range o.taints {
		taint, err := parseTaint(t)
		if err != nil {
			return g, err
		}
		g.Taints = append(g.Taints, taint)
	}
	return g, nil
}

func parseTaint(s string) (corev1.Taint, error) {
	kv, effect, ok := strings.Cut(s, ":")
	key, value, _ := strings.Cut(kv, "=")
	switch e := corev1.TaintEffect(effect); e {
	case corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute:
		if ok && key != "" {
			return corev1.Taint{Key: key, Value: value, Effect: e}, nil
		}
	}
	return corev1.Taint{}, fmt.Errorf("--taint %q: write KEY=VALUE:EFFECT with effect NoSchedule, PreferNoSchedule or NoExecute", s)
}

// up starts the owner in the background and follows it until the lab is ready.
func up(ctx context.Context, out, progress io.Writer, o upOptions) error {
	opts, word, err := o.labOptions(os.Geteuid() == 0)
	if err != nil {
		return err
	}
	fmt.Fprint(progress, word)
	if _, err := lab.ReadState(o.name); err == nil && lab.Alive(o.name) {
		return fmt.Errorf("lab %s runs already: end it with `lab down %s`, or choose another --name", o.name, o.name)
	}
	begun := time.Now()
	if err := follow(ctx, progress, serveRequest{opts, o.spillway, o.tunnel}); err != nil {
		return err
	}
	state, err := lab.ReadState(o.name)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "ready after %.1f s\n", time.Since(begun).Seconds())
	return welcome(out, state)
}

// message is a line from the owner: progress, or the end of starting.
type message struct {
	Progress string `json:",omitempty"`
	Ready    bool   `json:",omitempty"`
	Error    string `json:",omitempty"`
}

// follow starts `lab serve` in a session of its own. It reads the request on
// its input and writes messages to descriptor 3.
func follow(ctx context.Context, progress io.Writer, request serveRequest) error {
	input, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"lab", "serve"}
	cmd.Stdin = strings.NewReader(string(input))
	cmd.ExtraFiles = []*os.File{w}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("start the lab's owner: %w", err)
	}
	// Ctrl-C reaches this process only: pass it on, then go on reading until
	// the owner has cleaned up.
	stop := context.AfterFunc(ctx, func() {
		fmt.Fprintln(progress, "interrupted: taking the lab down")
		_ = cmd.Process.Signal(syscall.SIGTERM)
	})
	defer stop()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("read from the lab's owner: %w", err)
		}
		switch {
		case m.Ready:
			return nil
		case m.Error != "":
			_ = cmd.Wait()
			return errors.New(m.Error)
		default:
			fmt.Fprint(progress, m.Progress)
		}
	}
	return fmt.Errorf("the lab's owner ended without a word (%w): is the machine out of memory?", cmd.Wait())
}

func welcome(out io.Writer, s lab.State) error {
	kubeconfig := filepath.Join(lab.Dir(s.Name), "kubeconfig")
	var names, direct []string
	for _, c := range s.Clusters {
		names = append(names, c.Name)
		direct = append(direct, c.Name+"-direct")
	}
	first, last := names[0], names[len(names)-1]
	_, err := fmt.Fprintf(out, `
kubeconfig  %s
contexts    %s: through a proxy that can be cut and slowed
            %s: straight to the API servers
logs        %s

  export KUBECONFIG=%s
  lab kubectl --context %s get nodes     (or any kubectl)
  lab status
  lab slow %s --rtt 50ms;  lab cut %s;  lab restore %s
  lab requests %s
  lab down %s
`, kubeconfig, strings.Join(names, ", "), strings.Join(direct, ", "), filepath.Join(lab.Dir(s.Name), "log"),
		kubeconfig, first, last, last, last, first, s.Name)
	return err
}
