package reflector

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
)

// sentTo is where a patch was sent: the key of the pod, and the subresource of its twin.
type sentTo struct {
	key
	subresource string
}

// sentPatch is the last patch sent there.
type sentPatch struct {
	patch string
	at    time.Time
}

// sentLately says whether the step is a patch that was sent to the twin within retryRefused. The provider then refuses it, or
// something there undoes it: sending it again at once would be a storm.
func (p *Pair) sentLately(k key, todo step, now time.Time) bool {
	if todo.kind != stepPatch {
		return false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	last, ok := p.sent[sentTo{k, todo.subresource}]
	return ok && last.patch == string(todo.patch) && now.Sub(last.at) < retryRefused
}

func (p *Pair) noteSent(k key, todo step, now time.Time) {
	if todo.kind != stepPatch {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent[sentTo{k, todo.subresource}] = sentPatch{string(todo.patch), now}
}

// refusedTwin is a twin that the provider did not take.
type refusedTwin struct {
	twin *corev1.Pod
	at   time.Time
}

// refusedLately is how long to wait before this very twin is tried again: what was just written about its refusal brings its key back.
// Zero: try it. A pod that was changed is another twin.
func (p *Pair) refusedLately(k key, twin *corev1.Pod, now time.Time) time.Duration {
	p.mu.RLock()
	last, ok := p.refused[k]
	p.mu.RUnlock()
	if left := last.at.Add(retryRefused).Sub(now); ok && left > 0 && apiequality.Semantic.DeepEqual(last.twin, twin) {
		return left
	}
	return 0
}

// forgetRefused is called after a step: a twin that was made is refused no longer.
func (p *Pair) forgetRefused(k key, todo step) {
	if todo.kind != stepCreate {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.refused, k)
}

func (p *Pair) noteRefused(k key, twin *corev1.Pod, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused[k] = refusedTwin{twin, now}
}
