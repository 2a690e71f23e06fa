package realnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// ControlPlane is one cluster's control plane as the lab provides it. Its API server has the certificate of Issue's CA for the
// planned address, listens there on the port of Config's host, and may not be up yet.
type ControlPlane interface {
	// CA is the certificate (PEM) that signs for API server, kubelets and clients.
	CA() []byte
	// Issue makes a client certificate and its key (PEM); with hosts (names or addresses) also for serving.
	Issue(name string, groups, hosts []string) (cert, key []byte, err error)
	// Config is an administrator's way in, from the machine.
	Config() *rest.Config
}

// state is what other processes need to work on a lab's nodes; in Config.Dir.
type state struct {
	Config   Config `json:"config"`
	Plan     Plan   `json:"plan"`
	NodeInit string `json:"nodeInit"`
}

const stateFile = "realnode.json"

// Prepare builds and caches all that Start needs: programs, images. Start does it too; calling it before keeps minutes of building
// out of the start of a lab.
func Prepare(ctx context.Context, tools Tools) error {
	p, err := tools.gather(ctx)
	if err != nil {
		return err
	}
	snapshotter, err := snapshotterFor(tools.Cache)
	if err != nil {
		return err
	}
	_, err = tools.prepareStore(ctx, p, snapshotter)
	return err
}

// Reserve chooses the addresses and takes them: it starts the router and makes the uplink. Only then may API servers listen on
// the planned addresses. Undone by Clean.
func Reserve(ctx context.Context, cfg Config, tools Tools) (Plan, error) {
	if err := cfg.check(); err != nil {
		return Plan{}, err
	}
	own, err := tools.buildOwn(ctx)
	if err != nil {
		return Plan{}, err
	}
	nodeInit := programs{own: own}.nodeInit()
	unlock, err := lockNetwork()
	if err != nil {
		return Plan{}, err
	}
	defer unlock()
	used, err := usedRanges()
	if err != nil {
		return Plan{}, err
	}
	plan, err := NewPlan(cfg, used)
	if err != nil {
		return Plan{}, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return plan, fmt.Errorf("make directory of the nodes: %w", err)
	}
	if err := (state{Config: cfg, Plan: plan, NodeInit: nodeInit}).write(); err != nil {
		return plan, err
	}
	if err := startRouter(ctx, cfg, plan, nodeInit); err != nil {
		return plan, err
	}
	return plan, raiseLimits() // after the uplink, which keeps others from restoring them
}

func startRouter(ctx context.Context, cfg Config, plan Plan, nodeInit string) error {
	router, err := launchWaiting(ctx, nodeInit, nodespec.Spec{
		Lab: cfg.Lab, Role: nodespec.Router, Hostname: "router", Dir: routerDir(cfg.Dir), Sysctls: networkSysctls(),
	})
	if err != nil {
		return err
	}
	defer router.in.Close()
	if err := connectRouter(plan, router.pid); err != nil {
		return err
	}
	return router.send(nodespec.PhaseNetwork)
}

// Start makes all nodes of all clusters at once and returns when they are Ready and each cluster's DNS runs. planes are in the order
// of cfg.Clusters; it waits for their API servers, so they may come up meanwhile. On error the caller cleans up with Clean.
func Start(ctx context.Context, cfg Config, plan Plan, tools Tools, planes []ControlPlane) (*Nodes, error) {
	if len(planes) != len(cfg.Clusters) {
		return nil, fmt.Errorf("%w: %d control planes for %d clusters", ErrInvalid, len(planes), len(cfg.Clusters))
	}
	p, err := tools.gather(ctx)
	if err != nil {
		return nil, err
	}
	snapshotter, err := snapshotterFor(tools.Cache, cfg.Dir)
	if err != nil {
		return nil, err
	}
	store, err := tools.prepareStore(ctx, p, snapshotter)
	if err != nil {
		return nil, err
	}
	s := &starting{cfg: cfg, plan: plan, programs: p, store: store, snapshotter: snapshotter, progress: tools.Progress}
	if s.progress == nil {
		s.progress = func(string, ...any) {}
	}
	if s.router, err = initOf(routerDir(cfg.Dir)); err != nil {
		return nil, err
	}
	if s.router == 0 {
		return nil, errors.New("start real nodes: the router does not run: call Reserve first")
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range cfg.Clusters {
		if len(cfg.Clusters[i].Nodes) > 0 {
			g.Go(func() error { return s.cluster(ctx, i, planes[i]) })
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return Open(cfg.Dir)
}

// starting is one call of Start.
type starting struct {
	cfg         Config
	plan        Plan
	programs    programs
	store       string
	snapshotter string
	router      int
	progress    func(format string, args ...any)
}

// cluster makes the nodes of one cluster while its API server comes up, then lets them join.
func (s *starting) cluster(ctx context.Context, i int, plane ControlPlane) error {
	c := s.cfg.Clusters[i]
	client, err := kubernetes.NewForConfig(plane.Config())
	if err != nil {
		return fmt.Errorf("reach cluster %s: %w", c.Name, err)
	}
	nodes := make([]*starter, len(c.Nodes))
	defer closeAll(nodes)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return createObjects(gctx, client, c, s.plan.Clusters[i]) })
	for j := range c.Nodes {
		g.Go(func() (err error) {
			nodes[j], err = s.node(gctx, i, j, plane)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	for _, n := range nodes {
		if err := n.send(nodespec.PhaseAPI); err != nil {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
	}
	s.progress("cluster %s: %d real nodes joining", c.Name, len(nodes))
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := waitReady(ctx, client, s.plan.Clusters[i], s.alive); err != nil {
		return fmt.Errorf("cluster %s: %w\n%s", c.Name, err, s.lastWords(i))
	}
	s.progress("cluster %s: %d real nodes ready, DNS answers", c.Name, len(nodes))
	return nil
}

// readyWithin is ten times what joining takes on two busy cores.
const readyWithin = 2 * time.Minute

// alive gives the reason why a node has died.
func (s *starting) alive(node string) error {
	dir := nodeDir(s.cfg.Dir, node)
	pid, err := initOf(dir)
	if err == nil && pid == 0 {
		err = fmt.Errorf("node %s has ended: %s", node, lastLines(filepath.Join(dir, "log", "init.log")))
	}
	return err
}

// lastWords are the ends of the kubelets' logs of a cluster: the files will be gone when somebody reads the error.
func (s *starting) lastWords(i int) string {
	var b strings.Builder
	for _, n := range s.plan.Clusters[i].Nodes {
		fmt.Fprintf(&b, "%s: …%s\n", n.Name, lastLines(filepath.Join(nodeDir(s.cfg.Dir, n.Name), "log", Kubelet+".log")))
	}
	return b.String()
}

func closeAll(nodes []*starter) {
	for _, n := range nodes {
		if n != nil {
			n.in.Close()
		}
	}
}

// node makes one node up to the point where it has a network.
func (s *starting) node(ctx context.Context, i, j int, plane ControlPlane) (*starter, error) {
	c, n := s.plan.Clusters[i], s.plan.Clusters[i].Nodes[j]
	dir := nodeDir(s.cfg.Dir, n.Name)
	files, err := nodeFiles(c, n, s.cfg.Clusters[i].Nodes[j], plane)
	if err != nil {
		return nil, err
	}
	files["containerd.toml"] = containerdConfig(s.snapshotter)
	if err := writeFiles(dir, files); err != nil {
		return nil, err
	}
	if err := cloneStore(s.store, filepath.Join(dir, "containerd")); err != nil {
		return nil, err
	}
	groups, err := hierarchies(filepath.Join(groupName(s.cfg.Lab, s.cfg.Dir), n.Name))
	if err != nil {
		return nil, err
	}
	spec := nodespec.Spec{
		Lab: s.cfg.Lab, Role: nodespec.Node, Hostname: n.Name, Dir: dir,
		Programs:   s.programs.inNode(),
		Etc:        map[string]string{"hosts": hostsFile(c), "hostname": n.Name + "\n", "resolv.conf": "", "machine-id": machineID(dir)},
		Sysctls:    networkSysctls(),
		Shadowed:   shadowedSysctls(),
		Cgroups:    groups,
		Components: components(n),
		Rules:      inNode("masquerade.nft"),
	}
	return boot(ctx, s.programs.nodeInit(), spec, place{cluster: c, node: n, router: s.router})
}

// place is where a node is plugged in: at the router with that pid.
type place struct {
	cluster ClusterPlan
	node    NodePlan
	router  int
}

// boot starts a node's process and connects it.
func boot(ctx context.Context, nodeInit string, spec nodespec.Spec, at place) (*starter, error) {
	if err := makeGroups(spec.Cgroups); err != nil {
		return nil, err
	}
	node, err := launchWaiting(ctx, nodeInit, spec)
	if err != nil {
		return nil, err
	}
	if err := connectNode(at, node.pid); err != nil {
		node.in.Close()
		return nil, fmt.Errorf("connect node %s: %w", at.node.Name, err)
	}
	if err := node.send(nodespec.PhaseNetwork); err != nil {
		node.in.Close()
		return nil, err
	}
	return node, nil
}

// nodeFiles are a node's configuration and certificates, by their names in its directory.
func nodeFiles(c ClusterPlan, n NodePlan, want Node, plane ControlPlane) (map[string]string, error) {
	server, err := serverURL(c, plane.Config())
	if err != nil {
		return nil, err
	}
	maxPods := want.MaxPods
	if maxPods == 0 {
		maxPods = 110
	}
	files := map[string]string{
		"kubelet.yaml":        kubeletConfig(c, n, maxPods),
		"proxy.yaml":          proxyConfig(c, n),
		"cni.d/pods.conflist": cniConfig(n),
		"masquerade.nft":      masqueradeRules(c, n),
		"kubelet.kubeconfig":  nodeKubeconfig(server, "kubelet"),
		"proxy.kubeconfig":    nodeKubeconfig(server, "proxy"),
		"pki/ca.crt":          string(plane.CA()),
	}
	certificates := []struct {
		file, name string
		groups     []string
		hosts      []string
	}{
		{"kubelet", "system:node:" + n.Name, []string{"system:nodes"}, nil},
		{"proxy", "system:kube-proxy", nil, nil},
		{"serving", "system:node:" + n.Name, []string{"system:nodes"}, []string{n.Name, n.Addr.String()}},
	}
	for _, want := range certificates {
		cert, key, err := plane.Issue(want.name, want.groups, want.hosts)
		if err != nil {
			return nil, fmt.Errorf("issue certificate for %s: %w", want.name, err)
		}
		files["pki/"+want.file+".crt"], files["pki/"+want.file+".key"] = string(cert), string(key)
	}
	return files, nil
}

// serverURL is the API server as the nodes reach it.
func serverURL(c ClusterPlan, admin *rest.Config) (string, error) {
	u, err := url.Parse(admin.Host)
	if err != nil {
		return "", fmt.Errorf("address of the API server of %s: %w", c.Name, err)
	}
	port := u.Port()
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("address of the API server of %s: %q has no port", c.Name, admin.Host)
	}
	return "https://" + net.JoinHostPort(c.APIServer.String(), port), nil
}

func machineID(dir string) string {
	return fmt.Sprintf("%08x%08x%08x%08x\n", hash(dir), hash(dir+"1"), hash(dir+"2"), hash(dir+"3"))
}

func routerDir(dir string) string     { return filepath.Join(dir, "router") }
func nodeDir(dir, node string) string { return filepath.Join(dir, "node-"+node) }

func (s state) write() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state of the nodes: %w", err)
	}
	if err := os.WriteFile(filepath.Join(s.Config.Dir, stateFile), data, 0o600); err != nil {
		return fmt.Errorf("write state of the nodes: %w", err)
	}
	return nil
}
