package realnode

import (
	"fmt"
	"path"
	"time"

	"github.com/spillway-dev/spillway/e2e/lab/realnode/nodespec"
)

// Names of a node's components, for KillComponent and RestartComponent.
const (
	Containerd = "containerd"
	Kubelet    = "kubelet"
	KubeProxy  = "kube-proxy"
)

// Images that every node has. Pods use them with imagePullPolicy Never (or IfNotPresent).
const (
	// AppImage is the test program, see images/app.
	AppImage = "spillway.dev/lab/app:v1"
	// DNSImage is CoreDNS, PauseImage holds the namespaces of pods.
	DNSImage   = "spillway.dev/lab/coredns:v1"
	PauseImage = "spillway.dev/lab/pause:v1"
)

// SyncFrequency is how often the kubelets of the lab look at a pod again without a cause, so also how soon a changed ConfigMap or
// Secret is in the files of a running pod: after SyncFrequency plus up to half of it (the jitter of kubelet's pod workers) plus the
// second between two looks into their queue. Kubelet's own default, a minute, makes every test of mounted files wait for 91 s.
const SyncFrequency = 10 * time.Second

// clusterDomain is the DNS suffix of the clusters' Services.
const clusterDomain = "cluster.local"

// inNode is the node path of a file of the node's directory.
func inNode(name string) string { return path.Join(nodespec.DirInNode, name) }

// criSocket is where kubelet finds containerd, on each node.
const criSocket = "/run/containerd/containerd.sock"

// containerdConfig: restrict_oom_score_adj, because without CAP_SYS_RESOURCE runc cannot lower its score and dies.
func containerdConfig(snapshotter string) string {
	return fmt.Sprintf(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
  address = %q

[plugins."io.containerd.cri.v1.images"]
  snapshotter = %q
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = %q

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [%q]
    conf_dir = %q
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = %q
        SystemdCgroup = false
`, criSocket, snapshotter, PauseImage, nodespec.CNIInNode, inNode("cni.d"), path.Join(nodespec.BinInNode, "runc"))
}

// kubeletConfig: a log is not cut in two before a bench has read it. The eviction and garbage collection limits are those of a developer's full disk; oomScoreAdj 0 because lowering it
// takes CAP_SYS_RESOURCE.
func kubeletConfig(c ClusterPlan, n NodePlan, maxPods int32) string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: %[1]s
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %[2]s}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
clusterDNS: [%[3]s]
clusterDomain: %[4]s
containerLogMaxSize: 256Mi
containerRuntimeEndpoint: unix://%[5]s
evictionHard: {memory.available: 100Mi, nodefs.available: 1%%, nodefs.inodesFree: 1%%, imagefs.available: 1%%}
failCgroupV1: false
failSwapOn: false
healthzBindAddress: 127.0.0.1
imageGCHighThresholdPercent: 100
kubeAPIBurst: 400
kubeAPIQPS: 200
makeIPTablesUtilChains: false
maxPods: %[6]d
oomScoreAdj: 0
podCIDR: %[7]s
resolvConf: /etc/resolv.conf
serializeImagePulls: false
syncFrequency: %[10]s
tlsCertFile: %[8]s
tlsPrivateKeyFile: %[9]s
volumePluginDir: /var/lib/kubelet/volume-plugins
`, n.Addr, inNode("pki/ca.crt"), c.DNS, clusterDomain, criSocket, maxPods, n.PodCIDR, inNode("pki/serving.crt"), inNode("pki/serving.key"),
		SyncFrequency)
}

// proxyConfig: conntrack limits stay as they are, they belong to the machine. Endpoints are followed within 0.1 s instead of 1 s.
func proxyConfig(c ClusterPlan, n NodePlan) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %s}
clusterCIDR: %s
conntrack: {maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
hostnameOverride: %s
metricsBindAddress: 127.0.0.1:10249
mode: nftables
nftables: {minSyncPeriod: 100ms}
oomScoreAdj: 0
`, inNode("proxy.kubeconfig"), c.PodCIDR, n.Name)
}

// cniConfig: no masquerading here, see masqueradeRules.
func cniConfig(n NodePlan) string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "isDefaultGateway": true,
      "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "dataDir": "/var/lib/cni/networks"}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables", "snat": true}
  ]
}
`, n.PodCIDR)
}

// masqueradeRules hide pods behind their node where the network outside does not know them. Inside the cluster, and on other devices
// than the node's own (a tunnel), pods keep their addresses.
func masqueradeRules(c ClusterPlan, n NodePlan) string {
	return fmt.Sprintf(`table ip lab
delete table ip lab
table ip lab {
  chain leaving {
    type nat hook postrouting priority srcnat
    oifname %q ip saddr %s ip daddr != %s masquerade
  }
}
`, nodeDevice, n.PodCIDR, c.PodCIDR)
}

// nodeKubeconfig: name is that of the certificate's files, NAME.crt and NAME.key.
func nodeKubeconfig(server, name string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: %q, certificate-authority: %s}}]
users: [{name: node, user: {client-certificate: %s, client-key: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: node}}]
current-context: lab
`, server, inNode("pki/ca.crt"), inNode("pki/"+name+".crt"), inNode("pki/"+name+".key"))
}

// hostsFile and the empty resolv.conf are the node's: nobody outside the lab is to be found.
func hostsFile(c ClusterPlan) string {
	text := "127.0.0.1 localhost\n::1 localhost\n"
	for _, other := range c.Nodes {
		text += fmt.Sprintf("%s %s\n", other.Addr, other.Name)
	}
	return text
}

// shadowedSysctls are those that kubelet sets for the whole machine, with the values it wants to find.
func shadowedSysctls() map[string]string {
	return map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
	}
}

// networkSysctls are per network namespace: forward, and accept packets that come another way than they would go, as tunnels do.
func networkSysctls() map[string]string {
	return map[string]string{
		"net/ipv4/ip_forward":             "1",
		"net/ipv4/conf/all/rp_filter":     "0",
		"net/ipv4/conf/default/rp_filter": "0",
	}
}

// components are what a node runs. kubelet and kube-proxy wait for the API server: their informers would otherwise back off for
// seconds.
func components(n NodePlan) []nodespec.Component {
	bin := func(name string) string { return path.Join(nodespec.BinInNode, name) }
	return []nodespec.Component{
		{Name: Containerd, Args: []string{bin(Containerd), "--config=" + inNode("containerd.toml"), "--log-level=warn"}},
		{Name: Kubelet, After: nodespec.PhaseAPI, Args: []string{
			bin(Kubelet),
			"--config=" + inNode("kubelet.yaml"),
			"--kubeconfig=" + inNode("kubelet.kubeconfig"),
			"--hostname-override=" + n.Name,
			"--node-ip=" + n.Addr.String(),
			"--root-dir=/var/lib/kubelet",
		}},
		{Name: KubeProxy, After: nodespec.PhaseAPI, Args: []string{bin(KubeProxy), "--config=" + inNode("proxy.yaml")}},
	}
}
