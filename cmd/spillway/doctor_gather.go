package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// countFor is how long packets are counted: a handshake without answer is tried again after 5 s.
	countFor = 6 * time.Second
	// agentTimeout bounds one report.
	agentTimeout = 5 * time.Second
	// agentsAtOnce are asked at the same time.
	agentsAtOnce = 16
	nameTimeout  = 3 * time.Second
)

// gather fills in everything but the Peering. What the user may not read is left out.
func (s *sideView) gather(ctx context.Context, c *cluster) error {
	alive, why, err := controllerAlive(ctx, c, false)
	if err != nil {
		return err
	}
	if !alive {
		s.idle = why
	}
	list, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain(c, "list nodes", err)
	}
	s.nodes = nil
	for i := range list.Items {
		if _, virtual := list.Items[i].Labels[v1alpha1.LabelPeer]; !virtual {
			s.nodes = append(s.nodes, viewNode(&list.Items[i]))
		}
	}
	slices.SortFunc(s.nodes, func(a, b nodeView) int { return strings.Compare(a.name, b.name) })
	s.networks = findCNI(ctx, c)
	s.names = resolve(ctx, s.peering)
	if modeOf(s.peering) == v1alpha1.TunnelModeTunnel {
		s.ask(ctx, c)
	}
	return nil
}

func viewNode(n *corev1.Node) nodeView {
	v := nodeView{name: n.Name, kernel: n.Status.NodeInfo.KernelVersion, podCIDRs: n.Spec.PodCIDRs}
	_, v.gateway = n.Labels[v1alpha1.LabelGateway]
	for _, c := range n.Status.Conditions {
		v.ready = v.ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	return v
}

// ask reads the reports of all agents of c.
func (s *sideView) ask(ctx context.Context, c *cluster) {
	var group sync.WaitGroup
	turn := make(chan struct{}, agentsAtOnce)
	for i := range s.nodes {
		group.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			node := &s.nodes[i]
			node.report, node.why = readReport(ctx, c, node.name)
		})
	}
	group.Wait()
}

// readReport asks the agent of a node through the API server. why is set when it does not answer.
func readReport(ctx context.Context, c *cluster, node string) (report *nodeReport, why string) {
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	data, err := c.get(ctx, fmt.Sprintf("/api/v1/nodes/%s:%d/proxy/report", node, agentPort))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Sprintf("no answer within %s", agentTimeout)
	case err != nil:
		return nil, refusal(data, err)
	}
	report = &nodeReport{}
	if err := json.Unmarshal(data, report); err != nil {
		return nil, fmt.Sprintf("what answers is no agent of this version: %s", err)
	}
	return report, ""
}

// refusal is what an API server said with an error: the client leaves what it does not read as an object in the body.
func refusal(body []byte, err error) string {
	var status metav1.Status
	if json.Unmarshal(body, &status) == nil && status.Message != "" {
		return status.Message
	}
	return serverWords(err)
}

// anyDown says whether a path is not up, so that it is worth to count packets.
func (in inspection) anyDown() bool {
	for _, s := range in.sides {
		for _, n := range s.nodes {
			if n.report != nil && slices.ContainsFunc(n.report.Paths, func(p pathReport) bool { return p.Peer == s.peering.Name && !p.Up }) {
				return true
			}
		}
	}
	return false
}

// count replaces the bytes of all paths by those of the next countFor: what passed long ago says nothing of now.
func (in *inspection) count(ctx context.Context, clusters []*cluster) error {
	type key struct {
		side, slot int
		peer, node string
	}
	before := map[key]pathReport{}
	each := func(do func(key, *pathReport)) {
		for i, s := range in.sides {
			for _, n := range s.nodes {
				if n.report == nil {
					continue
				}
				for j := range n.report.Paths {
					path := &n.report.Paths[j]
					do(key{i, path.Slot, path.Peer, n.name}, path)
				}
			}
		}
	}
	each(func(k key, p *pathReport) { before[k] = *p })
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(countFor):
	}
	for i, c := range clusters {
		in.sides[i].ask(ctx, c)
	}
	each(func(k key, p *pathReport) {
		if old, ok := before[k]; ok && old.RxBytes <= p.RxBytes && old.TxBytes <= p.TxBytes {
			p.RxBytes -= old.RxBytes
			p.TxBytes -= old.TxBytes
		}
	})
	return nil
}

// findCNI names what seems to make the pod network of c: DaemonSets that are known for it.
func findCNI(ctx context.Context, c *cluster) []string {
	list, err := c.kube.AppsV1().DaemonSets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	var found []string
	for _, set := range list.Items {
		for _, known := range []string{"calico", "canal", "cilium", "flannel", "kindnet", "weave", "antrea", "aws-node", "azure-cni", "kube-router", "ovnkube", "netd", "multus"} {
			if strings.Contains(set.Name, known) && !slices.Contains(found, set.Name) {
				found = append(found, set.Name)
			}
		}
	}
	slices.Sort(found)
	return found
}

// resolve looks up the DNS names among the endpoints of p's peer. It does so from here, where names may be known that
// gateways do not know, and the other way round.
func resolve(ctx context.Context, p *v1alpha1.Peering) []nameView {
	remote := remoteOf(p)
	if remote == nil {
		return nil
	}
	var names []nameView
	for _, slot := range remote.Gateways {
		for _, endpoint := range slices.Concat(slot.Endpoints, slot.TLSEndpoints) {
			host, _, err := net.SplitHostPort(endpoint)
			if err != nil {
				continue
			}
			if _, err := netip.ParseAddr(host); err == nil || slices.ContainsFunc(names, func(n nameView) bool { return n.name == host }) {
				continue
			}
			names = append(names, nameView{host, lookUp(ctx, host)})
		}
	}
	return names
}

// lookUp is empty when name has an address.
func lookUp(ctx context.Context, name string) string {
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, name); err != nil {
		var dns *net.DNSError
		if errors.As(err, &dns) {
			return dns.Err
		}
		return err.Error()
	}
	return ""
}

// tryPods makes a pod here and one in the peer and lets each reach the other.
func (d *doctorRun) tryPods(ctx context.Context) *podTrips {
	home, peering := d.home, d.atHome
	if peering.Spec.Borrow == nil {
		if d.atRemote == nil || d.atRemote.Spec.Borrow == nil {
			return &podTrips{err: "this cluster borrows nothing from the peer, so no pod of it can run there; try it from the other cluster"}
		}
		home, peering = d.remote, d.atRemote // the consumer is the other one
	}
	b, err := newBed(ctx, home, peering, d.wish.image, d.steps)
	if err != nil {
		return &podTrips{err: err.Error()}
	}
	trips := b.bothWays(ctx)
	if err := b.clear(ctx); err != nil && trips.err == "" {
		trips.err = err.Error()
	}
	return trips
}

// bothWays lets a pod on each side reach one on the other.
func (b *bed) bothWays(ctx context.Context) *podTrips {
	if err := b.expose(ctx); err != nil {
		return &podTrips{err: err.Error()}
	}
	at := map[string]netip.Addr{}
	for _, name := range []string{nearServer, farServer} {
		if err := b.add(ctx, benchPod{name: name, args: []string{"serve"}, far: name == farServer}); err != nil {
			return &podTrips{err: err.Error()}
		}
	}
	for _, name := range []string{nearServer, farServer} {
		pod, err := b.running(ctx, name)
		if err == nil {
			at[name], err = addressOf(pod)
		}
		if err != nil {
			return &podTrips{err: err.Error()}
		}
	}
	trips := &podTrips{}
	few := []string{"--duration", "0s", "--count", "20", "--wait", "15s", "--timeout", "40s"}
	there, _, err := b.measure(ctx, benchPod{name: "near-client", args: few}, at[farServer])
	if err != nil {
		trips.there = err.Error()
	}
	trips.thereRTTMicro = there.TCP.MedianMicros
	if _, _, err := b.measure(ctx, benchPod{name: "far-client", args: few, far: true}, seenThere(b.peering, at[nearServer])); err != nil {
		trips.back = err.Error()
	}
	return trips
}
