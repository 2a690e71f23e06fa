package reflector

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"

	"github.com/spillway-dev/spillway/internal/address"
	"github.com/spillway-dev/spillway/reflector/translate"
)

func label(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

// webPolicy lets in who the peers name. Without peers it lets in nobody.
func webPolicy(from ...networkingv1.NetworkPolicyPeer) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", UID: "np-1"}}
	p.Spec.PodSelector = *label("app", "web")
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(from) > 0 {
		p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: from}}
	}
	return p
}

// homePod runs on a real node of home.
func homePod(namespace, name, ip string, set map[string]string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "pod-1", Labels: set}, Spec: corev1.PodSpec{NodeName: "home-1"}}
	pod.Status.Phase, pod.Status.PodIPs = corev1.PodRunning, []corev1.PodIP{{IP: ip}}
	return pod
}

// nodesKnown makes home's server heed which node is asked for.
func nodesKnown(l *loop) {
	pods := corev1.SchemeGroupVersion.WithResource("pods")
	matches := func(o runtime.Object, asked fields.Selector) bool {
		pod := o.(*corev1.Pod)
		return asked.Matches(fields.Set{"spec.nodeName": pod.Spec.NodeName, "status.phase": string(pod.Status.Phase)})
	}
	l.home.PrependReactor("list", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
		all, err := l.home.Tracker().List(pods, corev1.SchemeGroupVersion.WithKind("Pod"), a.GetNamespace())
		if err != nil {
			return true, nil, err
		}
		list := &corev1.PodList{}
		for _, pod := range all.(*corev1.PodList).Items {
			if matches(&pod, a.(clienttesting.ListAction).GetListRestrictions().Fields) {
				list.Items = append(list.Items, pod)
			}
		}
		return true, list, nil
	})
	l.home.PrependWatchReactor("pods", func(a clienttesting.Action) (bool, watch.Interface, error) {
		all, err := l.home.Tracker().Watch(pods, a.GetNamespace())
		if err != nil {
			return true, nil, err
		}
		return true, watch.Filter(all, func(e watch.Event) (watch.Event, bool) {
			return e, matches(e.Object, a.(clienttesting.WatchAction).GetWatchRestrictions().Fields)
		}), nil
	})
}

// from is who the policy at the peer lets in: "NAMESPACES/LABELS" or a block, with spaces.
func (l *loop) from() string {
	l.Helper()
	p, err := l.peer.NetworkingV1().NetworkPolicies("shop-1f2e").Get(l.Context(), "web", metav1.GetOptions{})
	if err != nil {
		l.Fatal(err)
	}
	var out []string
	for _, rule := range p.Spec.Ingress {
		for _, peer := range rule.From {
			switch {
			case peer.IPBlock != nil:
				out = append(out, peer.IPBlock.CIDR)
			case peer.NamespaceSelector != nil:
				out = append(out, strings.Join(peer.NamespaceSelector.MatchExpressions[0].Values, ",")+"/"+metav1.FormatLabelSelector(peer.PodSelector))
			default:
				out = append(out, metav1.FormatLabelSelector(peer.PodSelector))
			}
		}
	}
	return strings.Join(out, " ")
}

// setPolicy changes a policy at home as its user does.
func (l *loop) setPolicy(p *networkingv1.NetworkPolicy) {
	l.Helper()
	p.ResourceVersion += "1"
	if err := l.home.Tracker().Update(networkingv1.SchemeGroupVersion.WithResource("networkpolicies"), p, p.Namespace); err != nil {
		l.Fatal(err)
	}
}

// podWatches is how often all pods of home were listed or watched.
func (l *loop) podWatches() int {
	n := 0
	for _, a := range l.home.Actions() {
		w, ok := a.(clienttesting.WatchAction)
		if ok && a.GetResource().Resource == "pods" && !strings.Contains(w.GetWatchRestrictions().Fields.String(), "spec.nodeName") {
			n++
		}
	}
	return n
}

// TestLoop_NetworkPolicies: those of an offloaded namespace follow, and go with those of home. Pods of home are not watched for
// policies that name none.
func TestLoop_NetworkPolicies(t *testing.T) {
	elsewhere := webPolicy(networkingv1.NetworkPolicyPeer{PodSelector: label("app", "db")})
	elsewhere.Namespace = "private"
	runLoop(t, objects(webPolicy(), elsewhere, homePod("shop", "db", "10.1.2.3", nil)), nil, nodesKnown, func(l *loop) {
		l.wrote("start", nil, []string{"create networkpolicies shop-1f2e/web"})
		if n := l.podWatches(); n != 0 {
			t.Errorf("all pods are watched, %d times", n)
		}
		l.setPolicy(webPolicy(networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "192.0.2.0/24"}}))
		l.settle()
		l.wrote("it changes", nil, []string{"update networkpolicies shop-1f2e/web"})
		l.pass(time.Hour)
		l.wrote("an hour later", nil, nil)
		if n := l.podWatches(); n != 0 {
			t.Errorf("all pods are watched, %d times", n)
		}
		if err := l.home.Tracker().Delete(networkingv1.SchemeGroupVersion.WithResource("networkpolicies"), "shop", "web"); err != nil {
			t.Fatal(err)
		}
		l.settle()
		l.wrote("it goes", nil, []string{"delete networkpolicies shop-1f2e/web"})
	})
}

// TestLoop_PodsThatPoliciesName: pods of home are named by their addresses as the peer sees them; what changes together is written
// once, and what changes nothing is not.
func TestLoop_PodsThatPoliciesName(t *testing.T) {
	db := map[string]string{"app": "db"}
	table, err := address.NewTable([]address.Alias{{Range: netip.MustParsePrefix("10.1.0.0/16"), As: netip.MustParsePrefix("100.71.0.0/16")}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, here := homePod("private", "db", "10.1.9.9", db), homePod("shop", "db", "10.1.2.3", db)
	local := homePod("shop", "far", "10.1.7.7", db) // runs at the peer
	local.Spec.NodeName = "far"
	prepare := func(l *loop) {
		nodesKnown(l)
		l.pair.SetOwnAddresses(table)
	}
	policy := webPolicy(networkingv1.NetworkPolicyPeer{PodSelector: label("app", "db")})
	runLoop(t, objects(policy, here, elsewhere, homePod("shop", "cache", "10.1.2.4", nil)), nil, prepare, func(l *loop) {
		l.wrote("start", nil, []string{"create networkpolicies shop-1f2e/web"})
		if diff := cmp.Diff("app=db 100.71.2.3/32", l.from()); diff != "" {
			t.Errorf("at the start (-want +got):\n%s", diff)
		}
		for i := range 20 {
			if err := l.home.Tracker().Add(homePod("shop", fmt.Sprintf("db-%d", i), fmt.Sprintf("10.1.3.%d", i), db)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.home.Tracker().Add(local); err != nil {
			t.Fatal(err)
		}
		l.pass(90 * time.Millisecond)
		if w := l.writes(l.peer); len(w) != 0 {
			t.Errorf("written at once: %v", w)
		}
		l.settle()
		l.writes(l.home) // of the pod on the virtual node
		l.wrote("twenty pods came", nil, []string{"update networkpolicies shop-1f2e/web"})
		if got := l.from(); len(strings.Fields(got)) != 22 || !strings.Contains(got, "100.71.3.19/32") || strings.Contains(got, "7.7") {
			t.Errorf("twenty pods came: %s", got)
		}
		busy := here.DeepCopy()
		busy.Status.Message = "busy"
		l.put(l.home, "pods", busy)
		l.pass(time.Hour)
		l.wrote("a status changes", nil, nil)
		busy.Labels = nil
		l.put(l.home, "pods", busy)
		l.settle()
		l.wrote("it is no longer named", nil, []string{"update networkpolicies shop-1f2e/web"})
		if got := l.from(); strings.Contains(got, "100.71.2.3/32") {
			t.Errorf("it is still named: %s", got)
		}
	})
}

// TestLoop_NamespacesThatPoliciesName: they are resolved at home, also when their labels change or they get a tenant namespace.
func TestLoop_NamespacesThatPoliciesName(t *testing.T) {
	tools := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "tools"}}
	policy := webPolicy(networkingv1.NetworkPolicyPeer{NamespaceSelector: label("team", "blue")})
	runLoop(t, objects(policy, tools, homePod("tools", "probe", "10.1.2.3", nil)), nil, nodesKnown, func(l *loop) {
		l.wrote("start", nil, []string{"create networkpolicies shop-1f2e/web"})
		if got := l.from(); got != "" {
			t.Errorf("nobody is named, but %s", got)
		}
		blue := tools.DeepCopy()
		blue.Labels = map[string]string{"team": "blue"}
		l.put(l.home, "namespaces", blue)
		l.settle()
		l.wrote("a namespace is named", nil, []string{"update networkpolicies shop-1f2e/web"})
		if diff := cmp.Diff("10.1.2.3/32", l.from()); diff != "" {
			t.Errorf("a namespace is named (-want +got):\n%s", diff)
		}
		l.pair.SetNamespaces(map[string]string{"shop": "shop-1f2e", "tools": "tools-1f2e"})
		l.settle()
		l.wrote("it is at the peer too", nil, []string{"update networkpolicies shop-1f2e/web"})
		if diff := cmp.Diff("tools-1f2e/<none> 10.1.2.3/32", l.from()); diff != "" {
			t.Errorf("it is at the peer too (-want +got):\n%s", diff)
		}
	})
}

// TestLoop_PolicyRestartWritesNothing: a new process waits for the pods that policies name.
func TestLoop_PolicyRestartWritesNothing(t *testing.T) {
	policy := webPolicy(networkingv1.NetworkPolicyPeer{PodSelector: label("app", "db")})
	pod := homePod("shop", "db", "10.1.2.3", map[string]string{"app": "db"})
	made := translate.NetworkPolicy(policy, translate.Env{
		Origin: "consumer-1", RemoteNamespace: "shop-1f2e",
	})
	made.UID = "made-1"
	made.Spec.Ingress[0].From = append(made.Spec.Ingress[0].From, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.1.2.3/32"}})
	runLoop(t, objects(policy, pod), objects(made), nodesKnown, func(l *loop) {
		l.pass(time.Hour)
		l.wrote("an hour after the start", nil, nil)
	})
}

// TestLoop_IsolatedTwins: twins say whether policies of home select them.
func TestLoop_IsolatedTwins(t *testing.T) {
	web := map[string]string{"app": "web"}
	local := localPod(func(pod *corev1.Pod) { pod.Labels = web })
	runLoop(t, objects(local, webPolicy()), nil, nil, func(l *loop) {
		l.writes(l.peer)
		if got := l.twin().Labels[translate.LabelIsolated]; got != translate.IsolatedIngress {
			t.Errorf("a twin that a policy selects has %s=%q", translate.LabelIsolated, got)
		}
		other := webPolicy()
		other.Spec.PodSelector = *label("app", "db")
		l.setPolicy(other)
		l.pass(time.Minute)
		if w := strings.Join(l.writes(l.peer), ", "); !strings.Contains(w, "patch pods shop-1f2e/web") {
			t.Errorf("the policy selects others: %s", w)
		}
		if got, ok := l.twin().Labels[translate.LabelIsolated]; ok {
			t.Errorf("the policy selects others, and the twin has %s=%q", translate.LabelIsolated, got)
		}
		l.setPolicy(webPolicy())
		l.pass(time.Minute)
		if got := l.twin().Labels[translate.LabelIsolated]; got != translate.IsolatedIngress {
			t.Errorf("the policy selects it again, and the twin has %s=%q", translate.LabelIsolated, got)
		}
		l.writes(l.peer)
		l.pass(time.Hour)
		l.wrote("an hour later", nil, nil)
	})
}

// TestLoop_AllPods: a policy that names all pods is not written again with each of them, once it is known where they are.
func TestLoop_AllPods(t *testing.T) {
	policy := webPolicy(networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}})
	runLoop(t, objects(policy, homePod("shop", "db", "10.1.2.3", nil)), nil, nodesKnown, func(l *loop) {
		l.wrote("start", nil, []string{"create networkpolicies shop-1f2e/web"})
		l.pair.SetOwnPods([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")})
		l.settle()
		l.wrote("the range is known", nil, []string{"update networkpolicies shop-1f2e/web"})
		if diff := cmp.Diff("shop-1f2e/<none> 10.1.0.0/16", l.from()); diff != "" {
			t.Errorf("the range is known (-want +got):\n%s", diff)
		}
		if err := l.home.Tracker().Add(homePod("shop", "cache", "10.1.2.4", nil)); err != nil {
			t.Fatal(err)
		}
		l.pair.SetOwnPods([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")})
		l.pass(time.Hour)
		l.wrote("another pod", nil, nil)
	})
}
