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
	configMaps    *live.Cache[*corev1.ConfigMap]
	secrets       *live.Cache[*corev1.Secret]
	ready         atomic.Bool        // all three caches are complete
	stop          context.CancelFunc // ends the caches
}

func newSpace(p *Pair, local, remote string) *space {
	s := &space{pair: p, local: local, remote: remote, stop: func() {}}
	client, core := p.cfg.Remote, p.cfg.Remote.CoreV1()
	ours := func(o *metav1.ListOptions) {
		o.LabelSelector = labels.Set{translate.LabelOrigin: p.home.cfg.Origin}.String()
	}
	s.twins = live.New(live.Options[*corev1.Pod]{
		Name: "twins in " + remote, ListWatch: live.ListWatch(client, core.Pods(remote), ours),
		Trim: translate.TrimTwin, Changed: s.twinChanged,
	})
	s.configMaps = live.New(live.Options[*corev1.ConfigMap]{
		Name: "configmaps in " + remote, ListWatch: live.ListWatch(client, core.ConfigMaps(remote), ours),
		Trim:    func(o *corev1.ConfigMap) { translate.TrimMeta(&o.ObjectMeta) },
		Changed: func(before, now *corev1.ConfigMap) { s.objectChanged(kindConfigMap, firstSet(now, before)) },
	})
	s.secrets = live.New(live.Options[*corev1.Secret]{
		Name: "secrets in " + remote, ListWatch: live.ListWatch(client, core.Secrets(remote), ours),
		Trim:    func(o *corev1.Secret) { translate.TrimMeta(&o.ObjectMeta) },
		Changed: func(before, now *corev1.Secret) { s.objectChanged(kindSecret, firstSet(now, before)) },
	})
	return s
}

func (s *space) env() translate.Env {
	env := translate.Env{Origin: s.pair.home.cfg.Origin, NodeName: s.pair.cfg.Node, RemoteNamespace: s.remote}
	if seen := s.pair.seen.Load(); seen != nil {
		env.MapIP = func(remote netip.Addr) netip.Addr {
			here, _ := seen.Map(remote) // one that is not mapped is not valid, and not shown
			return here
		}
	}
	return env
}

func (s *space) twinChanged(before, now *corev1.Pod) {
	if before != nil && (now == nil || before.UID != now.UID) {
		s.pair.noteGone(s.local, before.Name, originUID(before))
	}
	queue, k := s.pair.home.queue, s.pair.podKey(s.local, firstSet(now, before).Name)
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
	p.home.queue.Add(key{p.cfg.Node, k, s.local, o.GetName()})
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
	for _, o := range s.configMaps.List() {
		queue.Add(key{node, kindConfigMap, s.local, o.Name})
	}
	for _, o := range s.secrets.List() {
		queue.Add(key{node, kindSecret, s.local, o.Name})
	}
}
