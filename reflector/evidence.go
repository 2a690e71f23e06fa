package reflector

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/spillway-dev/spillway/reflector/translate"
)

// noteGone keeps the evidence that the twin of a local pod was seen deleted, for as long as that pod exists.
func (p *Pair) noteGone(namespace, name string, uid types.UID) {
	if local, ok := p.local.Get(namespace, name); !ok || local.UID != uid {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone[uid] = true
}

func (p *Pair) seenGone(uid types.UID) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.gone[uid]
}

// forget drops what was kept for a local pod that no longer exists.
func (p *Pair) forget(local *corev1.Pod) {
	p.home.events.forget(local.UID)
	p.ways.end(local.UID)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.gone, local.UID)
	for _, subresource := range translate.Subresources() {
		delete(p.sent, sentTo{p.podKey(local.Namespace, local.Name), subresource})
	}
	delete(p.refused, p.podKey(local.Namespace, local.Name))
	delete(p.done, p.podKey(local.Namespace, local.Name))
}

func (p *Pair) forgetGone(uid types.UID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.gone, uid)
}
