package peering

import (
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	podresource "k8s.io/component-helpers/resource"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// amounts are quantities in thousandths, by resource. Nil is zero.
type amounts map[corev1.ResourceName]int64

func (a amounts) add(b amounts, factor int64) {
	for name, n := range b {
		a[name] += factor * n
	}
}

func amountsOf(list corev1.ResourceList) amounts {
	out := make(amounts, len(list))
	for name, q := range list {
		out[name] = q.MilliValue()
	}
	return out
}

// list returns the amounts as quantities in the form people write them: cpu in millicores, the rest in whole units.
func (a amounts) list() corev1.ResourceList {
	out := make(corev1.ResourceList, len(a))
	for name, n := range a {
		switch name {
		case corev1.ResourceCPU:
			out[name] = *resource.NewMilliQuantity(n, resource.DecimalSI)
		case corev1.ResourceMemory, corev1.ResourceEphemeralStorage:
			out[name] = *resource.NewQuantity(n/1000, resource.BinarySI)
		default:
			out[name] = *resource.NewQuantity(n/1000, resource.DecimalSI)
		}
	}
	return out
}

// ledger knows what every node of this cluster has and what the pods on it request, kept up by difference: a change
// costs the same in a large cluster as in a small one. Safe for concurrent use.
type ledger struct {
	mu      sync.Mutex
	changed bool                          // guarded by mu; since the last takeChanged
	nodes   map[string]ledgerNode         // guarded by mu
	pods    map[types.UID]ledgerPod       // guarded by mu
	byNode  map[string]map[string]amounts // guarded by mu; requests by node ("" is not bound yet), then namespace
}

type ledgerNode struct {
	allocatable amounts
	labels      map[string]string
	schedulable bool
}

type ledgerPod struct {
	node, namespace string
	requests        amounts
}

func newLedger() *ledger {
	return &ledger{
		nodes: map[string]ledgerNode{}, pods: map[types.UID]ledgerPod{}, byNode: map[string]map[string]amounts{},
	}
}

// setNode takes a node as it is now; nil means that the one named is gone.
func (l *ledger) setNode(name string, node *corev1.Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, had := l.nodes[name]
	if node == nil {
		delete(l.nodes, name)
		l.changed = l.changed || had
		return
	}
	now := ledgerNode{
		allocatable: amountsOf(node.Status.Allocatable), labels: node.Labels, schedulable: schedulable(node),
	}
	same := had && before.schedulable == now.schedulable &&
		maps.Equal(before.allocatable, now.allocatable) && maps.Equal(before.labels, now.labels)
	l.nodes[name] = now
	l.changed = l.changed || !same
}

// schedulable says whether a tenant's pods can land on the node: it is ready, not cordoned, no virtual node (what is
// borrowed is not lent on), and has no taint that an ordinary pod does not tolerate.
func schedulable(node *corev1.Node) bool {
	if node.Spec.Unschedulable || node.Labels[v1alpha1.LabelPeer] != "" {
		return false
	}
	for _, t := range node.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule {
			return false
		}
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// setPod takes a pod as it is now. A pod that has ended requests nothing.
func (l *ledger) setPod(uid types.UID, pod *corev1.Pod) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, had := l.pods[uid]
	if pod == nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		if had {
			l.book(before, -1)
			delete(l.pods, uid)
		}
		return
	}
	now := ledgerPod{node: pod.Spec.NodeName, namespace: pod.Namespace, requests: requestsOf(pod)}
	if had && before.node == now.node && maps.Equal(before.requests, now.requests) {
		return
	}
	if had {
		l.book(before, -1)
	}
	l.book(now, 1)
	l.pods[uid] = now
}

// requestsOf is what the scheduler counts for a pod, and the pod itself.
func requestsOf(pod *corev1.Pod) amounts {
	out := amountsOf(podresource.PodRequests(pod, podresource.PodResourcesOptions{}))
	out[corev1.ResourcePods] = 1000
	return out
}

// book adds or takes away what a pod requests. mu is held.
func (l *ledger) book(pod ledgerPod, factor int64) {
	l.changed = true
	spaces := l.byNode[pod.node]
	if spaces == nil {
		spaces = map[string]amounts{}
		l.byNode[pod.node] = spaces
	}
	if spaces[pod.namespace] == nil {
		spaces[pod.namespace] = amounts{}
	}
	spaces[pod.namespace].add(pod.requests, factor)
	if spaces[pod.namespace][corev1.ResourcePods] == 0 {
		delete(spaces, pod.namespace)
	}
	if len(spaces) == 0 {
		delete(l.byNode, pod.node)
	}
}

// takeChanged says whether anything changed since it was last called.
func (l *ledger) takeChanged() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.changed
	l.changed = false
	return changed
}

// offer is what a tenant may use in this cluster.
type offer struct {
	total  amounts            // all the tenant may request, what it uses already included
	used   map[string]amounts // what it requests now, by its namespaces
	labels map[string]string  // that all offered nodes share, of those worth telling
}

// offer computes what the tenant that owns these namespaces may use.
//
// It is share.percent of what the selected schedulable nodes can allocate beyond the requests of others, at least what
// the tenant uses now, at most share.resources. What the tenant itself uses does not shrink it: taking the share of
// what is free at the moment plus what is used, as one might, would let a tenant with a share of half creep up to
// everything, since each pod it starts would enlarge its share.
func (l *ledger) offer(share *v1alpha1.Share, namespaces map[string]bool) offer {
	l.mu.Lock()
	defer l.mu.Unlock()
	free, used := amounts{}, map[string]amounts{}
	var shared map[string]string
	selector := labels.SelectorFromSet(share.NodeSelector)
	for name, node := range l.nodes {
		if !node.schedulable || !selector.Matches(labels.Set(node.labels)) {
			continue
		}
		free.add(freeOn(node, l.byNode[name], namespaces), 1)
		shared = commonLabels(shared, node.labels)
	}
	for _, spaces := range l.byNode {
		for namespace, requests := range spaces {
			if namespaces[namespace] {
				if used[namespace] == nil {
					used[namespace] = amounts{}
				}
				used[namespace].add(requests, 1)
			}
		}
	}
	return offer{total: bound(free, used, share), used: used, labels: shared}
}

// freeOn is what a node can allocate beyond the requests of everybody but the tenant; never negative.
func freeOn(node ledgerNode, spaces map[string]amounts, tenant map[string]bool) amounts {
	free := maps.Clone(node.allocatable)
	for namespace, requests := range spaces {
		if !tenant[namespace] {
			free.add(requests, -1)
		}
	}
	for name, n := range free {
		if _, offered := node.allocatable[name]; !offered {
			delete(free, name)
		} else {
			free[name] = max(n, 0)
		}
	}
	return free
}

// bound applies the share to what is free, in whole units of each resource (millicores for cpu).
func bound(free amounts, used map[string]amounts, share *v1alpha1.Share) amounts {
	total, usedInAll := amounts{}, amounts{}
	for _, u := range used {
		usedInAll.add(u, 1)
	}
	percent := int64(share.Percent)
	if percent == 0 {
		percent = 100
	}
	if len(free) == 0 { // no node at all: a quota that names no resource would bound none
		free = amounts{corev1.ResourceCPU: 0, corev1.ResourceMemory: 0, corev1.ResourcePods: 0}
	}
	for name, n := range free {
		n = n / 100 * percent
		if q, limited := share.Resources[name]; limited {
			n = min(n, q.MilliValue())
		}
		if name != corev1.ResourceCPU {
			n -= n % 1000
		}
		total[name] = max(n, usedInAll[name])
	}
	return total
}

// commonLabels keeps of the labels worth telling those that both have with one value. The first is nil at the start.
func commonLabels(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, name := range []string{
		corev1.LabelArchStable, corev1.LabelOSStable, corev1.LabelTopologyRegion, corev1.LabelTopologyZone,
	} {
		if v := b[name]; v != "" && (a == nil || a[name] == v) {
			out[name] = v
		}
	}
	return out
}

// quotas divides what a tenant may use among its namespaces: each may take what the others leave. A ResourceQuota
// speaks of one namespace only, so this is kept up as pods come and go.
func quotas(o offer, namespaces map[string]bool) map[string]amounts {
	out := make(map[string]amounts, len(namespaces))
	for namespace := range namespaces {
		hard := maps.Clone(o.total)
		for other, used := range o.used {
			if other != namespace {
				hard.add(used, -1)
			}
		}
		for name, n := range hard {
			if _, offered := o.total[name]; !offered {
				delete(hard, name)
			} else {
				hard[name] = max(n, 0)
			}
		}
		out[namespace] = hard
	}
	return out
}
