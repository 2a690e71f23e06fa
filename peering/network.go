package peering

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	// surveyEvery is how often what hardly ever changes is read: the ranges of Services, the address of the API server,
	// and a sample of pods. surveyAgain is when that is tried again after an error.
	surveyEvery = time.Minute
	surveyAgain = 5 * time.Second
	// surveyPods is how many pods are looked at for addresses outside of the known ranges.
	surveyPods = 200
)

// NetworkConfig says what cannot be found about this cluster's network. The zero value finds everything.
type NetworkConfig struct {
	// Gateways is how many of the nodes labelled as gateways carry traffic at a time, at most v1alpha1.MaxSlots; the
	// others stand by. 0: all of them.
	Gateways int
	// PodRanges instead of those that the nodes' podCIDRs tell, ServiceRanges instead of those of the ServiceCIDRs.
	PodRanges, ServiceRanges []netip.Prefix
	// AliasPools for IPv4 instead of address.Pools().
	AliasPools []netip.Prefix
	// DNS for pods of tenants.
	DNS DNSConfig
}

// network watches what the tunnel needs to know of this cluster. It runs once a Peering has mode Tunnel.
type network struct {
	cfg    *Config
	caches *providerCaches // for the nodes
	wake   func()          // called when look may give something else; does not block

	start    sync.Once
	secrets  *live.Cache[*corev1.Secret]  // the one with the keys
	services *live.Cache[*corev1.Service] // of the system namespace
	leases   *live.Cache[*coordinationv1.Lease]
	seen     map[string][]address.Alias // by Peering: as what its peer is seen since the last pass; belongs to the worker
	keys     slotKeys                   // belongs to the worker

	mu     sync.Mutex
	survey *survey // guarded by mu; nil before the first
}

// survey is what is read from time to time. Plain values.
type survey struct {
	services []netip.Prefix
	api      []netip.Addr
	pods     []netip.Prefix // around the addresses of some pods with a network of their own
}

func newNetwork(cfg *Config, caches *providerCaches, wake func()) *network {
	n := &network{cfg: cfg, caches: caches, wake: wake, seen: map[string][]address.Alias{}}
	core, ns := cfg.Client.CoreV1(), v1alpha1.SystemNamespace
	n.secrets = live.New(live.Options[*corev1.Secret]{
		Name: "tunnel keys", ListWatch: live.ListWatch(cfg.Client, core.Secrets(ns), func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", v1alpha1.TunnelSecret).String()
		}),
		Changed: func(_, _ *corev1.Secret) { wake() },
	})
	n.services = live.New(live.Options[*corev1.Service]{
		Name: "gateway services", ListWatch: live.ListWatch(cfg.Client, core.Services(ns), nil),
		Changed: func(before, now *corev1.Service) {
			if _, ok := slotOf(firstSet(now, before).Name); ok {
				wake()
			}
		},
	})
	n.leases = live.New(live.Options[*coordinationv1.Lease]{
		Name: "gateway leases", ListWatch: live.ListWatch(cfg.Client, cfg.Client.CoordinationV1().Leases(ns), nil),
		Changed: func(before, now *coordinationv1.Lease) {
			if _, ok := slotOf(firstSet(now, before).Name); ok && holderOf(before) != holderOf(now) {
				wake()
			}
		},
	})
	return n
}

func firstSet[T comparable](a, b T) T {
	var none T
	if a != none {
		return a
	}
	return b
}

// slotOf reads the number of a slot from the name of its Lease or Service.
func slotOf(name string) (int, bool) {
	text, ok := strings.CutPrefix(name, v1alpha1.GatewayPrefix)
	slot, err := strconv.Atoi(text)
	return slot, ok && err == nil && slot >= 0 && slot < v1alpha1.MaxSlots && strconv.Itoa(slot) == text
}

func holderOf(l *coordinationv1.Lease) string {
	if l == nil || l.Spec.HolderIdentity == nil {
		return ""
	}
	return *l.Spec.HolderIdentity
}

// run watches until ctx ends.
func (n *network) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, run := range []func(context.Context){n.caches.runNodes, n.secrets.Run, n.services.Run, n.leases.Run, n.keepSurveying} {
		wg.Go(func() { run(ctx) })
	}
	wg.Wait()
}

func (n *network) synced() bool {
	n.mu.Lock()
	surveyed := n.survey != nil
	n.mu.Unlock()
	return surveyed && n.caches.nodes.HasSynced() && n.secrets.HasSynced() && n.services.HasSynced() && n.leases.HasSynced()
}

// look gathers what is known. Call it when synced, from the worker.
func (n *network) look() surroundings {
	n.mu.Lock()
	found := *n.survey
	n.mu.Unlock()
	s := surroundings{
		gateways: n.cfg.Network.Gateways, pods: n.cfg.Network.PodRanges, services: found.services, api: found.api,
		podNets: found.pods, service: map[int]*corev1.Service{}, holder: map[int]string{},
	}
	for _, node := range n.caches.nodes.List() {
		if _, virtual := node.Labels[v1alpha1.LabelPeer]; !virtual {
			s.nodes = append(s.nodes, node)
		}
	}
	slices.SortFunc(s.nodes, func(a, b *corev1.Node) int { return strings.Compare(a.Name, b.Name) })
	for _, svc := range n.services.List() {
		if slot, ok := slotOf(svc.Name); ok && svc.DeletionTimestamp == nil {
			s.service[slot] = svc
		}
	}
	for _, lease := range n.leases.List() {
		if slot, ok := slotOf(lease.Name); ok {
			s.holder[slot] = holderOf(lease)
		}
	}
	return s
}

// nodeChanged wakes when what the tunnel needs of a node changed.
func (n *network) nodeChanged(before, now *corev1.Node) {
	if before != nil && now != nil && ready(before) == ready(now) && isGateway(before) == isGateway(now) &&
		slices.Equal(before.Spec.PodCIDRs, now.Spec.PodCIDRs) && slices.Equal(before.Status.Addresses, now.Status.Addresses) {
		return
	}
	if _, virtual := firstSet(now, before).Labels[v1alpha1.LabelPeer]; !virtual {
		n.wake()
	}
}

func isGateway(node *corev1.Node) bool {
	_, ok := node.Labels[v1alpha1.LabelGateway]
	return ok
}

func ready(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// keepSurveying reads what is not watched until ctx ends.
func (n *network) keepSurveying(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-n.caches.nodes.Synced(): // they tell which pods are here
	}
	for ctx.Err() == nil {
		wait := surveyEvery
		if found, err := n.read(ctx); err != nil {
			wait = surveyAgain
			if ctx.Err() == nil {
				n.cfg.Log.Warn("network of this cluster not read", zap.Error(err))
			}
		} else if n.note(found) {
			n.wake()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (n *network) note(found *survey) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.survey
	n.survey = found
	return before == nil || !slices.Equal(before.services, found.services) || !slices.Equal(before.api, found.api) ||
		!slices.Equal(before.pods, found.pods)
}

func (n *network) read(ctx context.Context) (*survey, error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	found := &survey{services: n.cfg.Network.ServiceRanges}
	api, err := n.cfg.Client.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, err
	}
	if err == nil {
		found.api = addrs(api.Spec.ClusterIPs)
	}
	if found.services == nil {
		list, err := n.cfg.Client.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
		if err == nil {
			for _, r := range list.Items {
				found.services = append(found.services, prefixes(r.Spec.CIDRs)...)
			}
		} else {
			found.services = guessServices(found.api) // before Kubernetes 1.33
		}
		found.services = address.Merge(found.services)
	}
	pods, err := n.cfg.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{Limit: surveyPods})
	if err != nil {
		return nil, err
	}
	for _, pod := range pods.Items {
		node, known := n.caches.nodes.Get("", pod.Spec.NodeName)
		if known && node.Labels[v1alpha1.LabelPeer] == "" && !pod.Spec.HostNetwork {
			found.pods = append(found.pods, surround(podAddrs(&pod), nodeBits4, nodeBits6)...)
		}
	}
	found.pods = address.Merge(found.pods)
	return found, nil
}

// guessServices makes ranges of the usual size around the API server's service address.
func guessServices(api []netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range api {
		bits := 16
		if a.Is6() {
			bits = 108
		}
		out = append(out, address.Widen(single(a), bits))
	}
	return out
}

// slotKeys are the public keys of a Secret.
type slotKeys struct {
	version string // of the Secret
	public  []string
}

// ensureKeys returns the public keys of the slots, base64, from the Secret that holds their private ones; it makes the
// Secret, or what is missing in it. Nil while the Secret was only just made: the watch tells.
func (n *network) ensureKeys(ctx context.Context) ([]string, error) {
	secret, ok := n.secrets.Get(v1alpha1.SystemNamespace, v1alpha1.TunnelSecret)
	if ok && secret.ResourceVersion == n.keys.version && n.keys.public != nil {
		return n.keys.public, nil
	}
	var have map[string][]byte
	if ok {
		have = secret.Data
	}
	missing, public, err := completeKeys(have)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		return nil, n.writeKeys(ctx, ok, missing)
	}
	n.keys = slotKeys{secret.ResourceVersion, public}
	return public, nil
}
