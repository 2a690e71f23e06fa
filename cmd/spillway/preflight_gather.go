package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// preflight looks at the cluster and stops the installation when something stands in its way.
func (i *installRun) preflight(ctx context.Context) error {
	f, err := i.gather(ctx)
	if err != nil {
		return err
	}
	i.facts = f
	if i.wish.skipPreflight {
		return nil
	}
	i.findings = judgeFacts(f)
	var bad []string
	for _, finding := range i.findings {
		switch finding.Level {
		case levelOK:
			i.steps.ok("preflight: "+finding.Check, finding.What)
		case levelWarning:
			i.steps.ok("preflight: "+finding.Check, "warning")
			i.steps.note("%s", finding)
		default:
			i.steps.failed("preflight: " + finding.Check)
			bad = append(bad, finding.String())
		}
	}
	if len(bad) == 0 {
		return nil
	}
	i.steps.note("Whether the nodes can pull the image was not checked.")
	return problemf("Mend this, or repeat the command with --skip-preflight.", "%s is not fit for Spillway:\n  - %s", i.home.title(), strings.Join(bad, "\n  - "))
}

// gather reads what preflight judges and what the choice of gateways needs. What the user may not see is noted, and nothing
// more: the deed itself will tell.
func (i *installRun) gather(ctx context.Context) (facts, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*reachTimeout)
	defer cancel()
	g := &gathering{cluster: i.home, facts: facts{withAgents: !i.wish.noTunnel && agentsWanted(i.values), ports: agentPorts(i.values),
		namespaces: map[string]corev1.Namespace{}}}
	if i.had != nil {
		g.facts.release, g.facts.revision, g.facts.releasedAs = string(i.had.Info.Status), i.had.Version, i.had.Chart.Metadata.Version
	}
	reads := map[string]func(context.Context) error{
		"read the version": g.readVersion, "ask for your rights": g.readRights, "list nodes": g.readNodes, "list DaemonSets": g.readDaemonSets,
		"list Services": g.readServices, "list ServiceCIDRs": g.readRanges, "read namespaces": g.readNamespaces, "look for leftovers": g.readLeftovers,
		"look for other releases": g.readOtherReleases,
	}
	var group sync.WaitGroup
	for deed, read := range reads {
		group.Go(func() { g.ended(deed, read(ctx)) })
	}
	group.Wait()
	g.facts.said(i.values)
	slices.Sort(g.facts.unread)
	slices.Sort(g.facts.networks)
	g.facts.networks = slices.Compact(g.facts.networks)
	return g.facts, g.err
}

// said puts the ranges that the values name in the place of those that were found.
func (f *facts) said(values map[string]any) {
	network, _ := values["network"].(map[string]any)
	ranges := func(name string, otherwise []netip.Prefix) []netip.Prefix {
		texts, _ := network[name].([]any)
		var named []netip.Prefix
		for _, text := range texts {
			if parsed, err := netip.ParsePrefix(fmt.Sprint(text)); err == nil {
				named = append(named, parsed)
			}
		}
		if len(named) == 0 {
			return otherwise
		}
		return named
	}
	pools := []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("240.0.0.0/4")}
	f.podRanges, f.services, f.aliasPools = ranges("podRanges", f.podRanges), ranges("serviceRanges", f.services), ranges("aliasPools", pools)
}

// agentsWanted says whether values leave the agents in.
func agentsWanted(values map[string]any) bool {
	node, _ := values["node"].(map[string]any)
	enabled, said := node["enabled"].(bool)
	return !said || enabled
}

// gathering is the reading of facts, several at once.
type gathering struct {
	cluster *cluster

	mu    sync.Mutex // guards what is below
	facts facts
	err   error
}

func (g *gathering) ended(deed string, err error) {
	if err == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if apierrors.IsForbidden(err) {
		g.facts.unread = append(g.facts.unread, "you may not "+deed+", so that is not checked")
		return
	}
	g.err = explain(g.cluster, deed, err)
}

// note changes the facts.
func (g *gathering) note(change func(*facts)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(&g.facts)
}

func (g *gathering) readVersion(ctx context.Context) error {
	data, err := g.cluster.get(ctx, "/version")
	if err != nil {
		return err
	}
	var answer struct {
		GitVersion string `json:"gitVersion"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return fmt.Errorf("decode the version: %w", err)
	}
	g.note(func(f *facts) { f.version = answer.GitVersion })
	return nil
}

// chartRights are the rights to make what the chart has.
func chartRights() []right {
	kinds := []right{
		{"", "", "namespaces", ""}, {"", "apiextensions.k8s.io", "customresourcedefinitions", ""},
		{"", "rbac.authorization.k8s.io", "clusterroles", ""}, {"", "rbac.authorization.k8s.io", "clusterrolebindings", ""},
		{"", "rbac.authorization.k8s.io", "rolebindings", metav1.NamespaceSystem}, {"", "rbac.authorization.k8s.io", "roles", metav1.NamespaceSystem},
		{"", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", ""}, {"", "admissionregistration.k8s.io", "validatingadmissionpolicies", ""},
		{"", "scheduling.k8s.io", "priorityclasses", ""}, {"", "storage.k8s.io", "storageclasses", ""}, {"", "storage.k8s.io", "csidrivers", ""},
		{"", "", "secrets", v1alpha1.SystemNamespace}, {"", "apps", "deployments", v1alpha1.SystemNamespace}, {"", "", "services", v1alpha1.SystemNamespace},
		{"", "policy", "poddisruptionbudgets", v1alpha1.SystemNamespace}, {"", "apps", "daemonsets", nodeNamespace},
	}
	var rights []right
	for _, kind := range kinds {
		kind.verb = "create"
		rights = append(rights, kind)
	}
	return append(rights, right{"escalate", "rbac.authorization.k8s.io", "clusterroles", ""}, right{"patch", "", "nodes", ""})
}

// readRights asks which rights the user lacks. Who may not escalate may still have each right of the chart himself, so that is only
// asked when the rest is lacking something too.
func (g *gathering) readRights(ctx context.Context) error {
	wanted := chartRights()
	missing := make([]bool, len(wanted))
	errs := make([]error, len(wanted))
	var group sync.WaitGroup
	for i, r := range wanted {
		group.Go(func() { missing[i], errs[i] = lacks(ctx, g.cluster, r) })
	}
	group.Wait()
	var names []string
	for i, r := range wanted {
		if errs[i] != nil {
			return errs[i]
		}
		if missing[i] && r.verb != "escalate" {
			names = append(names, r.String())
		}
	}
	g.note(func(f *facts) { f.missing = names })
	return nil
}

func (g *gathering) readNodes(ctx context.Context) error {
	list, err := g.cluster.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	g.note(func(f *facts) {
		f.nodes = list.Items
		for _, node := range realNodes(list.Items) {
			for _, text := range node.Spec.PodCIDRs {
				if parsed, err := netip.ParsePrefix(text); err == nil {
					f.podRanges = append(f.podRanges, parsed)
				}
			}
		}
	})
	return nil
}

// readDaemonSets looks for CNIs, and for ports of the host that others have.
func (g *gathering) readDaemonSets(ctx context.Context) error {
	list, err := g.cluster.kube.AppsV1().DaemonSets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var names []string
	var ports []takenPort
	for i := range list.Items {
		set := &list.Items[i]
		if set.Namespace == nodeNamespace && set.Name == agentName {
			continue
		}
		names = append(names, set.Name)
		holder := fmt.Sprintf("DaemonSet %s/%s", set.Namespace, set.Name)
		ports = append(ports, hostPortsOf(&set.Spec.Template.Spec, holder, g.facts.ports)...)
	}
	g.note(func(f *facts) { f.networks, f.hostPorts = append(f.networks, names...), ports })
	return nil
}

// hostPortsOf are the ports of nodes that pods of this kind take and that the agents need.
func hostPortsOf(pod *corev1.PodSpec, holder string, needed map[int32]string) []takenPort {
	var ports []takenPort
	for _, container := range pod.Containers {
		for _, port := range container.Ports {
			number := port.HostPort
			if number == 0 && pod.HostNetwork {
				number = port.ContainerPort
			}
			if _, is := needed[number]; is {
				ports = append(ports, takenPort{number, port.Protocol, holder})
			}
		}
	}
	return ports
}

// readServices looks for node ports that the agents need. Spillway's own lead to its gateways.
func (g *gathering) readServices(ctx context.Context) error {
	list, err := g.cluster.kube.CoreV1().Services(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var ports []takenPort
	for i := range list.Items {
		service := &list.Items[i]
		for _, port := range service.Spec.Ports {
			if _, needed := g.facts.ports[port.NodePort]; needed && service.Namespace != v1alpha1.SystemNamespace {
				ports = append(ports, takenPort{port.NodePort, port.Protocol, fmt.Sprintf("Service %s/%s", service.Namespace, service.Name)})
			}
		}
	}
	g.note(func(f *facts) { f.nodePorts = ports })
	return nil
}

func (g *gathering) readRanges(ctx context.Context) error {
	list, err := g.cluster.kube.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil // too old for it
	}
	if err != nil {
		return err
	}
	g.note(func(f *facts) {
		for i := range list.Items {
			for _, text := range list.Items[i].Spec.CIDRs {
				if parsed, err := netip.ParsePrefix(text); err == nil {
					f.services = append(f.services, parsed)
				}
			}
		}
	})
	return nil
}

func (g *gathering) readNamespaces(ctx context.Context) error {
	for _, name := range []string{v1alpha1.SystemNamespace, nodeNamespace} {
		namespace, err := g.cluster.kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		g.note(func(f *facts) { f.namespaces[name] = *namespace })
	}
	return nil
}

// readLeftovers looks for what says that Spillway was here: its kinds, its roles, its webhook.
func (g *gathering) readLeftovers(ctx context.Context) error {
	for _, known := range []struct{ path, name string }{
		{"/apis/" + v1alpha1.GroupVersion.String(), "CRDs"},
		{"/apis/rbac.authorization.k8s.io/v1/clusterroles/spillwayd", "ClusterRole spillwayd"},
		{"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/" + v1alpha1.WebhookName, "MutatingWebhookConfiguration " + v1alpha1.WebhookName},
		{"/apis/apps/v1/namespaces/" + v1alpha1.SystemNamespace + "/deployments/" + controllerName, "Deployment " + controllerName},
	} {
		_, err := g.cluster.get(ctx, known.path)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		g.note(func(f *facts) { f.leftovers = append(f.leftovers, known.name) })
	}
	return nil
}

// readOtherReleases looks for releases of Spillway under another name or in another namespace.
func (g *gathering) readOtherReleases(ctx context.Context) error {
	list, err := g.cluster.kube.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + releaseName})
	if err != nil {
		return err
	}
	for i := range list.Items {
		owner := list.Items[i].Annotations
		release := owner["meta.helm.sh/release-namespace"] + "/" + owner["meta.helm.sh/release-name"]
		if release != "/" && release != v1alpha1.SystemNamespace+"/"+releaseName {
			g.note(func(f *facts) { f.otherRelease = append(f.otherRelease, release) })
		}
	}
	return nil
}
