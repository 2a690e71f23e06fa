package reflector

import (
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// echoWithin is how long a write may take to come back by a watch. Until then the caches still call for it.
const echoWithin = 2 * time.Second

// doneStep is the last step done for a pod, and what it followed from.
type doneStep struct {
	kind        stepKind
	patch       uint64 // hash
	local, twin string // UID and resourceVersion; empty for absent
	at          time.Time
}

func newDoneStep(todo step, local, twin *corev1.Pod, now time.Time) doneStep {
	hash := fnv.New64a()
	_, _ = hash.Write(todo.patch) // a hash never fails
	return doneStep{kind: todo.kind, patch: hash.Sum64(), local: version(local), twin: version(twin), at: now}
}

func version(pod *corev1.Pod) string {
	if pod == nil {
		return ""
	}
	return string(pod.UID) + "/" + pod.ResourceVersion
}

// justDone says whether this very step was done from these very objects a moment ago: an event came before the echo of
// our own write, and doing it twice costs the API server as much as doing it once.
func (p *Pair) justDone(k key, this doneStep) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	last, ok := p.done[k]
	recent := this.at.Sub(last.at) < echoWithin
	last.at = this.at
	return ok && recent && last == this
}

// noteDone keeps a step until the local pod is gone.
func (p *Pair) noteDone(k key, this doneStep) {
	p.mu.Lock()
	p.done[k] = this
	p.mu.Unlock()
	if _, ok := p.local.Get(k.namespace, k.name); !ok { // gone meanwhile, and forgotten
		p.mu.Lock()
		delete(p.done, k)
		p.mu.Unlock()
	}
}

// noteMade keeps that the twin of an object was made, until the cache shows it.
func (p *Pair) noteMade(k key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made[k] = time.Now()
}

// madeLately says whether the twin of an object, which the cache does not show, was made a moment ago.
func (p *Pair) madeLately(k key) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	at, ok := p.made[k]
	return ok && time.Since(at) < echoWithin
}

// forgetMade is called when there is nothing more to make.
func (p *Pair) forgetMade(k key) {
	p.mu.RLock()
	_, ok := p.made[k]
	p.mu.RUnlock()
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.made, k)
}
