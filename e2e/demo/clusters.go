package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/e2e/lab/realnode"
)

// Names of the clusters: the one at home runs short and borrows from the one in the cloud.
const (
	home  = "home"
	cloud = "cloud"
	// virtualNode is how the cloud appears at home.
	virtualNode = "spillway-" + cloud
	// nodesPerCluster are a cluster's own.
	nodesPerCluster = 2
	// keptName is the name of the lab that KEEP=1 leaves.
	keptName = "demo"
)

// demo is one run of the story.
type demo struct {
	show            *show
	keep, simulated bool

	root string // of the checkout
	name string // of the lab; empty before it is made
	real bool   // the nodes are real

	kubectl    string // path of the program
	kubeconfig string
	clusters   map[string]*cluster
}

// cluster is one of the two, as an administrator sees it.
type cluster struct {
	name   string
	config *rest.Config
	kube   kubernetes.Interface
	before inventory // what was there before peering
}

// prepare finds out what is possible here and builds what is missing.
func (d *demo) prepare(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil || strings.TrimSpace(string(out)) == os.DevNull {
		return errors.New("this is no checkout of Spillway: run make demo in one")
	}
	d.root = filepath.Dir(strings.TrimSpace(string(out)))
	d.name = keptName
	if !d.keep {
		d.name = fmt.Sprintf("demo-%d", os.Getpid())
	}
	if _, err := lab.ReadState(d.name); err == nil && lab.Alive(d.name) {
		d.name = ""
		return errors.New("the clusters of an earlier make demo KEEP=1 still run: take them away with make lab-down, then try again")
	}
	d.chooseNodes()
	return d.build(ctx)
}

// chooseNodes takes real nodes where the machine allows it, and says so where not.
func (d *demo) chooseNodes() {
	var why string
	switch missing := realnode.Preflight(); {
	case d.simulated:
		why = "as asked for with -simulated"
	case os.Geteuid() != 0:
		why = "real ones need root (sudo make demo)"
	case len(missing) > 0:
		why = missing[0] + "; make prerequisites installs what is missing"
	default:
		d.real = true
		d.show.plain("The nodes are real: kubelet and containerd in network namespaces, and the pods are processes of this machine.")
		return
	}
	d.show.plain("The nodes are simulated: %s.\nAPI servers, schedulers and Spillway are the real ones; the pods are not processes.", why)
}

// build makes the programs. What Kubernetes itself needs is built once and cached for all checkouts.
func (d *demo) build(ctx context.Context) error {
	progress := &lines{each: func(line string) { d.show.plain("%s", d.show.dim(line)) }}
	defer progress.Close()
	chart, err := charts.Load()
	if err != nil {
		return err
	}
	version := lab.VersionFlag(chart.AppVersion())
	for program, dir := range map[string]string{"spillway": "./cmd/spillway", "lab": "./e2e/lab/cmd/lab"} {
		build := exec.CommandContext(ctx, "go", "build", "-ldflags", version, "-o", d.program(program), dir) // the lab remembers its checkout: no -trimpath
		build.Dir, build.Env = d.root, append(os.Environ(), "CGO_ENABLED=0")
		if words, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%s cannot be built: %w\n%s", program, err, words)
		}
	}
	programs, err := lab.Binaries(ctx, progress, append(lab.BinaryNames(d.real), "kubectl")...)
	if err != nil {
		return fmt.Errorf("the programs of the clusters cannot be built: %w", err)
	}
	d.kubectl = programs["kubectl"]
	return nil
}

func (d *demo) program(name string) string { return filepath.Join(d.root, "bin", name) }

// up starts the clusters. They belong to a process of their own, so that they can outlive this one.
func (d *demo) up(ctx context.Context) error {
	progress, last := d.show.output(), ""
	show := progress.each
	progress.each = func(line string) {
		last = line
		show(line)
	}
	up := exec.CommandContext(ctx, d.program("lab"), d.startArgs()...)
	up.Stderr = progress
	up.Cancel = func() error { return up.Process.Signal(syscall.SIGTERM) }
	up.WaitDelay = time.Minute
	err := up.Run()
	progress.Close()
	if err != nil {
		return fmt.Errorf("the clusters did not start: %s (%w)", strings.TrimPrefix(last, "lab: "), err)
	}
	d.kubeconfig = filepath.Join(lab.Dir(d.name), "kubeconfig")
	d.clusters = map[string]*cluster{}
	for _, name := range []string{home, cloud} {
		if d.clusters[name], err = openCluster(d.kubeconfig, name); err != nil {
			return err
		}
	}
	return nil
}

// startArgs are the words for `lab up` that this machine allows.
func (d *demo) startArgs() []string {
	args := []string{"up", "--name", d.name, "--clusters", home + "," + cloud}
	if d.real {
		return append(args, "--in-cluster", "--nodes", "0", "--real", fmt.Sprint(nodesPerCluster)) // install shows the rest
	}
	return append(args, "--spillway", "--nodes", fmt.Sprint(nodesPerCluster))
}

func openCluster(kubeconfig, name string) (*cluster, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", name, err)
	}
	return &cluster{name: name, config: config, kube: kube}, nil
}

// takeAway ends the clusters, however far they have come.
func (d *demo) takeAway(ctx context.Context) error {
	if d.name == "" {
		return nil
	}
	if _, err := lab.ReadState(d.name); errors.Is(err, lab.ErrNotFound) {
		return nil
	}
	d.show.plain("\nTaking the clusters away …")
	if err := lab.DownNamed(ctx, d.name, true); err != nil {
		err = fmt.Errorf("the clusters could not be taken away: %w (make lab-down tries again)", err)
		d.show.failed(err)
		return err
	}
	return nil
}

// saveLogs keeps the logs of clusters that are about to go.
func (d *demo) saveLogs() {
	logs := os.DirFS(filepath.Join(lab.Dir(d.name), "log"))
	to, err := os.MkdirTemp("", "spillway-demo-logs-")
	if d.name == "" || d.kubeconfig == "" || err != nil || os.CopyFS(to, logs) != nil {
		return
	}
	d.show.plain("     The logs of everything are in %s.", to)
}

// do runs a command that people would type, shows it and what it says.
func (d *demo) do(ctx context.Context, words ...string) error {
	return d.doWith(ctx, "", words...)
}

// doWith does so with an input.
func (d *demo) doWith(ctx context.Context, input string, words ...string) error {
	d.show.command(words)
	program := d.kubectl
	if words[0] != "kubectl" {
		program = d.program(words[0])
	}
	out := d.show.output()
	defer out.Close()
	cmd := exec.CommandContext(ctx, program, words[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+d.kubeconfig)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s did not succeed: %w", strings.Join(words[:2], " "), err)
	}
	return nil
}

// farewell says what there is to play with.
func (d *demo) farewell() {
	kubectl := "kubectl"
	if _, err := exec.LookPath("kubectl"); err != nil {
		if err := os.Symlink(d.kubectl, d.program("kubectl")); err != nil && !errors.Is(err, os.ErrExist) {
			kubectl = d.kubectl
		}
	}
	d.show.plain(`
The clusters stay, un-peered, with the Deployment shop/web at home. In a shell:

  export KUBECONFIG=%s PATH=%s:$PATH

  spillway peer --context home --remote-context cloud
  %[3]s --context home get nodes
  %[3]s --context home -n shop scale deployment/web --replicas=30
  %[3]s --context home -n shop get pods -o wide
  %[3]s --context cloud get pods -A -l spillway.dev/origin -o wide      # the twins
  spillway status --context home
  lab slow cloud --rtt 200ms; lab cut cloud; lab restore cloud        # the way to the cloud's API server
  spillway unpeer cloud --context home

The contexts are home and cloud. Take everything away with: make lab-down`, d.kubeconfig, filepath.Join(d.root, "bin"), kubectl)
}
