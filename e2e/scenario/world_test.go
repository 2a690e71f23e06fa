package scenario

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/e2e/lab"
	"github.com/spillway-dev/spillway/peering"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
	peeringclient "github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

const (
	root      = "../.." // of the module
	east      = "east"  // the consumer, its context, and the name of its Peering at the provider
	west      = "west"  // the provider, its context, and the name of its Peering at the consumer
	nodeName  = "spillway-" + west
	userAgent = "scenario" // of the requests that tests make
)

// shared is the world of all tests of this package: starting one for each would take most of the time.
var shared struct {
	sync.Once
	world *world
	err   error
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	code := m.Run()
	if shared.world == nil {
		return code
	}
	begun := time.Now()
	defer func() { fmt.Fprintf(os.Stderr, "lab taken down in %s\n", time.Since(begun).Round(time.Millisecond)) }()
	if err := shared.world.down(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// world is a running lab with a Spillway in each cluster.
type world struct {
	lab                *lab.Lab
	bin                string // folder with spillway and spillwayd
	consumer, provider *side
}

// side is one cluster of a world.
type side struct {
	*lab.Cluster
	id        string
	kube      kubernetes.Interface // of an administrator, straight to the API server
	peerings  peeringclient.Peerings
	spillwayd *lab.Proc
}

// theWorld returns the shared world, which it starts when it is the first to ask.
func theWorld(t *testing.T) *world {
	t.Helper()
	shared.Do(func() { shared.world, shared.err = newWorld(context.Background(), lab.DefaultClusters(4)) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.world
}

// newWorld starts a lab with these two clusters, consumer first, and a Spillway in each.
func newWorld(ctx context.Context, clusters []lab.ClusterOptions) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.down(ctx))
			w = nil
		}
	}()
	if w.bin, err = buildPrograms(ctx); err != nil {
		return w, err
	}
	if w.lab, err = lab.Up(ctx, lab.Options{Clusters: clusters, Audit: true, Progress: os.Stderr}); err != nil {
		return w, err
	}
	sides := []*side{{}, {}}
	for i, c := range w.lab.Clusters() {
		if sides[i], err = startSide(ctx, w, c); err != nil {
			return w, fmt.Errorf("start Spillway in cluster %s: %w", c.Name(), err)
		}
	}
	w.consumer, w.provider = sides[0], sides[1]
	return w, w.awaitLeaders(ctx)
}

// buildPrograms builds spillway and spillwayd as users run them: without the race detector, which would change what
// they cost.
func buildPrograms(ctx context.Context) (folder string, err error) {
	if folder, err = os.MkdirTemp("", "spillway-scenario-"); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", folder, "./cmd/spillway", "./cmd/spillwayd")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return folder, fmt.Errorf("build spillway and spillwayd: %w\n%s", err, out)
	}
	return folder, nil
}

func startSide(ctx context.Context, w *world, c *lab.Cluster) (*side, error) {
	s := &side{Cluster: c}
	config := c.Config()
	config.UserAgent = userAgent
	var err error
	if s.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if s.peerings, err = peeringclient.New(config); err != nil {
		return nil, err
	}
	if s.id, err = peering.ClusterID(ctx, s.kube); err != nil {
		return nil, err
	}
	kubeconfig, err := c.InstallSpillway(ctx)
	if err != nil {
		return nil, err
	}
	s.spillwayd, err = w.lab.Start(ctx, lab.Process{
		Name: c.Name() + "-spillwayd", Path: filepath.Join(w.bin, "spillwayd"),
		Args: []string{"controller", "--kubeconfig", kubeconfig, "--context", c.Name(), "--log-level", "debug", "--webhook-address", "127.0.0.1:0"},
	})
	return s, err
}

// awaitLeaders waits until both spillwayd work: peering asks for that.
func (w *world) awaitLeaders(ctx context.Context) error {
	for _, s := range []*side{w.consumer, w.provider} {
		if _, err := poll(ctx, 30*time.Second, func(ctx context.Context) error { return s.led(ctx) }); err != nil {
			return fmt.Errorf("wait for spillwayd in cluster %s: %w\n%s", s.Name(), err, logTail(s.spillwayd, 20))
		}
	}
	return nil
}

// led says whether a spillwayd holds the Lease.
func (s *side) led(ctx context.Context) error {
	lease, err := s.kube.CoordinationV1().Leases(v1alpha1.SystemNamespace).Get(ctx, v1alpha1.ControllerLease, getOptions())
	if err == nil && (lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "") {
		return errors.New("nobody holds the Lease")
	}
	return err
}

func (w *world) down(ctx context.Context) error {
	var err error
	if w.lab != nil {
		err = w.lab.Down(ctx)
	}
	return errors.Join(err, os.RemoveAll(w.bin))
}

// result is what a run of the command line left.
type result struct {
	code           int
	stdout, stderr string
	took           time.Duration
}

// outcome is the part that tests read of what peer and unpeer print with -o json.
type outcome struct {
	OK      bool     `json:"ok"`
	Changed bool     `json:"changed"`
	Nodes   []string `json:"nodes"`
	Remains []string `json:"remains"`
	Error   *struct {
		Message, Action string
	} `json:"error"`
}

func (r result) parse() (outcome, error) {
	var o outcome
	if err := json.Unmarshal([]byte(r.stdout), &o); err != nil {
		return o, fmt.Errorf("parse the JSON of spillway: %w\n%s", err, r)
	}
	return o, nil
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d after %s\n%s%s", r.code, r.took.Round(time.Millisecond), r.stdout, r.stderr)
}

// spillway runs the command line program with the lab's kubeconfig.
func (w *world) spillway(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(w.bin, "spillway"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.lab.Kubeconfig())
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begun := time.Now()
	err := cmd.Run()
	r := result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), took: time.Since(begun)}
	if err != nil && r.code <= 0 {
		r.stderr += err.Error()
	}
	return r
}

// peerArgs are those of the peering that tests use.
func peerArgs(more ...string) []string {
	return append([]string{"peer", "--context", east, "--remote-context", west}, more...)
}

func logTail(p *lab.Proc, lines int) string {
	if p == nil {
		return ""
	}
	text, err := os.ReadFile(p.Log())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// restConfigAs is a way to the cluster with another credential.
func (s *side) restConfigAs(token string) *rest.Config {
	config := s.Config()
	config.CertData, config.KeyData = nil, nil
	config.BearerToken = token
	return config
}
