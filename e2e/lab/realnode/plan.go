package realnode

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// ErrInvalid marks a Config that cannot work; the message says what to change.
var ErrInvalid = errors.New("invalid configuration of real nodes")

// Config is what the user wants. It is only read.
type Config struct {
	// Lab is the lab's name; it is in the mark of every process and in the names of groups and devices.
	Lab string
	// Dir is the absolute path of a directory for the nodes alone, on a file system that can hold an overlay (ext4, xfs). It is made
	// by Reserve and removed by Clean.
	Dir      string
	Clusters []Cluster
}

// Cluster is one cluster's part of a Config.
type Cluster struct {
	Name  string
	Nodes []Node
	// PodCIDR and ServiceCIDR are IPv4 ranges; clusters may overlap.
	PodCIDR, ServiceCIDR netip.Prefix
}

// Node is one real node.
type Node struct {
	// Name defaults to CLUSTER-real-NUMBER, counting from 1. Unique in the lab.
	Name   string
	Labels map[string]string
	Taints []corev1.Taint
	// MaxPods defaults to 110.
	MaxPods int32
}

// Plan is every address and device name of a lab. It is a function of the Config and of what the machine uses already.
type Plan struct {
	// Block holds all addresses of the lab that the machine can reach.
	Block netip.Prefix
	// Uplink is the device on the machine, UplinkPeer its other end in the router, Transfer the range between them.
	Uplink, UplinkPeer string
	Transfer           netip.Prefix
	// RouterAddr is the router's address on the uplink.
	RouterAddr netip.Addr
	Clusters   []ClusterPlan
}

// ClusterPlan is one cluster's part of a Plan.
type ClusterPlan struct {
	Name string
	// APIServer is the address, on the machine's end of the uplink, at which nodes and pods of all clusters reach this cluster's API
	// server. The API server advertises it, listens on it and has it in its certificate.
	APIServer netip.Addr
	// Bridge is the device in the router, Gateway its address, NodeRange the range of the nodes' addresses.
	Bridge    string
	Gateway   netip.Addr
	NodeRange netip.Prefix

	PodCIDR, ServiceCIDR netip.Prefix
	// DNS is the address of the cluster's DNS service.
	DNS   netip.Addr
	Nodes []NodePlan
}

// NodePlan is one node's part of a Plan.
type NodePlan struct {
	Name string
	Addr netip.Addr
	// PodCIDR is this node's part of its cluster's range.
	PodCIDR netip.Prefix
	// Port is the node's device in the router; in the node it is eth0.
	Port string
}

const (
	blockBits  = 20 // of a lab: 64 ranges
	rangeBits  = 26 // of the transfer network and of each cluster: 61 nodes
	maxPodBits = 24 // of a node: 254 pods
	firstNode  = 10 // the number of a cluster's first node in its range
	dnsNumber  = 10 // the number of the DNS service in its range, as everywhere
)

// pools are where blocks come from: first the range set aside for network benchmarks (RFC 2544), which nobody routes, then private
// addresses.
func pools() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("172.16.0.0/12")}
}

// NewPlan chooses all addresses and names. It takes the first free block of the pools, beginning at one that depends on the lab's
// name, that overlaps neither used nor the clusters' own ranges. Errors wrap ErrInvalid.
func NewPlan(cfg Config, used []netip.Prefix) (Plan, error) {
	if err := cfg.check(); err != nil {
		return Plan{}, err
	}
	for _, c := range cfg.Clusters {
		used = append(used[:len(used):len(used)], c.PodCIDR, c.ServiceCIDR)
	}
	block, err := freeBlock(cfg.Lab, used)
	if err != nil {
		return Plan{}, err
	}
	transfer := subnet(block, rangeBits, 0)
	plan := Plan{
		Block:      block,
		Uplink:     deviceName(cfg.Lab, cfg.Dir),
		UplinkPeer: "uplink",
		Transfer:   transfer,
		RouterAddr: number(transfer, 1),
	}
	for i, c := range cfg.Clusters {
		cp, err := planCluster(c, i, block)
		if err != nil {
			return Plan{}, err
		}
		cp.APIServer = number(transfer, 2+i)
		plan.Clusters = append(plan.Clusters, cp)
	}
	return plan, nil
}

func planCluster(c Cluster, i int, block netip.Prefix) (ClusterPlan, error) {
	nodes := subnet(block, rangeBits, i+1)
	cp := ClusterPlan{
		Name:        c.Name,
		Bridge:      fmt.Sprintf("br-%d", i),
		Gateway:     number(nodes, 1),
		NodeRange:   nodes,
		PodCIDR:     c.PodCIDR,
		ServiceCIDR: c.ServiceCIDR,
		DNS:         number(c.ServiceCIDR, dnsNumber),
	}
	podBits := max(maxPodBits, c.PodCIDR.Bits()+4)
	if podBits > 28 || len(c.Nodes) > 1<<(podBits-c.PodCIDR.Bits()) {
		return cp, fmt.Errorf("%w: cluster %s: pod range %s is too small for %d nodes: use a /16", ErrInvalid, c.Name, c.PodCIDR, len(c.Nodes))
	}
	if len(c.Nodes) > 1<<(32-rangeBits)-firstNode-1 {
		return cp, fmt.Errorf("%w: cluster %s: %d nodes are too many", ErrInvalid, c.Name, len(c.Nodes))
	}
	for j, n := range c.Nodes {
		cp.Nodes = append(cp.Nodes, NodePlan{
			Name:    n.name(c.Name, j),
			Addr:    number(nodes, firstNode+j),
			PodCIDR: subnet(c.PodCIDR, podBits, j),
			Port:    fmt.Sprintf("node-%d-%d", i, j),
		})
	}
	return cp, nil
}

func (n Node) name(cluster string, j int) string {
	if n.Name != "" {
		return n.Name
	}
	return fmt.Sprintf("%s-real-%d", cluster, j+1)
}

func (cfg Config) check() error {
	switch {
	case cfg.Lab == "":
		return fmt.Errorf("%w: the lab has no name", ErrInvalid)
	case len(cfg.Clusters) > 1<<(rangeBits-blockBits)-4:
		return fmt.Errorf("%w: %d clusters are too many", ErrInvalid, len(cfg.Clusters))
	}
	seen := map[string]bool{}
	for _, c := range cfg.Clusters {
		for _, p := range []netip.Prefix{c.PodCIDR, c.ServiceCIDR} {
			if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() || p.Bits() > 28 {
				return fmt.Errorf("%w: cluster %s: %q is not an IPv4 range such as 10.100.0.0/16", ErrInvalid, c.Name, p)
			}
		}
		if c.PodCIDR.Overlaps(c.ServiceCIDR) {
			return fmt.Errorf("%w: cluster %s: pods %s and services %s overlap", ErrInvalid, c.Name, c.PodCIDR, c.ServiceCIDR)
		}
		for j, n := range c.Nodes {
			name := n.name(c.Name, j)
			if seen[name] {
				return fmt.Errorf("%w: two nodes are named %s", ErrInvalid, name)
			}
			seen[name] = true
		}
	}
	return nil
}

// find gives the cluster's and the node's index of a node's name.
func (p Plan) find(node string) (cluster, index int, err error) {
	for i, c := range p.Clusters {
		for j, n := range c.Nodes {
			if n.Name == node {
				return i, j, nil
			}
		}
	}
	return 0, 0, fmt.Errorf("%w: no real node is named %q", ErrInvalid, node)
}

func freeBlock(lab string, used []netip.Prefix) (netip.Prefix, error) {
	for _, pool := range pools() {
		n := 1 << (blockBits - pool.Bits())
		first := int(hash(lab) % uint32(n))
		for i := range n {
			block := subnet(pool, blockBits, (first+i)%n)
			if !overlapsAny(block, used) {
				return block, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: the machine uses parts of every /%d of %v: free one", ErrInvalid, blockBits, pools())
}

func overlapsAny(p netip.Prefix, used []netip.Prefix) bool {
	for _, u := range used {
		if p.Overlaps(u) {
			return true
		}
	}
	return false
}

// deviceName is unique per lab and within the kernel's 15 characters.
func deviceName(lab, dir string) string {
	return fmt.Sprintf("%s%08x", devicePrefix, hash(lab+" "+dir))
}

// devicePrefix begins the name of every lab's device on the machine.
const devicePrefix = "spill-"

// groupName is the lab's cgroup in each hierarchy; unique per lab.
func groupName(lab, dir string) string {
	return fmt.Sprintf("spillway-lab-%s-%08x", lab, hash(lab+" "+dir))
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// subnet is the i-th range of that many bits in p.
func subnet(p netip.Prefix, bits, i int) netip.Prefix {
	return netip.PrefixFrom(number(p, i<<(32-bits)), bits)
}

// number is the i-th address of p, counting from 0.
func number(p netip.Prefix, i int) netip.Addr {
	a := p.Masked().Addr().As4()
	v := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	v += uint32(i)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}
