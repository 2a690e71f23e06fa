package main

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// realNode is a Ready node with a kernel; edits change it.
func realNode(name string, edits ...func(*corev1.Node)) corev1.Node {
	node := corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			NodeInfo:   corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64", KernelVersion: "6.8.0-45-generic"},
		},
	}
	for _, edit := range edits {
		edit(&node)
	}
	return node
}

func labelled(key, value string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

func kernel(version string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Status.NodeInfo.KernelVersion = version }
}

func notReady(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionFalse }

// fitFacts are those of a cluster that has nothing to complain about.
func fitFacts() facts {
	return facts{
		version: "v1.36.3", withAgents: true, networks: []string{"kube-flannel-ds"}, ports: agentPorts(nil),
		nodes:      []corev1.Node{realNode("a"), realNode("b")},
		podRanges:  []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")},
		services:   []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
		aliasPools: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")},
		namespaces: map[string]corev1.Namespace{},
	}
}

func namespaceOf(name, level string) corev1.Namespace {
	return corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{labelEnforce: level}}}
}

func TestJudgeFacts(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, row := range map[string]struct {
		edit         func(*facts)
		check, level string
		words        []string // parts of what is said
	}{
		"the newest":        {func(*facts) {}, "Kubernetes", levelOK, []string{"v1.36.3"}},
		"the oldest":        {func(f *facts) { f.version = "v1.33.0-eks-1" }, "Kubernetes", levelOK, nil},
		"too old":           {func(f *facts) { f.version = "v1.32.9+k3s1" }, "Kubernetes", levelProblem, []string{"v1.32.9+k3s1 is too old", "Upgrade the cluster to 1.33"}},
		"newer than tested": {func(f *facts) { f.version = "v1.37.0" }, "Kubernetes", levelWarning, []string{"newer than", "1.33 to 1.36"}},
		"a strange version": {func(f *facts) { f.version = "main" }, "Kubernetes", levelWarning, []string{`"main"`}},
		"too few rights":    {func(f *facts) { f.missing = []string{"create clusterroles"} }, "rights", levelProblem, []string{"may not create clusterroles", "administrator"}},
		"a release":         {func(f *facts) { f.release, f.revision, f.releasedAs = "deployed", 3, "0.2.0" }, "release", levelOK, []string{"0.2.0", "revision 3"}},
		"a failed release":  {func(f *facts) { f.release, f.revision = "failed", 3 }, "release", levelWarning, []string{"revision 3 of the release is failed"}},
		"another release":   {func(f *facts) { f.otherRelease = []string{"prod/sw"} }, "release", levelProblem, []string{"prod/sw", "helm uninstall"}},
		"leftovers":         {func(f *facts) { f.leftovers = []string{"CRDs"} }, "release", levelWarning, []string{"CRDs", "taken over"}},
		"leftovers of ours": {func(f *facts) { f.leftovers, f.release = []string{"CRDs"}, "deployed" }, "release", levelOK, nil},
		"a restricted room": {func(f *facts) { f.namespaces[nodeNamespace] = namespaceOf(nodeNamespace, "baseline") }, "namespaces", levelProblem, []string{"baseline", "host network"}},
		"a privileged room": {func(f *facts) { f.namespaces[nodeNamespace] = namespaceOf(nodeNamespace, "privileged") }, "namespaces", levelOK, nil},
		"a lax system room": {func(f *facts) { f.namespaces["spillway-system"] = namespaceOf("spillway-system", "privileged") }, "namespaces", levelWarning, []string{"level privileged"}},
		"a room that goes": {func(f *facts) {
			f.namespaces["spillway-system"] = corev1.Namespace{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: time.Unix(1, 0)}}}
		}, "namespaces", levelProblem, []string{"being deleted"}},
		"no nodes":    {func(f *facts) { f.nodes = nil }, "nodes", levelWarning, []string{"no Linux node"}},
		"one node":    {func(f *facts) { f.nodes = f.nodes[:1] }, "nodes", levelWarning, []string{"one node"}},
		"a sick node": {func(f *facts) { f.nodes = append(f.nodes, realNode("c", notReady)) }, "nodes", levelWarning, []string{"1 node not Ready: c"}},
		"virtual nodes": {func(f *facts) {
			f.nodes = append(f.nodes, realNode("v", notReady, labelled(v1alpha1.LabelPeer, "west")))
		}, "nodes", levelOK, []string{"2 Linux nodes"}},
		"Windows": {func(f *facts) {
			f.nodes = append(f.nodes, realNode("w", func(n *corev1.Node) { n.Status.NodeInfo.OperatingSystem = "windows" }))
		}, "nodes", levelOK, []string{"2 Linux nodes"}},
		"a mainframe": {func(f *facts) {
			f.nodes = append(f.nodes, realNode("z", func(n *corev1.Node) { n.Status.NodeInfo.Architecture = "s390x" }))
		}, "nodes", levelWarning, []string{"z (s390x)", "nodeSelector"}},
		"good kernels":          {func(*facts) {}, "kernels", levelOK, []string{"6.8.0"}},
		"a kernel of 2019":      {func(f *facts) { f.nodes = append(f.nodes, realNode("o", kernel("5.4.0-200-generic"))) }, "kernels", levelWarning, []string{"o (5.4.0-200-generic)", "no WireGuard in the kernel"}},
		"a kernel of 2020":      {func(f *facts) { f.nodes = append(f.nodes, realNode("o", kernel("5.8.1"))) }, "kernels", levelWarning, []string{"o (5.8.1)", "nftables"}},
		"kernels unsaid":        {func(f *facts) { f.nodes = []corev1.Node{realNode("a", kernel(""))} }, "kernels", levelWarning, []string{"1 node does not say"}},
		"Flannel":               {func(*facts) {}, "pod network", levelOK, []string{"Flannel"}},
		"Calico":                {func(f *facts) { f.networks = []string{"calico-node"} }, "pod network", levelWarning, []string{"Calico", "host-local"}},
		"Cilium":                {func(f *facts) { f.networks = []string{"cilium", "cilium-envoy"} }, "pod network", levelWarning, []string{"ipam.mode=kubernetes"}},
		"GKE Dataplane V2":      {func(f *facts) { f.networks = []string{"anetd", "netd"} }, "pod network", levelWarning, []string{"GKE Dataplane V2"}},
		"EKS":                   {func(f *facts) { f.networks = []string{"aws-node"} }, "pod network", levelWarning, []string{"VPC", "--tunnel External"}},
		"an unknown CNI":        {func(f *facts) { f.networks = []string{"my-net"} }, "pod network", levelWarning, []string{"no known CNI"}},
		"good ranges":           {func(*facts) {}, "ranges", levelOK, []string{"pods 10.244.0.0/24; Services 10.96.0.0/12"}},
		"no pod ranges":         {func(f *facts) { f.podRanges = nil }, "ranges", levelWarning, []string{"network.podRanges"}},
		"no Service ranges":     {func(f *facts) { f.services = nil }, "ranges", levelWarning, []string{"network.serviceRanges"}},
		"pods among Services":   {func(f *facts) { f.services = []netip.Prefix{prefix("10.0.0.0/8")} }, "ranges", levelProblem, []string{"10.244.0.0/24 overlaps with the Service range 10.0.0.0/8"}},
		"pods among aliases":    {func(f *facts) { f.podRanges = []netip.Prefix{prefix("100.64.1.0/24")} }, "ranges", levelWarning, []string{"100.64.1.0/24 overlaps with 100.64.0.0/10", "network.aliasPools"}},
		"free ports":            {func(*facts) {}, "ports", levelOK, []string{"5380, 7947, 9640, 51820"}},
		"a port of a node":      {func(f *facts) { f.nodePorts = []takenPort{{51820, corev1.ProtocolUDP, "Service vpn/wg"}} }, "ports", levelProblem, []string{"Service vpn/wg has 51820/UDP (the tunnel)", "network.port"}},
		"a port of the host":    {func(f *facts) { f.hostPorts = []takenPort{{9640, "", "DaemonSet mon/exp"}} }, "ports", levelProblem, []string{"DaemonSet mon/exp has 9640/TCP"}},
		"a port we do not need": {func(f *facts) { f.nodePorts = []takenPort{{30080, "", "Service a/b"}} }, "ports", levelOK, nil},
		"what may not be seen":  {func(f *facts) { f.unread = []string{"you may not list nodes, so that is not checked"} }, "view", levelWarning, []string{"may not list nodes"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := fitFacts()
			row.edit(&f)
			found := findingOf(judgeFacts(f), row.check)
			if found.Level != row.level {
				t.Fatalf("level %q, want %q: %s", found.Level, row.level, found)
			}
			for _, word := range row.words {
				if !strings.Contains(found.String(), word) {
					t.Errorf("%q does not say %q", found, word)
				}
			}
			if found.Level != levelOK && found.Do == "" {
				t.Errorf("%q says not what to do", found)
			}
		})
	}
}

func findingOf(all []preflightFinding, check string) preflightFinding {
	for _, f := range all {
		if f.Check == check {
			return f
		}
	}
	return preflightFinding{}
}

// TestJudgeFacts_Fit shows that a fit cluster has no findings, and that agents are not asked for where there are none.
func TestJudgeFacts_Fit(t *testing.T) {
	for _, f := range judgeFacts(fitFacts()) {
		if f.Level != levelOK {
			t.Errorf("%s: %s", f.Check, f)
		}
	}
	bare := fitFacts()
	bare.withAgents, bare.networks = false, nil
	if f := findingOf(judgeFacts(bare), "pod network"); f.Check != "" {
		t.Errorf("without agents: %s", f)
	}
}

func TestSaid_ValuesBeforeWhatWasFound(t *testing.T) {
	f := fitFacts()
	f.said(map[string]any{"network": map[string]any{"podRanges": []any{"10.1.0.0/16"}, "aliasPools": []any{"198.18.0.0/15"}}})
	if got := joinPrefixes(f.podRanges) + " " + joinPrefixes(f.services) + " " + joinPrefixes(f.aliasPools); got != "10.1.0.0/16 10.96.0.0/12 198.18.0.0/15" {
		t.Error(got)
	}
	ports := agentPorts(map[string]any{"network": map[string]any{"port": int64(4000), "gateways": 2.0}, "node": map[string]any{"httpPort": int64(99)}})
	for _, number := range []int32{4000, 4001, 99, 7947, 5380} {
		if ports[number] == "" {
			t.Errorf("port %d is not needed: %v", number, ports)
		}
	}
}
