package realnode

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

var update = flag.Bool("update", false, "write the golden files")

func testConfig() Config {
	return Config{Lab: "demo", Dir: "/var/tmp/labs/demo/real", Clusters: []Cluster{
		{
			Name: "east", Nodes: make([]Node, 2),
			PodCIDR: netip.MustParsePrefix("10.100.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.200.0.0/16"),
		}, {
			Name: "west", Nodes: []Node{{Name: "big"}},
			PodCIDR: netip.MustParsePrefix("10.100.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.201.0.0/16"),
		},
	}}
}

func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "machine: %s in %s, router %s = %s\n", p.Uplink, p.Transfer, p.UplinkPeer, p.RouterAddr)
	for _, c := range p.Clusters {
		fmt.Fprintf(&b, "%s: API server %s, nodes %s, router %s = %s, pods %s, services %s, DNS %s\n",
			c.Name, c.APIServer, c.NodeRange, c.Bridge, c.Gateway, c.PodCIDR, c.ServiceCIDR, c.DNS)
		for _, n := range c.Nodes {
			fmt.Fprintf(&b, "  %s: %s at %s, pods %s\n", n.Name, n.Addr, n.Port, n.PodCIDR)
		}
	}
	return b.String()
}

func mustPlan(t *testing.T, cfg Config, used ...netip.Prefix) Plan {
	t.Helper()
	plan, err := NewPlan(cfg, used)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

// golden compares files with those in the archive testdata/NAME.txtar.
func golden(t *testing.T, name string, files map[string]string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txtar")
	if *update {
		var a txtar.Archive
		for _, name := range slices.Sorted(maps.Keys(files)) {
			a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(files[name])})
		}
		if err := os.WriteFile(path, txtar.Format(&a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, f := range a.Files {
		want[f.Name] = string(f.Data)
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("-want +got (go test -update writes them):\n%s", diff)
	}
}

func TestNewPlan_Golden(t *testing.T) {
	golden(t, "plan", map[string]string{"plan": mustPlan(t, testConfig()).String()})
}

func TestNewPlan_AvoidsUsedRanges(t *testing.T) {
	first := mustPlan(t, testConfig())
	second := mustPlan(t, testConfig(), first.Block)
	if second.Block.Overlaps(first.Block) {
		t.Errorf("block %s overlaps the used %s", second.Block, first.Block)
	}
	elsewhere := mustPlan(t, testConfig(), pools()[0])
	if !pools()[1].Contains(elsewhere.Block.Addr()) {
		t.Errorf("block %s is not in %s", elsewhere.Block, pools()[1])
	}
	if _, err := NewPlan(testConfig(), pools()); !errors.Is(err, ErrInvalid) {
		t.Errorf("with everything used: got %v", err)
	}
	own := testConfig()
	own.Clusters[0].PodCIDR = first.Block
	if p := mustPlan(t, own); p.Block.Overlaps(first.Block) {
		t.Errorf("block %s overlaps the cluster's own pods", p.Block)
	}
}

func TestNewPlan_TwoLabsDiffer(t *testing.T) {
	a, b := testConfig(), testConfig()
	b.Lab, b.Dir = "other", "/var/tmp/labs/other/real"
	if mustPlan(t, a).Uplink == mustPlan(t, b).Uplink {
		t.Error("two labs have the same device on the machine")
	}
	if groupName(a.Lab, a.Dir) == groupName(b.Lab, b.Dir) {
		t.Error("two labs have the same cgroup")
	}
}

// TestNewPlan_Unique checks a plan of the largest size: every address once, ranges apart, names as the kernel takes them.
func TestNewPlan_Unique(t *testing.T) {
	cfg := Config{Lab: strings.Repeat("x", 20), Dir: "/d"}
	for i := range 50 {
		cfg.Clusters = append(cfg.Clusters, Cluster{
			Name: fmt.Sprintf("c%d", i), Nodes: make([]Node, 50),
			PodCIDR:     netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 100+i)),
			ServiceCIDR: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 200+i)),
		})
	}
	plan := mustPlan(t, cfg)
	seen := map[any]bool{plan.RouterAddr: true}
	once := func(values ...any) {
		for _, v := range values {
			if seen[v] {
				t.Errorf("%v is there twice", v)
			}
			seen[v] = true
		}
	}
	for _, c := range plan.Clusters {
		once(c.APIServer, c.Gateway, c.Bridge, c.NodeRange)
		if !plan.Transfer.Contains(c.APIServer) || c.NodeRange.Overlaps(plan.Transfer) || !plan.Block.Overlaps(c.NodeRange) {
			t.Errorf("%s: API server %s and nodes %s do not fit in", c.Name, c.APIServer, c.NodeRange)
		}
		for _, n := range c.Nodes {
			once(n.Addr, n.PodCIDR, n.Port, n.Name)
			if !c.NodeRange.Contains(n.Addr) || !c.PodCIDR.Overlaps(n.PodCIDR) || len(n.Port) > 15 {
				t.Errorf("%s: %+v does not fit in", c.Name, n)
			}
		}
	}
	if len(plan.Uplink) > 15 {
		t.Errorf("device name %s is too long", plan.Uplink)
	}
}

func TestNewPlan_Invalid(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no name", func(c *Config) { c.Lab = "" }, "no name"},
		{"no pod range", func(c *Config) { c.Clusters[0].PodCIDR = netip.Prefix{} }, "not an IPv4 range"},
		{"IPv6", func(c *Config) { c.Clusters[0].PodCIDR = netip.MustParsePrefix("fd00::/48") }, "not an IPv4 range"},
		{"host bits set", func(c *Config) { c.Clusters[0].PodCIDR = netip.MustParsePrefix("10.1.2.3/16") }, "not an IPv4 range"},
		{"pods in services", func(c *Config) { c.Clusters[0].PodCIDR = c.Clusters[0].ServiceCIDR }, "overlap"},
		{"small range", func(c *Config) { c.Clusters[0].PodCIDR = netip.MustParsePrefix("10.1.0.0/26") }, "too small"},
		{"more nodes than ranges", func(c *Config) {
			c.Clusters[0].PodCIDR, c.Clusters[0].Nodes = netip.MustParsePrefix("10.1.0.0/20"), make([]Node, 17)
		}, "too small"},
		{"many nodes", func(c *Config) { c.Clusters[0].Nodes = make([]Node, 60) }, "too many"},
		{"many clusters", func(c *Config) { c.Clusters = make([]Cluster, 61) }, "too many"},
		{"same node name", func(c *Config) { c.Clusters[1].Nodes[0].Name = "east-real-1" }, "two nodes are named"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			tt.change(&cfg)
			_, err := NewPlan(cfg, nil)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(fmt.Sprint(err), tt.want) {
				t.Errorf("got %v, want ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func TestNodeFiles_Golden(t *testing.T) {
	c := mustPlan(t, testConfig()).Clusters[0]
	n := c.Nodes[1]
	var commands strings.Builder
	for _, p := range components(n) {
		fmt.Fprintf(&commands, "%s, after %q: %s\n", p.Name, p.After, strings.Join(p.Args, " "))
	}
	golden(t, "node", map[string]string{
		"containerd.toml":     containerdConfig("overlayfs"),
		"kubelet.yaml":        kubeletConfig(c, n, 110),
		"proxy.yaml":          proxyConfig(c, n),
		"cni.d/pods.conflist": cniConfig(n),
		"masquerade.nft":      masqueradeRules(c, n),
		"kubelet.kubeconfig":  nodeKubeconfig("https://198.18.0.2:6443", "kubelet"),
		"hosts":               hostsFile(c),
		"components":          commands.String(),
	})
}

const hybrid = `24 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
30 24 0:26 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:29 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset,clone_children
33 30 0:35 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd
34 30 0:36 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
35 24 0:27 / /mnt/again rw,relatime - cgroup cgroup rw,cpu,cpuacct
`

func TestParseHierarchies(t *testing.T) {
	tests := []struct {
		name, mounts string
		want         []nodespec.Cgroup
	}{
		{"hybrid", hybrid, []nodespec.Cgroup{
			{Mount: "/sys/fs/cgroup/cpu,cpuacct", Options: "cpu,cpuacct", Group: "g"},
			{Mount: "/sys/fs/cgroup/cpuset", Options: "cpuset", Group: "g"},
			{Mount: "/sys/fs/cgroup/systemd", Options: "name=systemd", Group: "g"},
			{Mount: "/sys/fs/cgroup/unified", Group: "g"},
		}},
		{"v2", "29 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", []nodespec.Cgroup{
			{Mount: "/sys/fs/cgroup", Group: "g"},
		}},
		{"none", "24 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseHierarchies(strings.NewReader(tt.mounts), "g")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLackingControllers(t *testing.T) {
	if got := lackingControllers("cpu io memory pids\n"); !slices.Equal(got, []string{"cpuset"}) {
		t.Errorf("got %v", got)
	}
}

func TestClean_RefusesDangerousDirectories(t *testing.T) {
	for _, dir := range []string{"", "/", "relative"} {
		if err := Clean(t.Context(), "lab", dir); !errors.Is(err, ErrInvalid) {
			t.Errorf("Clean in %q: got %v", dir, err)
		}
	}
}

func TestOpen_NothingThere(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
}
