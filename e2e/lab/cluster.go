package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Cluster is one running cluster of a Lab. Its methods may be called by
// several goroutines.
type Cluster struct {
	lab    *Lab
	index  int
	opts   ClusterOptions
	layout layout
	ca     *authority
	admin  access // direct
	link   *Link
	egress *egress // nil: the API server dials by itself
	audit  auditCounter

	mu    sync.Mutex // guards procs
	procs map[string]*Proc
}

// Name of the cluster and of its context through the proxy.
func (c *Cluster) Name() string { return c.opts.Name }

// PodCIDR is the range of its pods' addresses.
func (c *Cluster) PodCIDR() string { return c.opts.PodCIDR }

// ServiceCIDR is the range of its Services' addresses.
func (c *Cluster) ServiceCIDR() string { return c.opts.ServiceCIDR }

// Config is an administrator's way straight to the API server, without a
// client-side limit. The caller owns it.
func (c *Cluster) Config() *rest.Config { return c.admin.restConfig() }

// ProxiedConfig is the same through the proxy, see Link.
func (c *Cluster) ProxiedConfig() *rest.Config { return c.proxied().restConfig() }

// Link is the way to the cluster's API server as others see it.
func (c *Cluster) Link() *Link { return c.link }

// CA is the certificate (PEM) that the API server and the kubelets trust and
// are trusted by.
func (c *Cluster) CA() []byte { return c.ca.certPEM }

// Issue makes a certificate and key (PEM) signed by the cluster's CA: a user
// with these groups, and with hosts (names, IP addresses) also a server.
func (c *Cluster) Issue(name string, groups, hosts []string) (cert, key []byte, err error) {
	return c.ca.issue(subject{name: name, groups: groups, hosts: hosts})
}

func (c *Cluster) proxied() access {
	a := c.admin
	a.name = c.Name()
	a.server = "https://" + c.link.Addr()
	return a
}

func (c *Cluster) client() kubernetes.Interface {
	return kubernetes.NewForConfigOrDie(c.Config()) // the configuration is our own
}

// adminGroup may do everything, in every Kubernetes cluster.
const adminGroup = "system:masters"

// newCluster makes the cluster's files and its proxy, and starts nothing yet.
// address is where nodes reach the API server; empty when no node has to.
func newCluster(ctx context.Context, l *Lab, index int, address string) (*Cluster, error) {
	opts := l.opts.Clusters[index]
	dir := filepath.Join(l.dir, "run", opts.Name)
	c := &Cluster{lab: l, index: index, opts: opts, procs: map[string]*Proc{}, layout: layout{
		pki: pki{dir: dir}, name: opts.Name, dir: dir, audit: l.opts.Audit,
		podCIDR: opts.PodCIDR, serviceCIDR: opts.ServiceCIDR, advertise: address, egress: l.opts.InCluster,
	}}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return c, fmt.Errorf("make the folder of cluster %s: %w", opts.Name, err)
	}
	if address == "" {
		address = "127.0.0.1"
	}
	var err error
	if c.layout.port, err = holdPort(address); err != nil {
		return c, err
	}
	if opts.Metrics {
		if c.layout.metrics, err = holdPort("127.0.0.1"); err != nil {
			return c, err
		}
	}
	if err := c.openWays(ctx); err != nil {
		return c, fmt.Errorf("start the proxies of cluster %s: %w", opts.Name, err)
	}
	if err := c.writeFiles(); err != nil {
		return c, fmt.Errorf("write the files of cluster %s: %w", opts.Name, err)
	}
	return c, nil
}

// openWays starts the way to the API server and, if asked for, that from it
// into the cluster.
func (c *Cluster) openWays(ctx context.Context) error {
	at := "127.0.0.1"
	if c.layout.egress {
		at = c.layout.port.ip // peers are pods, which reach this one
	}
	var err error
	if c.link, err = newLink(ctx, at, c.layout.port.addr()); err != nil || !c.layout.egress {
		return err
	}
	return c.startEgress(ctx)
}

// writeFiles makes certificates, kubeconfigs and configuration.
func (c *Cluster) writeFiles() error {
	ca, err := newAuthority("spillway-lab " + c.Name())
	if err != nil {
		return err
	}
	front, err := newAuthority("spillway-lab " + c.Name() + " front proxy")
	if err != nil {
		return err
	}
	c.ca = ca
	hosts := []string{c.layout.port.ip, "127.0.0.1", "localhost", firstAddress(c.opts.ServiceCIDR),
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	_, serviceAccountKey, err := newKey()
	if err != nil {
		return err
	}
	err = errors.Join(
		c.layout.write("ca", ca.certPEM, ca.keyPEM),
		c.layout.write("front-proxy-ca", front.certPEM, front.keyPEM),
		c.layout.write("service-account", nil, serviceAccountKey),
		c.certify(ca, "apiserver", subject{name: "kube-apiserver", hosts: hosts}),
		c.certify(ca, "kubelet-client", subject{name: "kube-apiserver-kubelet-client", groups: []string{adminGroup}}),
		c.certify(ca, MetricsServer, subject{name: MetricsServer, hosts: []string{metricsHost}}),
		c.certify(front, "front-proxy-client", subject{name: "front-proxy-client"}),
		c.identify(ControllerManager, subject{name: "system:kube-controller-manager"}),
		c.identify(Scheduler, subject{name: "system:kube-scheduler"}),
		c.identify(Kwok, subject{name: "kwok", groups: []string{adminGroup}}),
		c.layout.writeKwokConfig(),
		os.WriteFile(c.layout.file("audit-policy.yaml"), []byte(auditPolicy), 0o600),
		os.WriteFile(c.layout.file("egress.yaml"), fmt.Appendf(nil, egressConfig, c.layout.egressSocket()), 0o600),
	)
	if err != nil {
		return err
	}
	c.admin, err = c.access(subject{name: "admin", groups: []string{adminGroup}})
	c.admin.name = c.Name() + "-direct"
	return err
}

func (c *Cluster) certify(by *authority, name string, s subject) error {
	cert, key, err := by.issue(s)
	if err != nil {
		return err
	}
	return c.layout.write(name, cert, key)
}

// identify writes a kubeconfig straight to the API server.
func (c *Cluster) identify(file string, s subject) error {
	a, err := c.access(s)
	if err != nil {
		return err
	}
	return writeKubeconfig(c.layout.kubeconfig(file), a)
}

func (c *Cluster) access(s subject) (access, error) {
	cert, key, err := c.ca.issue(s)
	return access{name: c.Name(), server: c.layout.server(), ca: c.ca.certPEM, cert: cert, key: key}, err
}

// up starts the cluster and waits until its simulated nodes are Ready.
func (c *Cluster) up(ctx context.Context) error {
	if err := c.start(Etcd, c.layout.etcdArgs()); err != nil {
		return err
	}
	if err := c.waitFor(ctx, Etcd, c.etcdReady); err != nil {
		return err
	}
	if err := c.start(APIServer, c.layout.apiServerArgs()); err != nil {
		return err
	}
	if err := c.waitFor(ctx, APIServer, c.apiReady); err != nil {
		return err
	}
	c.lab.progress("cluster %s: API server ready", c.Name())
	if err := errors.Join(
		c.start(ControllerManager, c.layout.controllerManagerArgs()),
		c.start(Scheduler, c.layout.schedulerArgs()),
	); err != nil {
		return err
	}
	if err := c.startMetrics(ctx); err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name(), err)
	}
	nodes := simulatedNodes(c.index, c.opts)
	if len(nodes) > 0 {
		if err := c.start(Kwok, c.layout.kwokArgs()); err != nil {
			return err
		}
	}
	if err := createNodes(ctx, c.client(), nodes); err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name(), err)
	}
	err := c.waitFor(ctx, ControllerManager, func(ctx context.Context) error {
		return waitUsable(ctx, c.client(), len(nodes))
	})
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.Name(), err)
	}
	if len(nodes) > 0 {
		c.lab.progress("cluster %s: %d simulated nodes Ready", c.Name(), len(nodes))
	}
	return nil
}

// start starts a component for the first time.
func (c *Cluster) start(component string, args []string) error {
	path, err := lookup(c.lab.binaries, component)
	if err != nil {
		return err
	}
	p, err := c.lab.startProcess(Process{Name: c.Name() + "-" + component, Path: path, Args: args, Dir: c.layout.dir})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.procs[component] = p
	return nil
}

// startTimeout is how long a component may take on a busy machine.
const startTimeout = 2 * time.Minute

// waitFor waits until ready returns nil; an end of the component, or the
// timeout, is an error with the end of its log.
func (c *Cluster) waitFor(ctx context.Context, component string, ready func(context.Context) error) error {
	p := c.Component(component)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- ready(ctx) }()
	select {
	case err := <-result:
		return err
	case <-p.Done():
		cancel()
		<-result
		return p.failure()
	}
}

func (c *Cluster) etcdReady(ctx context.Context) error {
	return poll(ctx, 20*time.Millisecond, func(ctx context.Context) (bool, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.layout.etcdSocket())
		if err != nil {
			return false, err
		}
		return true, conn.Close()
	})
}

func (c *Cluster) apiReady(ctx context.Context) error {
	client := c.client().Discovery().RESTClient()
	err := poll(ctx, 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		answer, err := client.Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil && len(answer) > 0 {
			err = errors.New(failedChecks(answer)) // the error has all checks in it
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("wait for the API server of %s: %w", c.Name(), err)
	}
	return nil
}

// failedChecks keeps the lines of /readyz that say what is missing.
func failedChecks(answer []byte) string {
	var failed []string
	for line := range strings.Lines(string(answer)) {
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			failed = append(failed, strings.TrimSpace(check))
		}
	}
	return strings.Join(failed, ", ")
}

// close ends what lives in the owner's process.
func (c *Cluster) close() {
	if c.link != nil {
		c.link.close()
	}
	if c.egress != nil {
		c.egress.close()
	}
	for _, p := range []*port{c.layout.port, c.layout.metrics} {
		if p != nil {
			p.Close()
		}
	}
}
