package lab

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Options says what Up makes. The zero value is two clusters, east and west,
// with two simulated nodes each.
type Options struct {
	// Name of the lab, unique for this user of this machine; at most 20 of
	// a-z, 0-9 and '-'. Empty means a random one.
	Name string
	// Clusters in order. Empty means DefaultClusters(2).
	Clusters []ClusterOptions
	// Progress gets a line per step. Nil means none.
	Progress io.Writer `json:"-"`
	// Audit makes the API servers write an audit log, so that Requests can
	// count by client. It costs some CPU: off for benchmarks.
	Audit bool
	// InCluster prepares the clusters for Spillway in pods: API servers reach
	// the pods and Services of their cluster, through its real nodes, and pods
	// reach the API server of every cluster, also through its proxy. Each
	// cluster needs a real node.
	InCluster bool
	// Serve says that the owner answers on the control socket and ends the lab
	// on SIGTERM, see DownNamed.
	Serve bool
}

// ClusterOptions describes one cluster.
type ClusterOptions struct {
	// Name of the cluster and of its contexts NAME and NAME-direct.
	Name string
	// Simulated nodes, by group.
	Simulated []NodeGroup
	// Real is the number of real nodes; more than 0 needs root.
	Real int
	// Metrics runs metrics-server beside the cluster, so that metrics.k8s.io
	// answers (`kubectl top`, a HorizontalPodAutoscaler on CPU). It asks all
	// nodes but simulated ones, which have no kubelet.
	Metrics bool
	// PodCIDR and ServiceCIDR default to 10.(100+i).0.0/16 and
	// 10.(200+i).0.0/16 for cluster number i. Two clusters may overlap.
	PodCIDR, ServiceCIDR string
}

// NodeGroup is a number of equal simulated nodes, named PREFIX-1, PREFIX-2, …
type NodeGroup struct {
	// Prefix defaults to CLUSTER-node, with the group's number from the second
	// group on.
	Prefix string
	Count  int
	// Capacity defaults to 32 CPUs, 128Gi and 250 pods; given keys win.
	Capacity corev1.ResourceList
	Labels   map[string]string
	Taints   []corev1.Taint
}

// DefaultClusters gives the clusters east and west with n simulated nodes each.
func DefaultClusters(n int) []ClusterOptions {
	group := []NodeGroup{{Count: n}}
	return []ClusterOptions{{Name: "east", Simulated: group}, {Name: "west", Simulated: group}}
}

// maxClusters is what the default address ranges leave room for.
const maxClusters = 50

var (
	// ErrInvalid is wrapped by every error about bad options: nothing was made.
	ErrInvalid = errors.New("invalid lab options")
	// ErrExists says that a lab of this name runs already.
	ErrExists = errors.New("a lab of this name runs already")
	// ErrNotFound says that there is no lab of this name.
	ErrNotFound = errors.New("no such lab")

	validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$`)
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// withDefaults fills in what was left empty and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Name == "" {
		o.Name = randomName()
	}
	if !validName.MatchString(o.Name) {
		return o, invalid("name %q: use at most 20 of a-z, 0-9 and '-'", o.Name)
	}
	if len(o.Clusters) == 0 {
		o.Clusters = DefaultClusters(2)
	}
	if len(o.Clusters) > maxClusters {
		return o, invalid("%d clusters: at most %d", len(o.Clusters), maxClusters)
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	clusters := make([]ClusterOptions, len(o.Clusters))
	seen := map[string]bool{}
	for i, c := range o.Clusters {
		c, err := c.withDefaults(i)
		if err != nil {
			return o, err
		}
		if seen[c.Name] {
			return o, invalid("two clusters are named %q", c.Name)
		}
		if o.InCluster && c.Real == 0 {
			return o, invalid("cluster %s has no real node to run Spillway on", c.Name)
		}
		seen[c.Name] = true
		clusters[i] = c
	}
	o.Clusters = clusters
	return o, nil
}

func (c ClusterOptions) withDefaults(i int) (ClusterOptions, error) {
	if c.Name == "" {
		c.Name = fmt.Sprintf("cluster-%d", i+1)
	}
	if !validName.MatchString(c.Name) {
		return c, invalid("cluster name %q: use at most 20 of a-z, 0-9 and '-'", c.Name)
	}
	if c.PodCIDR == "" {
		c.PodCIDR = fmt.Sprintf("10.%d.0.0/16", 100+i)
	}
	if c.ServiceCIDR == "" {
		c.ServiceCIDR = fmt.Sprintf("10.%d.0.0/16", 200+i)
	}
	for _, cidr := range []string{c.PodCIDR, c.ServiceCIDR} {
		if p, err := netip.ParsePrefix(cidr); err != nil || !p.Addr().Is4() || p != p.Masked() {
			return c, invalid("cluster %s: %q is not an IPv4 range such as 10.100.0.0/16", c.Name, cidr)
		}
	}
	if c.Real < 0 {
		return c, invalid("cluster %s: %d real nodes", c.Name, c.Real)
	}
	groups := make([]NodeGroup, len(c.Simulated))
	for g, group := range c.Simulated {
		if group.Count < 0 {
			return c, invalid("cluster %s: %d nodes", c.Name, group.Count)
		}
		groups[g] = group.withDefaults(c.Name, g)
	}
	c.Simulated = groups
	return c, nil
}

func (g NodeGroup) withDefaults(cluster string, i int) NodeGroup {
	if g.Prefix == "" {
		g.Prefix = cluster + "-node"
		if i > 0 {
			g.Prefix = fmt.Sprintf("%s%d", g.Prefix, i+1)
		}
	}
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("32"),
		corev1.ResourceMemory: resource.MustParse("128Gi"),
		corev1.ResourcePods:   resource.MustParse("250"),
	}
	for k, v := range g.Capacity {
		capacity[k] = v
	}
	g.Capacity = capacity
	return g
}

func (o Options) wantsMetrics() bool {
	return slices.ContainsFunc(o.Clusters, func(c ClusterOptions) bool { return c.Metrics })
}

func (c ClusterOptions) simulatedCount() int {
	n := 0
	for _, g := range c.Simulated {
		n += g.Count
	}
	return n
}

func randomName() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return "lab-" + hex.EncodeToString(b)
}
