package reflector

import (
	"context"
	"net/netip"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spillway-dev/spillway/internal/live"
	"github.com/spillway-dev/spillway/reflector/translate"
)

// space is one tenant namespace at the peer: what carries our origin label there. Its caches are made once and run
// until stop.
type space struct {
	pair          *Pair
	local, remote string // names of the namespace here and there
	twins         *live.Cache[*corev1.Pod]
	copies        map[kind]objectCopies // never changed
	ready         atomic.Bool           // all caches are complete
	stop          context.CancelFunc    // ends the caches
}

func newSpace(p *Pair, local, remote string) *space {
	s := &space{pair: p, local: local, remote: remote, stop: func() {}}
	client, core := p.cfg.Remote, p.cfg.Remote.CoreV1()
	s.twins = live.New(live.Options[*corev1.Pod]{
		Name: "twins in " + remote, ListWatch: live.ListWatch(client, core.Pods(remote), s.ours(nil)),
		Trim: translate.TrimTwin, Changed: s.twinChanged,
	})
	s.copies = make(map[kind]objectCopies, len(p.home.loops))
	for k, l := range p.home.loops {
		s.copies[k] = l.open(s)
	}
	return s
}

// ours narrows a watch to what carries our origin label, and mark.
func (s *space) ours(mark labels.Set) func(*metav1.ListOptions) {
	selector := labels.Merge(labels.Set{translate.LabelOrigin: s.pair.home.cfg.Origin}, mark).String()
	return func(o *metav1.ListOptions) { o.LabelSelector = selector }
}

func (s *space) env() translate.Env {
	env := translate.Env{
		Origin: s.pair.home.cfg.Origin, NodeName: s.pair.cfg.Node, NodeIPs: s.pair.cfg.NodeIPs, RemoteNamespace: s.remote,
	}
	env.HomeAPI, _ = s.pair.api.Load().(netip.AddrPort)
	env.IngressClass = s.pair.ingressClass()
	if dns := s.pair.dns.Load(); dns != nil {
		env.DNS = *dns
	}
	env.Virtual = func(node string) bool { return s.pair.home.pair(node) != nil }
	if own := s.pair.own.Load(); own != nil {
		env.MapOwn = func(here netip.Addr) netip.Addr {
			there, _ := own.Map(here)
			return there
		}
	}
	if seen := s.pair.seen.Load(); seen != nil {
		env.MapIP = func(remote netip.Addr) netip.Addr {
			here, _ := seen.Map(remote) // one that is not mapped is not valid, and not shown
			return here
		}
	}
	s.policyEnv(&env)
	return env
}

// words are those of the peer about an error, as home says them.
func (s *space) words(err error) string { return translate.AtHome(rootMessage(err), s.remote, s.local) }

func (s *space) twinChanged(before, now *corev1.Pod) {
	if before != nil && (now == nil || before.UID != now.UID) {
		s.pair.noteGone(s.local, before.Name, originUID(before))
	}
	queue, k := s.pair.home.queue, s.pair.podKey(s.local, firstSet(now, before).Name)
	s.pair.changes.noted(k, atPeer)
	if now != nil {
		s.pair.ways.sawTwin(now)
	}
	if now != nil && !settled(now) {
		queue.AddAfter(k, holdStatus)
		return
	}
	queue.Add(k)
	if now == nil {
		s.pair.noteWanted()
	}
}

// objectChanged looks again at a reflected object, and at the pods that wait for it.
func (s *space) objectChanged(k kind, o metav1.Object) {
	p := s.pair
	k = kindOfCopy(k, o.GetName())
	p.home.queue.Add(key{p.cfg.Node, k, s.local, o.GetName()})
	if k == kindToken {
		if pod := p.tokenUser(s.local, o.GetName()); pod != nil {
			p.home.queue.Add(p.podKey(pod.Namespace, pod.Name))
		}
		return
	}
	for _, pod := range p.users(k, s.local, o.GetName()) {
		if _, ok := s.twins.Get(s.remote, pod.Name); !ok {
			p.home.queue.Add(p.podKey(pod.Namespace, pod.Name))
		}
	}
}

// enqueueAll looks again at everything in the tenant namespace.
func (s *space) enqueueAll() {
	queue, node := s.pair.home.queue, s.pair.cfg.Node
	for _, twin := range s.twins.List() {
		queue.Add(s.pair.podKey(s.local, twin.Name))
	}
	for k, copies := range s.copies {
		for _, name := range copies.names() {
			queue.Add(key{node, kindOfCopy(k, name), s.local, name})
		}
		s.enqueueFollowers(k)
	}
	for _, pv := range s.pair.home.volumes.of(s.pair.cfg.Peer) {
		if claimOf(pv).Namespace == s.local {
			queue.Add(key{kind: kindVolume, name: pv.Name})
		}
	}
}

// kindOfCopy tells Secrets with tokens, which have no counterpart at home, from the twins of Secrets.
func kindOfCopy(k kind, name string) kind {
	if k == kindSecret && translate.IsTokenSecret(name) {
		return kindToken
	}
	return k
}

// enqueueFollowers looks again at the local objects of a kind that follow by themselves, and at the Secrets that they name.
func (s *space) enqueueFollowers(k kind) {
	queue, node, loop := s.pair.home.queue, s.pair.cfg.Node, s.pair.home.loops[k]
	for _, name := range loop.names(s.local) {
		queue.Add(key{node, k, s.local, name})
	}
	for _, name := range loop.named(s.local) {
		queue.Add(key{node, kindSecret, s.local, name})
	}
}
